//! `HEAD` and `DELETE /v1/uploads/<id>`: where an upload stands, and its end.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use kinora_storage::UploadId;
use kinora_storage::documents::{Decision, RecordState};
use kinora_upload_engine::Principal;
use kinora_upload_engine::document::STORE_LOST;
use kinora_upload_engine::open::{Goal, Opened};

use super::admit::admit;
use super::answers::{Known, Stored, crashed, empty, finish_found, known, lost};
use super::draft::Draft;
use super::problem::{Kind, Problem};
use super::protocol::Protocol;
use super::standing::Standing;
use super::videos;
use crate::app::App;
use crate::auth::Action;
use crate::drive::Driver;

pub(super) async fn head(
    app: &Arc<App>,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let (protocol, principal) = enter(app, id, headers).await?;
    let driver = Driver::new(app, id);
    let owned = driver.clone();
    let standing = app.to_the_end(async move { stands(&owned, principal, protocol).await });
    let standing = standing.await.map_err(|error| crashed(&error))??;
    let mut answer = empty(match protocol {
        Protocol::Draft(_) => StatusCode::NO_CONTENT,
        Protocol::Plain | Protocol::Tus => StatusCode::OK,
    });
    standing.tell(&mut answer, &driver, protocol);
    Ok(answer)
}

/// Who asks in which words, of a request that carries nothing.
async fn enter(
    app: &App,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<(Protocol, Principal), Problem> {
    let protocol = Protocol::of_upload(headers)?;
    let principal = admit(app, headers, Action::Write, Some(id)).await?;
    if let Some(draft) = protocol.draft() {
        draft.require_bare(headers)?;
    }
    Ok((protocol, principal))
}

/// The offset that may be told; an upload that is found whole is finished first.
pub(super) async fn stands(
    driver: &Driver,
    principal: Principal,
    protocol: Protocol,
) -> Result<Standing, Problem> {
    match driver.open(Goal::Read, Some(principal.clone())).await {
        Opened::Closed(doc) => Ok(Standing::unfinished(driver, &doc)),
        Opened::Whole(doc, etag) => {
            let standing = Standing::unfinished(driver, &doc);
            finish_found(driver, *doc, etag).await?;
            Ok(standing)
        }
        Opened::Missing => without_state(driver, &principal, protocol).await,
        other => Err(refusal(other, protocol)),
    }
}

/// The state went with the end of the upload: the decision or the record knows it.
pub(super) async fn without_state(
    driver: &Driver,
    principal: &Principal,
    protocol: Protocol,
) -> Result<Standing, Problem> {
    match known(driver, principal).await? {
        Known::Active(active) if active.decision == Decision::Rejected && active.size > 0 => {
            let reason = active.reason.unwrap_or_default();
            Err(Problem::gone(format!("The upload was refused: {reason}.")))
        }
        Known::Active(active) => Ok(Standing::finished(active.size)),
        Known::Record(record) => {
            let size = record.size.unwrap_or_default();
            let refused = record.job.is_none() && !record.dead_lettered;
            match record.state {
                // Of an empty file all bytes are there.
                RecordState::Rejected | RecordState::Failed if refused && size > 0 => Err(
                    Problem::gone(format!("The upload was refused: {}.", record.reason)),
                ),
                RecordState::Cancelled => Err(over("cancelled", protocol)),
                _ => Ok(Standing::finished(size)),
            }
        }
    }
}

/// The answer to an opening that leads nowhere.
pub(super) fn refusal(opened: Opened, protocol: Protocol) -> Problem {
    match opened {
        Opened::TooLong(doc) | Opened::Inconsistent(doc) if protocol.draft().is_some() => {
            Draft::inconsistent().offset(doc.offset)
        }
        Opened::TooLong(doc) => {
            let left = doc.length.unwrap_or_default().saturating_sub(doc.offset);
            Problem::too_large(format!("The upload has room for {left} more bytes."))
                .field("Content-Length")
        }
        Opened::Inconsistent(doc) => Problem::bad_request(
            "Upload-Length",
            match doc.length {
                Some(length) => format!(
                    "The upload has Upload-Length {length}; that and its digests stay as they are."
                ),
                None => format!(
                    "{} bytes are there: Upload-Length cannot be less.",
                    doc.offset
                ),
            },
        ),
        Opened::OverLimit(limit) => {
            Problem::too_large(format!("This upload takes at most {limit} bytes."))
                .field("Upload-Length")
        }
        Opened::TooManySmall(seconds) => Problem::new(
            Kind::SmallPatches,
            "More than 10 PATCHes of less than 64 KiB came within a minute. Send larger ones.",
        )
        .retry_after(seconds),
        Opened::Dead { doc, .. } if doc.reason.as_deref() == Some(STORE_LOST) => lost(),
        Opened::Dead { doc, .. } => over(doc.reason.as_deref().unwrap_or("terminated"), protocol),
        Opened::Missing | Opened::Foreign => Problem::not_found(),
        Opened::Fault(why) => Problem::try_again(&why),
        Opened::Stirred => Problem::try_again("the upload is in use"),
        Opened::WrongOffset(doc)
        | Opened::Closed(doc)
        | Opened::Writer(doc, _)
        | Opened::Whole(doc, _) => Problem::wrong_offset(doc.offset),
    }
}

/// 410 for an upload that has ended; in the draft it is not there.
fn over(why: &str, protocol: Protocol) -> Problem {
    match protocol {
        Protocol::Draft(_) => Problem::not_found(),
        Protocol::Tus | Protocol::Plain => {
            Problem::gone(format!("The upload has ended ({why}). Create a new one."))
        }
    }
}

pub(super) async fn delete(
    app: &Arc<App>,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let (protocol, principal) = enter(app, id, headers).await?;
    let driver = Driver::new(app, id);
    let work = async move { terminate_as(&driver, &principal, protocol).await };
    app.to_the_end(work)
        .await
        .map_err(|error| crashed(&error))??;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Ends an upload, or the video it became.
pub(super) async fn terminate(driver: &Driver, principal: &Principal) -> Result<(), Problem> {
    terminate_as(driver, principal, Protocol::Plain).await
}

async fn terminate_as(
    driver: &Driver,
    principal: &Principal,
    protocol: Protocol,
) -> Result<(), Problem> {
    match driver.open(Goal::Terminate, Some(principal.clone())).await {
        Opened::Dead { doc, now: true } => {
            driver.end(&doc).await;
            Ok(())
        }
        Opened::Whole(doc, etag) => {
            let stored = finish_found(driver, *doc, etag).await?;
            if stored == Stored::Empty {
                Ok(())
            } else {
                videos::request_cancel(driver, principal).await
            }
        }
        Opened::Missing => videos::request_cancel(driver, principal).await,
        other => Err(refusal(other, protocol)),
    }
}
