//! `HEAD`, `PATCH` and `DELETE /v1/uploads/<id>`: tus on an upload that exists.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kinora_storage::UploadId;
use kinora_storage::documents::RecordState;
use kinora_upload_engine::document::STORE_LOST;
use kinora_upload_engine::open::{Goal, Opened};
use kinora_upload_engine::{Principal, State};

use super::admit::admit;
use super::answers::{
    Known, Stored, crashed, empty, finish_found, finish_fresh, known, lost, not_whole,
};
use super::problem::{Kind, Problem};
use super::{set, tus, videos};
use crate::app::App;
use crate::auth::Action;
use crate::budget::Held;
use crate::drive::Driver;
use crate::drive::body::{self, Incoming, Written};

/// Where an upload stands, for the headers of an answer.
struct Standing {
    offset: u64,
    length: Option<u64>,
    metadata: Option<String>,
}

impl From<&State> for Standing {
    fn from(doc: &State) -> Self {
        Self {
            offset: doc.offset,
            length: doc.length,
            metadata: doc.upload_metadata.clone(),
        }
    }
}

pub(super) async fn head(
    app: &Arc<App>,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let principal = enter(app, id, headers).await?;
    let driver = Driver::new(app, id);
    let standing = app.to_the_end(async move { stands(&driver, principal).await });
    let standing = standing.await.map_err(|error| crashed(&error))??;
    let mut answer = empty(StatusCode::OK);
    set(&mut answer, tus::UPLOAD_OFFSET, standing.offset);
    if let Some(length) = standing.length {
        set(&mut answer, tus::UPLOAD_LENGTH, length);
    }
    if let Some(Ok(metadata)) = standing.metadata.map(|raw| HeaderValue::from_str(&raw)) {
        set(&mut answer, tus::UPLOAD_METADATA, metadata);
    }
    Ok(answer)
}

async fn enter(app: &App, id: &UploadId, headers: &HeaderMap) -> Result<Principal, Problem> {
    tus::require_tus(headers)?;
    admit(app, headers, Action::Write, Some(id)).await
}

/// The offset that may be told; an upload that is found whole is finished first.
async fn stands(driver: &Driver, principal: Principal) -> Result<Standing, Problem> {
    match driver.open(Goal::Read, Some(principal.clone())).await {
        Opened::Closed(doc) => Ok(Standing::from(&*doc)),
        Opened::Whole(doc, etag) => {
            let standing = Standing::from(&*doc);
            finish_found(driver, *doc, etag).await?;
            Ok(standing)
        }
        Opened::Missing => without_state(driver, &principal).await,
        other => Err(refusal(other)),
    }
}

/// The state went with the end of the upload: the decision or the record knows it.
async fn without_state(driver: &Driver, principal: &Principal) -> Result<Standing, Problem> {
    match known(driver, principal).await? {
        Known::Active(active) => Ok(Standing {
            offset: active.size,
            length: Some(active.size),
            metadata: None,
        }),
        Known::Record(record) => {
            let size = record.size.unwrap_or_default();
            let refused = record.job.is_none() && !record.dead_lettered;
            match record.state {
                // Of an empty file all bytes are there.
                RecordState::Rejected | RecordState::Failed if refused && size > 0 => Err(
                    Problem::gone(format!("The upload was refused: {}.", record.reason)),
                ),
                _ => Ok(Standing {
                    offset: size,
                    length: Some(size),
                    metadata: None,
                }),
            }
        }
    }
}

/// The answer to an opening that leads nowhere.
fn refusal(opened: Opened) -> Problem {
    match opened {
        Opened::WrongOffset(doc) => Problem::wrong_offset(doc.offset),
        Opened::TooLong(doc) => {
            let left = doc.length.unwrap_or_default().saturating_sub(doc.offset);
            Problem::too_large(format!("The upload has room for {left} more bytes."))
                .field("Content-Length")
        }
        Opened::TooManySmall(seconds) => Problem::new(
            Kind::SmallPatches,
            "More than 10 PATCHes of less than 64 KiB came within a minute. Send larger ones.",
        )
        .retry_after(seconds),
        Opened::Dead { doc, .. } if doc.reason.as_deref() == Some(STORE_LOST) => lost(),
        Opened::Dead { doc, .. } => {
            let why = doc.reason.unwrap_or_else(|| "terminated".into());
            Problem::gone(format!("The upload has ended ({why}). Create a new one."))
        }
        Opened::Missing | Opened::Foreign => Problem::not_found(),
        Opened::Fault(why) => Problem::try_again(&why),
        Opened::Stirred => Problem::try_again("the upload is in use"),
        Opened::Closed(doc) | Opened::Writer(doc, _) | Opened::Whole(doc, _) => {
            Problem::wrong_offset(doc.offset)
        }
    }
}

pub(super) async fn patch(
    app: &Arc<App>,
    id: &UploadId,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers();
    let principal = enter(app, id, headers).await?;
    tus::require_offset_stream(headers)?;
    let Some(offset) = tus::bytes(headers, &tus::UPLOAD_OFFSET, "Upload-Offset")? else {
        let detail = "A PATCH needs Upload-Offset: the offset that HEAD told.";
        return Err(Problem::bad_request("Upload-Offset", detail));
    };
    let size = tus::bytes(headers, &header::CONTENT_LENGTH, "Content-Length")?;
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let size = if chunked {
        None
    } else {
        Some(size.unwrap_or(0))
    };
    let driver = Driver::new(app, id);
    let body = request.into_body();
    let work = async move { append(&driver, principal, offset, size, body).await };
    let offset = app
        .to_the_end(work)
        .await
        .map_err(|error| crashed(&error))??;
    let mut answer = empty(StatusCode::NO_CONTENT);
    set(&mut answer, tus::UPLOAD_OFFSET, offset);
    Ok(answer)
}

/// Appends a body; the offset after it.
async fn append(
    driver: &Driver,
    principal: Principal,
    offset: u64,
    size: Option<u64>,
    body: Body,
) -> Result<u64, Problem> {
    if size == Some(0) {
        // Nothing to append: only the offset is checked.
        let standing = stands(driver, principal).await?;
        return if standing.offset == offset {
            Ok(offset)
        } else {
            Err(Problem::wrong_offset(standing.offset))
        };
    }
    match driver
        .open(Goal::Write { offset, body: size }, Some(principal.clone()))
        .await
    {
        Opened::Writer(doc, etag) => {
            let incoming = Incoming {
                stream: body.into_data_stream(),
                first: Bytes::new(),
                held: Held::default(),
                ended: false,
                carries_all: false,
                max: u64::MAX,
            };
            match body::write(driver, *doc, etag, incoming).await {
                Written::Whole { doc, known, ram } => {
                    finish_fresh(driver, &doc, known, ram).await?;
                    Ok(doc.offset)
                }
                other => {
                    if let Written::NotVideo(_, doc) | Written::Lost(doc) = &other {
                        driver.end(doc).await;
                    }
                    not_whole(&driver.app, other)
                }
            }
        }
        Opened::Whole(doc, etag) => {
            let at = doc.offset;
            finish_found(driver, *doc, etag).await?;
            Err(Problem::wrong_offset(at))
        }
        Opened::Missing => {
            let standing = without_state(driver, &principal).await?;
            Err(Problem::wrong_offset(standing.offset))
        }
        other => Err(refusal(other)),
    }
}

pub(super) async fn delete(
    app: &Arc<App>,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let principal = enter(app, id, headers).await?;
    let driver = Driver::new(app, id);
    let work = async move { terminate(&driver, &principal).await };
    app.to_the_end(work)
        .await
        .map_err(|error| crashed(&error))??;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Ends an upload, or the video it became.
pub(super) async fn terminate(driver: &Driver, principal: &Principal) -> Result<(), Problem> {
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
        other => Err(refusal(other)),
    }
}
