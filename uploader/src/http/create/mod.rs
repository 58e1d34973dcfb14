//! `POST` and `PUT /v1/uploads`: a create over tus or the IETF draft, with or without bytes, or the
//! whole file as a plain body. A file of at most one part in one request needs no state object,
//! unless an informational answer gives out its URL.

mod asked;

use std::sync::Arc;

use axum::body::BodyDataStream;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use kinora_storage::keys;
use kinora_upload_engine::create::Created;
use kinora_upload_engine::{Phase, State, crc};

use super::answers::{
    Stored, crashed, damaged, finish_direct, finish_fresh, not_whole, stored_answer,
};
use super::problem::{Kind, Problem};
use super::protocol::{Protocol, body_size};
use super::videos::find::{erased, settled};
use super::{keyed, set, standing, tus};
use crate::app::App;
use crate::budget::Held;
use crate::drive::begin::{self, Gathered, NotGathered};
use crate::drive::body::{self, Incoming, Written};
use crate::drive::{Driver, Pieces, Ram};
use crate::wire::Interim;
pub(super) use asked::most;
use asked::{Asked, no_body};

/// Ids that are tried for one create.
const CREATES: usize = 3;

pub(super) async fn create(app: &Arc<App>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let size = body_size(&parts.headers, &body)?;
    let asked = Box::pin(Asked::of(app, &parts, size)).await?;
    let driver = keyed::driver(app, &parts.extensions);
    drop(parts);
    let stream = body.into_data_stream();
    app.to_the_end(begin(driver, asked, stream))
        .await
        .map_err(|error| crashed(&error))?
}

/// What waits for the client here has room for that alone: everything else is in boxes, for as long as it takes.
async fn begin(driver: Driver, asked: Asked, stream: BodyDataStream) -> Result<Response, Problem> {
    let without_body = !asked.has_body() || asked.length == Some(0);
    if asked.protocol != Protocol::Plain && without_body {
        return Box::pin(empty(&driver, asked)).await;
    }
    if let Some(interim) = asked.interim.clone() {
        return Box::pin(announced(&driver, asked, stream, &interim)).await;
    }
    with_body(&driver, asked, stream).await
}

/// A create without bytes; one of length 0 is at its end already.
async fn empty(driver: &Driver, mut asked: Asked) -> Result<Response, Problem> {
    if asked.check.as_ref().is_some_and(|check| !check.holds()) {
        return Err(damaged());
    }
    let state = asked.state(driver);
    if asked.length == Some(0) && state.is_full() {
        let stored = finish_fresh(driver, &state, Default::default(), Ram::default()).await?;
        return Ok(created(driver, &mut asked, Some(stored), Some(0)));
    }
    let (driver, ..) = store_new(driver, state).await?;
    let offset = asked.protocol.draft().map(|_| 0);
    Ok(created(&driver, &mut asked, None, offset))
}

/// Stores a new state object. After an unclear answer another id is taken: the first state may
/// still come to be, and expires like any that nobody goes on with.
async fn store_new(
    driver: &Driver,
    mut state: State,
) -> Result<(Driver, Box<State>, String), Problem> {
    let mut driver = driver.clone();
    let tries = if driver.promised.is_some() {
        1
    } else {
        CREATES
    };
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
        Created::There(doc, etag) => match done_before(&driver).await? {
            false => Ok((driver, doc, etag)),
            true => Err(Problem::try_again("another try of the create was done")),
        },
        Created::Fault(why) => Err(Problem::try_again(&why)),
    }
}

/// Whether another try of a keyed create has made the video and its state object was gone when this one made it anew:
/// then it ends at once.
async fn done_before(driver: &Driver) -> Result<bool, Problem> {
    if !driver.is_late() || settled(driver).await?.is_none() {
        return Ok(false);
    }
    driver.kill().await;
    Ok(true)
}

/// A create that brings bytes: from memory alone when they are the whole file and fit one part.
async fn with_body(
    driver: &Driver,
    mut asked: Asked,
    mut stream: BodyDataStream,
) -> Result<Response, Problem> {
    let memory = asked.part_size();
    let in_memory = asked.may_be_whole() && asked.length.is_none_or(|length| length <= memory);
    let start = if in_memory {
        memory
    } else {
        kinora_upload_engine::sniff::LOOK as u64
    };
    let is_all = |size| asked.ends_at(size);
    let got = begin::begin(driver, &mut stream, start, asked.any, is_all)
        .await
        .map_err(|why| not_gathered(&why))?;
    let Gathered { bytes, held, ended } = got;
    let size = bytes.len() as u64;
    if asked.length.is_some_and(|length| size > length) {
        return Err(asked.longer_than_told());
    }
    if ended && size == 0 && asked.protocol == Protocol::Plain {
        return Err(no_body());
    }
    if size > asked.max {
        return Err(asked.too_large());
    }
    let mut state = asked.state(driver);
    let all = ended && asked.length.is_none_or(|length| length == size);
    if all && size <= memory && asked.may_be_whole() {
        state.length = Some(size);
        return Box::pin(direct(driver, asked, state, bytes, held)).await;
    }
    if ended && asked.carries_all() && !all {
        return Err(asked.ended_early(None));
    }
    if in_memory && size <= memory && asked.carries_all() && driver.promised.is_some() {
        // Another try may finish from memory alone, and would not see that one with a state was given up for a new id.
        return Err(Problem::try_again("no memory for a whole body"));
    }
    let incoming = Incoming {
        first: bytes.into_bytes(),
        held,
        ended,
        ..asked.incoming(stream)
    };
    Box::pin(async move {
        let (driver, doc, etag) = store_new(driver, opened(state, &incoming)).await?;
        resumable(&driver, &mut asked, (doc, etag), incoming, false).await
    })
    .await
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
    mut asked: Asked,
    mut state: State,
    bytes: Pieces,
    mut held: Held,
) -> Result<Response, Problem> {
    if let Some(check) = &mut asked.check {
        bytes.iter().for_each(|piece| check.update(piece));
        if !check.holds() {
            return Err(damaged());
        }
    }
    state.offset = bytes.len() as u64;
    state.crc = Some(bytes.crc64());
    state.crc32c = state
        .crc32c
        .map(|_| crc::crc32c(&bytes.clone().into_bytes()));
    let offset = state.offset;
    if driver.is_late() && erased(driver).await? {
        // What came of another try: a retry takes a new id.
        return Err(Problem::try_again("the video was erased meanwhile"));
    }
    let ram = Ram {
        from: 0,
        bytes,
        crc: state.crc,
        held: held.take(),
    };
    let stored = finish_direct(driver, &state, ram).await?;
    Ok(created(driver, &mut asked, Some(stored), Some(offset)))
}

/// A create whose URL the client learns before its body is read, and goes on by itself after a cut.
async fn announced(
    driver: &Driver,
    mut asked: Asked,
    stream: BodyDataStream,
    interim: &Interim,
) -> Result<Response, Problem> {
    let incoming = asked.incoming(stream);
    let state = opened(asked.state(driver), &incoming);
    let (driver, doc, etag) = Box::pin(store_new(driver, state)).await?;
    let draft = asked.protocol.draft();
    let message = draft.and_then(|draft| standing::announcement(&driver, draft, asked.max));
    let told = message.is_some_and(|message| {
        // Before its client can begin the next.
        asked.count(&driver);
        interim.send(message)
    });
    resumable(&driver, &mut asked, (doc, etag), incoming, told).await
}

/// The state of a new upload that its first body is about to be written to.
fn opened(mut state: State, incoming: &Incoming) -> State {
    state.epoch = 1;
    state.phase = Phase::Open;
    state.unverified = incoming.check.is_some();
    state
}

/// Through a state object, which is made open by its first write. `told`: the client knows the URL.
async fn resumable(
    driver: &Driver,
    asked: &mut Asked,
    (doc, etag): (Box<State>, String),
    incoming: Incoming,
    told: bool,
) -> Result<Response, Problem> {
    // Whoever was told no URL has none to go on with; that of a resumable create is told to those who repeat its key.
    let is_known = driver.promised.is_some() && asked.protocol != Protocol::Plain;
    let stays = told || is_known;
    if stays {
        asked.count(driver);
    }
    match body::write(driver, doc, etag, incoming).await {
        Written::Whole {
            doc, known, ram, ..
        } => {
            let stored = Box::pin(finish_fresh(driver, &doc, known, ram)).await;
            let stored = stored.map_err(|problem| asked.protocol.at_its_end(problem))?;
            Ok(created(driver, asked, Some(stored), Some(doc.offset)))
        }
        Written::Closed(doc) if !asked.carries_all() => {
            Ok(created(driver, asked, None, Some(doc.offset)))
        }
        Written::NotVideo(why, doc) => {
            Box::pin(driver.end(&doc)).await;
            Err(Problem::not_video(why))
        }
        Written::TooLong(doc) if doc.length.is_some() => {
            // Nobody can say which of the bytes are the file, whoever has its URL.
            Box::pin(driver.kill()).await;
            Err(asked.longer_than_told())
        }
        other => {
            let answer = not_whole(&driver.app, other);
            if !stays {
                Box::pin(driver.kill()).await;
            }
            answer.and_then(|offset| Err(asked.ended_early(stays.then_some(offset))))
        }
    }
}

fn created(
    driver: &Driver,
    asked: &mut Asked,
    stored: Option<Stored>,
    offset: Option<u64>,
) -> Response {
    let (app, id) = (&driver.app, &driver.id);
    let status = format!("/v1/videos/{id}");
    let path = match asked.protocol {
        Protocol::Plain => status.clone(),
        Protocol::Tus | Protocol::Draft(_) => format!("/v1/uploads/{id}"),
    };
    let mut answer = match (asked.protocol, stored) {
        (Protocol::Plain | Protocol::Draft(_), Some(stored)) => {
            stored_answer(driver, stored, &status)
        }
        _ => StatusCode::CREATED.into_response(),
    };
    if let Ok(location) = HeaderValue::from_str(&app.location(&path)) {
        set(&mut answer, header::LOCATION, location);
    }
    match asked.protocol {
        Protocol::Plain => {}
        Protocol::Tus => {
            if let Some(offset) = offset {
                set(&mut answer, tus::UPLOAD_OFFSET, offset);
            }
        }
        Protocol::Draft(draft) => {
            let offset = offset.or(Some(0));
            standing::of_draft(&mut answer, driver, draft, offset, stored.is_some());
            if stored.is_none() {
                standing::limit(&mut answer, driver, asked.max);
            }
        }
    }
    if stored.is_none() {
        standing::expiry(&mut answer, driver, asked.protocol);
    }
    if answer.status() == StatusCode::CREATED {
        asked.count(driver);
    }
    answer
}

/// Bytes of the task of a create.
#[cfg(test)]
pub(super) fn room() -> usize {
    fn returned<R>(_: impl FnOnce(Driver, Asked, BodyDataStream) -> R) -> usize {
        size_of::<R>()
    }
    returned(begin)
}
