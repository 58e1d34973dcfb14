//! `PATCH /v1/uploads/<id>`: more bytes, over tus or the IETF draft.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use kinora_storage::UploadId;
use kinora_upload_engine::Principal;
use kinora_upload_engine::open::{Append, Goal, Opened};

use super::admit::admit;
use super::answers::{
    beyond, crashed, damaged, empty, finish_found, finish_fresh, not_whole, stored_answer,
};
use super::draft::{Draft, Version};
use super::problem::Problem;
use super::protocol::{Protocol, body_size};
use super::uploads::{refusal, stands, without_state};
use super::{digests, set, standing, tus};
use crate::app::App;
use crate::auth::Action;
use crate::budget::Held;
use crate::digest::Check;
use crate::drive::Driver;
use crate::drive::body::{self, Incoming, Written};

/// What a PATCH asks for.
struct Asked {
    protocol: Protocol,
    principal: Principal,
    append: Append,
    check: Option<Check>,
}

/// Where an upload stands after a body.
struct Appended {
    offset: u64,
    /// It is a video now.
    whole: Option<super::answers::Stored>,
}

pub(super) async fn patch(
    app: &Arc<App>,
    id: &UploadId,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let size = body_size(&parts.headers, &body)?;
    let asked = Box::pin(asked(app, id, &parts.headers, size)).await?;
    drop(parts);
    let protocol = asked.protocol;
    let driver = Driver::new(app, id);
    let owned = driver.clone();
    let appended = app
        .to_the_end(append(owned, asked, body))
        .await
        .map_err(|error| crashed(&error))??;
    Ok(answer(&driver, protocol, &appended))
}

async fn asked(
    app: &App,
    id: &UploadId,
    headers: &HeaderMap,
    size: Option<u64>,
) -> Result<Asked, Problem> {
    let protocol = Protocol::of_upload(headers)?;
    let principal = admit(app, headers, Action::Write, Some(id)).await?;
    match protocol {
        Protocol::Draft(draft) => draft.require_type(headers)?,
        Protocol::Tus | Protocol::Plain => tus::require_offset_stream(headers)?,
    }
    let Some(offset) = tus::bytes(headers, &tus::UPLOAD_OFFSET, "Upload-Offset")? else {
        let detail = "A PATCH needs Upload-Offset: the offset that HEAD told.";
        return Err(Problem::bad_request("Upload-Offset", detail));
    };
    let check = digests::of_body(headers)?;
    let append = Append {
        offset,
        body: size,
        length: tus::bytes(headers, &tus::UPLOAD_LENGTH, "Upload-Length")?,
        complete: protocol.draft().map(brings_the_end).transpose()?,
        verify: check.is_some(),
        digests: digests::of_whole(headers)?,
    };
    Ok(Asked {
        protocol,
        principal,
        append,
        check,
    })
}

/// Whether the body brings the end; until version 8 a flag that is left out says no.
fn brings_the_end(draft: Draft) -> Result<bool, Problem> {
    match (draft.complete, draft.version) {
        (Some(complete), _) => Ok(complete),
        (None, Version::V8) => Err(Problem::bad_request(
            "Upload-Complete",
            "A PATCH needs Upload-Complete: ?1 if its body brings the end of the file, else ?0.",
        )),
        (None, Version::V3 | Version::V5 | Version::V6) => Ok(false),
    }
}

/// What waits for the client here has room for that alone: everything else is in boxes, for as long as it takes.
async fn append(driver: Driver, asked: Asked, body: Body) -> Result<Appended, Problem> {
    let driver = &driver;
    let Asked {
        protocol,
        principal,
        append,
        check,
    } = asked;
    let (at, empty_body) = (append.offset, append.body == Some(0));
    if empty_body && check.as_ref().is_some_and(|check| !check.holds()) {
        return Err(damaged());
    }
    let says_nothing = append.length.is_none() && append.complete != Some(true);
    if empty_body && says_nothing && append.digests.is_empty() {
        return Box::pin(only_look(driver, principal, protocol, at)).await;
    }
    let carries_all = append.complete == Some(true);
    let tells_length = protocol == Protocol::Tus && empty_body && append.length == Some(at);
    let untold = append.body.is_none();
    let goal = Goal::Write(append);
    match Box::pin(driver.open(goal, Some(principal.clone()))).await {
        Opened::Writer(doc, etag) => {
            let incoming = Incoming {
                stream: body.into_data_stream(),
                first: Bytes::new(),
                held: Held::default(),
                ended: false,
                carries_all,
                creates: false,
                untold,
                check,
            };
            let written = body::write(driver, doc, etag, incoming).await;
            Box::pin(ended(driver, protocol, carries_all, written)).await
        }
        // The last request of an upload that told its length late, once more.
        Opened::Whole(..) | Opened::Missing if tells_length => {
            Box::pin(only_look(driver, principal, protocol, at)).await
        }
        Opened::Whole(doc, etag) => {
            let offset = doc.offset;
            Box::pin(finish_found(driver, *doc, etag)).await?;
            Err(at_its_end(protocol, offset, empty_body))
        }
        Opened::Missing => {
            let standing = Box::pin(without_state(driver, &principal, protocol)).await?;
            Err(at_its_end(protocol, standing.offset, empty_body))
        }
        Opened::WrongOffset(doc) if protocol.draft().is_some() => {
            Err(Draft::wrong_offset(doc.offset, at))
        }
        other => Err(refusal(other, protocol)),
    }
}

/// Nothing to append: only the offset is checked.
async fn only_look(
    driver: &Driver,
    principal: Principal,
    protocol: Protocol,
    at: u64,
) -> Result<Appended, Problem> {
    let standing = stands(driver, principal, protocol).await?;
    match protocol {
        Protocol::Draft(draft) if standing.complete => Err(draft.completed(standing.offset, true)),
        Protocol::Draft(_) if standing.offset != at => {
            Err(Draft::wrong_offset(standing.offset, at))
        }
        _ if standing.offset != at => Err(Problem::wrong_offset(standing.offset)),
        _ => Ok(Appended {
            offset: at,
            whole: None,
        }),
    }
}

async fn ended(
    driver: &Driver,
    protocol: Protocol,
    carries_all: bool,
    written: Written,
) -> Result<Appended, Problem> {
    match written {
        Written::Whole {
            doc,
            known,
            ram,
            too_long,
        } => {
            let stored = finish_fresh(driver, &doc, known, ram).await;
            let stored = stored.map_err(|problem| protocol.at_its_end(problem))?;
            if too_long && protocol.draft().is_some() {
                return Err(Draft::inconsistent().offset(doc.offset));
            }
            if too_long {
                return Err(beyond(doc.offset).offset(doc.offset));
            }
            Ok(Appended {
                offset: doc.offset,
                whole: Some(stored),
            })
        }
        Written::TooLong(doc) if protocol.draft().is_some() && doc.length.is_some() => {
            Err(Draft::inconsistent().offset(doc.offset))
        }
        // The end that it said it brings, before the length that was told.
        Written::Closed(doc) if carries_all => Err(Draft::inconsistent().offset(doc.offset)),
        other => {
            if let Written::NotVideo(_, doc) | Written::Lost(doc) = &other {
                driver.end(doc).await;
            }
            let offset = not_whole(&driver.app, other)?;
            Ok(Appended {
                offset,
                whole: None,
            })
        }
    }
}

/// The answer to an append to an upload that has all its bytes.
fn at_its_end(protocol: Protocol, offset: u64, empty: bool) -> Problem {
    match protocol {
        Protocol::Draft(draft) => draft.completed(offset, empty),
        Protocol::Tus | Protocol::Plain => Problem::wrong_offset(offset),
    }
}

fn answer(driver: &Driver, protocol: Protocol, appended: &Appended) -> Response {
    let whole = appended.whole;
    match protocol {
        Protocol::Draft(draft) => {
            let mut answer = match (whole, draft.version) {
                (Some(stored), _) => {
                    stored_answer(driver, stored, &format!("/v1/videos/{}", driver.id))
                }
                (None, Version::V8) => empty(StatusCode::NO_CONTENT),
                (None, Version::V3 | Version::V5 | Version::V6) => empty(StatusCode::CREATED),
            };
            let offset = Some(appended.offset);
            standing::of_draft(&mut answer, driver, draft, offset, whole.is_some());
            answer
        }
        Protocol::Tus | Protocol::Plain => {
            let mut answer = empty(StatusCode::NO_CONTENT);
            set(&mut answer, tus::UPLOAD_OFFSET, appended.offset);
            if whole.is_none() {
                standing::expiry(&mut answer, driver, Protocol::Tus);
            }
            answer
        }
    }
}

/// Bytes of the task of a PATCH.
#[cfg(test)]
pub(super) fn room() -> usize {
    fn returned<R>(_: impl FnOnce(Driver, Asked, Body) -> R) -> usize {
        size_of::<R>()
    }
    returned(append)
}
