//! `/v1/videos`: where videos stand, and the wish that one ends.

mod cancel;
pub mod erase;
pub(super) mod find;
pub mod list;
pub mod view;
pub mod wait;

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use kinora_storage::UploadId;

pub(super) use cancel::{cancel, request_cancel};
pub(super) use erase::erase;
use find::find;
pub(super) use list::list;
use tokio::time::Instant;
use wait::{Look, Wait, wait};

use super::admit::admit;
use super::problem::Problem;
use super::query::Query;
use crate::app::App;
use crate::auth::Action;
use crate::drive::Driver;

pub(super) async fn status(
    app: &Arc<App>,
    id: &UploadId,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Response, Problem> {
    let who = admit(app, headers, Action::Status, Some(id)).await?;
    let query = Query::parse(uri, &["wait"])?;
    let limit = query.get("wait").map(wait::parse).transpose()?;
    let known = known_tag(headers);
    let driver = Driver::new(app, id);
    let at = Instant::now();
    let mut found = find(&driver).await?.ok_or_else(Problem::not_found)?;
    if let Some(limit) = limit.filter(|_| found.is_for(&who)) {
        let not = known.clone();
        let first = Look { at, found };
        found = wait(app, id, &who, first, &Wait { limit, not }).await?;
    }
    let view = found.into_view(&who)?;
    let tag = view.tag();
    let mut answer = if known.as_ref() == Some(&tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(view.signed(&app.store)?).into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    Ok(answer)
}

/// The tag of the answer that the caller has; proxies may have made it weak.
fn known_tag(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?.trim();
    Some(value.strip_prefix("W/").unwrap_or(value).to_owned())
}
