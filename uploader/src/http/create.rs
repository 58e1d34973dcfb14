//! `POST` and `PUT /v1/uploads`: a tus create, with or without bytes, or the whole file as a plain
//! body. A file of at most one part in one request needs no state object.

use std::sync::Arc;

use axum::Json;
use axum::body::BodyDataStream;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kinora_storage::{UploadId, keys};
use kinora_upload_engine::create::Created;
use kinora_upload_engine::{Phase, Principal, State, crc, grid};
use serde_json::json;

use super::admit::admit;
use super::answers::{Stored, crashed, finish_fresh, not_whole};
use super::problem::{Kind, Problem};
use super::{keyed, set, tus};
use crate::app::App;
use crate::auth::Action;
use crate::budget::Held;
use crate::drive::begin::{self, Gathered, NotGathered};
use crate::drive::body::{self, Incoming, Written};
use crate::drive::{Driver, Ram, blank_state};
use crate::profiles::{Accept, DEFAULT, Profile};

/// Ids that are tried for one create.
const CREATES: usize = 3;

/// A create that may go on.
struct Asked {
    principal: Principal,
    profile_name: String,
    any: bool,
    max: u64,
    length: Option<u64>,
    metadata: tus::UploadMetadata,
    tus: bool,
    has_body: bool,
    content_length: Option<u64>,
    content_type: Option<String>,
}

pub(super) async fn create(app: &Arc<App>, request: Request) -> Result<Response, Problem> {
    let asked = check(app, request.headers()).await?;
    let driver = keyed::driver(app, request.extensions());
    let stream = request.into_body().into_data_stream();
    let owned = driver.clone();
    let work = async move {
        if asked.tus && (!asked.has_body || asked.length == Some(0)) {
            return without_body(&owned, &asked).await;
        }
        with_body(&owned, &asked, stream).await
    };
    app.to_the_end(work)
        .await
        .map_err(|error| crashed(&error))?
}

async fn check(app: &App, headers: &HeaderMap) -> Result<Asked, Problem> {
    let speaks_tus = tus::is_tus(headers)?;
    let principal = admit(app, headers, Action::Create, None).await?;
    app.ready.check(&app.store).map_err(Problem::try_again)?;
    if app.admission.refuses_uploads() {
        return Err(Problem::new(
            Kind::Overloaded,
            "Videos have been waiting for hours. Keep the file and try again later.",
        )
        .retry_after(300));
    }
    let metadata = tus::metadata(headers)?;
    let profile_name = profile_name(headers, &metadata)?;
    let profile = app.profiles.get(&profile_name).ok_or_else(|| {
        Problem::bad_request(
            "Kinora-Profile",
            format!(
                "There is no profile of this name; there are: {}.",
                app.profiles.names()
            ),
        )
    })?;
    let content_length = tus::bytes(headers, &header::CONTENT_LENGTH, "Content-Length")?;
    let content_type = tus::media_type(headers);
    let mut asked = Asked {
        principal,
        any: profile.accept == Accept::Any,
        max: profile.max_bytes,
        profile_name,
        length: content_length,
        metadata,
        tus: speaks_tus,
        has_body: content_length.is_some_and(|n| n > 0)
            || headers.contains_key(header::TRANSFER_ENCODING),
        content_length,
        content_type,
    };
    if speaks_tus {
        check_tus(&mut asked, headers)?;
    }
    check_length(&asked, profile)?;
    Ok(asked)
}

fn profile_name(headers: &HeaderMap, metadata: &tus::UploadMetadata) -> Result<String, Problem> {
    let bad = || {
        Problem::bad_request(
            "Kinora-Profile",
            "Kinora-Profile must be the name of a profile.",
        )
    };
    let header = headers
        .get(&tus::KINORA_PROFILE)
        .map(|value| value.to_str().map_err(|_| bad()))
        .transpose()?;
    let named = header.or_else(|| metadata.pairs.get("profile").map(String::as_str));
    Ok(named.unwrap_or(DEFAULT).to_owned())
}

fn check_tus(asked: &mut Asked, headers: &HeaderMap) -> Result<(), Problem> {
    asked.length = tus::bytes(headers, &tus::UPLOAD_LENGTH, "Upload-Length")?;
    if headers.contains_key(&tus::UPLOAD_DEFER_LENGTH) {
        let detail = "This server does not offer creation-defer-length: send Upload-Length.";
        return Err(Problem::bad_request("Upload-Defer-Length", detail));
    }
    let Some(length) = asked.length else {
        return Err(Problem::bad_request(
            "Upload-Length",
            "A tus create needs Upload-Length, the size of the file in bytes.",
        ));
    };
    if asked.has_body {
        tus::require_offset_stream(headers)?;
        if asked.content_length.is_some_and(|n| n > length) {
            return Err(Problem::too_large("The body is longer than Upload-Length.")
                .field("Content-Length"));
        }
    }
    Ok(())
}

fn check_length(asked: &Asked, profile: &Profile) -> Result<(), Problem> {
    match asked.length {
        Some(length) if length > profile.max_bytes => Err(too_large(asked, profile.max_bytes)),
        // Over tus an empty file is an upload that is rejected at its end; plainly it is a mistake.
        Some(0) if !asked.tus => Err(no_body()),
        None if !asked.has_body => Err(no_body()),
        _ => Ok(()),
    }
}

fn too_large(asked: &Asked, max: u64) -> Problem {
    let field = if asked.tus {
        "Upload-Length"
    } else {
        "Content-Length"
    };
    Problem::too_large(format!("This profile takes files of at most {max} bytes.")).field(field)
}

fn no_body() -> Problem {
    let detail =
        "Send the file as the body, or start a tus upload with Tus-Resumable and Upload-Length.";
    Problem::bad_request("Content-Length", detail)
}

fn new_state(id: &UploadId, asked: &Asked) -> State {
    let size = grid::part_size(asked.length, asked.max);
    let mut state = blank_state(
        id,
        &asked.principal.tenant,
        &asked.profile_name,
        asked.length,
        size,
    );
    state.owner = asked.principal.owner.clone();
    state.metadata = asked.metadata.pairs.clone();
    if let Some(kind) = asked.content_type.clone().filter(|_| !asked.tus) {
        state
            .metadata
            .insert("filetype".into(), kind.chars().take(128).collect());
    }
    state.upload_metadata = asked.metadata.raw.clone();
    state.sniffed = asked.any;
    state
}

/// A tus create without bytes; one of length 0 is at its end already.
async fn without_body(driver: &Driver, asked: &Asked) -> Result<Response, Problem> {
    let state = new_state(&driver.id, asked);
    if asked.length == Some(0) {
        finish_fresh(driver, &state, Default::default(), Ram::default()).await?;
        return Ok(created(driver, asked, None, Some(0)));
    }
    let (driver, ..) = store_new(driver, state).await?;
    Ok(created(&driver, asked, None, None))
}

/// Stores a new state object. After an unclear answer another id is taken: the first state may
/// still come to be, and expires like any that nobody goes on with.
async fn store_new(
    driver: &Driver,
    mut state: State,
) -> Result<(Driver, Box<State>, String), Problem> {
    let mut driver = driver.clone();
    let tries = if driver.promised { 1 } else { CREATES };
    for _ in 1..tries {
        match driver.create(state.clone()).await {
            Created::There(doc, etag) => return Ok((driver, doc, etag)),
            Created::Fault(why) => tracing::warn!(upload = %driver.id, why, "another id is taken"),
        }
        let id = driver.app.mint();
        (state.id, state.key, state.created_ms) = (id.to_string(), keys::video(&id), id.unix_ms());
        state.nonce = crate::drive::nonce();
        driver = Driver::new(&driver.app, &id);
    }
    match driver.create(state).await {
        Created::There(doc, etag) => Ok((driver, doc, etag)),
        Created::Fault(why) => Err(Problem::try_again(&why)),
    }
}

/// A create that brings bytes: from memory alone when they are the whole file and fit one part.
async fn with_body(
    driver: &Driver,
    asked: &Asked,
    mut stream: BodyDataStream,
) -> Result<Response, Problem> {
    let mut state = new_state(&driver.id, asked);
    let memory = state.part_size;
    let in_memory = asked.length.is_none_or(|length| length <= memory);
    let start = if in_memory {
        memory
    } else {
        kinora_upload_engine::sniff::LOOK as u64
    };
    let got = begin::begin(driver, &mut stream, start, asked.any)
        .await
        .map_err(|why| not_gathered(&why))?;
    let Gathered { bytes, held, ended } = got;
    let bytes = bytes.freeze();
    let size = bytes.len() as u64;
    if asked.length.is_some_and(|length| size > length) {
        return Err(
            Problem::too_large("The body is longer than Upload-Length.").field("Content-Length")
        );
    }
    if ended && size == 0 && !asked.tus {
        return Err(no_body());
    }
    if size > asked.max {
        return Err(too_large(asked, asked.max));
    }
    let whole = ended && size <= memory && asked.length.is_none_or(|length| length == size);
    if whole {
        state.length = Some(size);
        return direct(driver, asked, state, bytes, held).await;
    }
    let incoming = Incoming {
        stream,
        first: bytes,
        held,
        ended,
        carries_all: !asked.tus,
        max: asked.max,
    };
    resumable(driver, asked, state, incoming).await
}

fn not_gathered(why: &NotGathered) -> Problem {
    match why {
        NotGathered::NotVideo(why) => Problem::not_video(why),
        NotGathered::NoMemory => Problem::try_again("no memory for a body within 5 s"),
        NotGathered::Closing => Problem::try_again("shutting down"),
        NotGathered::ClientGone => Problem::new(
            Kind::TooSlow,
            "Less than 16 KiB/s came over 30 s. Nothing was stored; send it again.",
        ),
    }
}

async fn direct(
    driver: &Driver,
    asked: &Asked,
    mut state: State,
    bytes: Bytes,
    held: Held,
) -> Result<Response, Problem> {
    state.offset = bytes.len() as u64;
    state.crc = Some(crc::of(&bytes));
    let offset = state.offset;
    let ram = Ram {
        from: 0,
        bytes,
        held,
    };
    let stored = finish_fresh(driver, &state, Default::default(), ram).await?;
    Ok(created(driver, asked, Some(stored), Some(offset)))
}

/// Through a state object, which is made open by its first write.
async fn resumable(
    driver: &Driver,
    asked: &Asked,
    mut state: State,
    incoming: Incoming,
) -> Result<Response, Problem> {
    state.epoch = 1;
    state.phase = Phase::Open;
    let (driver, doc, etag) = store_new(driver, state).await?;
    let driver = &driver;
    match body::write(driver, *doc, etag, incoming).await {
        Written::Whole { doc, known, ram } => {
            let stored = finish_fresh(driver, &doc, known, ram).await?;
            Ok(created(driver, asked, Some(stored), Some(doc.offset)))
        }
        Written::Closed(doc) if asked.tus => Ok(created(driver, asked, None, Some(doc.offset))),
        other => {
            // Whoever sent a plain body has no URL to go on with.
            let answer = not_whole(&driver.app, other);
            if !asked.tus {
                driver.kill().await;
            }
            answer.and(Err(Problem::try_again("a plain body ended early")))
        }
    }
}

fn created(
    driver: &Driver,
    asked: &Asked,
    stored: Option<Stored>,
    offset: Option<u64>,
) -> Response {
    let (app, id) = (&driver.app, &driver.id);
    let status = format!("/v1/videos/{id}");
    let path = if asked.tus {
        format!("/v1/uploads/{id}")
    } else {
        status.clone()
    };
    let mut answer = match (asked.tus, stored) {
        (false, Some(stored)) => {
            let state = if stored == Stored::Queued {
                "queued"
            } else {
                "stored"
            };
            let body =
                json!({"id": id.to_string(), "state": state, "status": app.location(&status)});
            (StatusCode::CREATED, Json(body)).into_response()
        }
        _ => StatusCode::CREATED.into_response(),
    };
    if let Ok(location) = HeaderValue::from_str(&app.location(&path)) {
        set(&mut answer, header::LOCATION, location);
    }
    if let Some(offset) = offset.filter(|_| asked.tus) {
        set(&mut answer, tus::UPLOAD_OFFSET, offset);
    }
    answer
}
