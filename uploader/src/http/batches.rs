//! `POST /v1/batches`: up to a hundred creates in one request. Each is the tus create that its item describes, with
//! the same checks and limits, and ends by itself: in an upload's URLs, or in a problem.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use http::request::Parts;
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::admit::admit_repeat;
use super::keyed::{self, Key};
use super::problem::{Kind, Problem};
use super::tus;
use crate::app::App;

/// Most creates in a batch.
pub const MOST: usize = 100;
/// A hundred items with all the metadata they may have, and some more.
const MOST_BYTES: usize = 1 << 20;
const BODY_WITHIN: Duration = Duration::from_secs(30);
const SIDE_BY_SIDE: usize = 8;
/// An answer of one create is smaller than this.
const MOST_ANSWER: usize = 64 << 10;

/// Headers that speak of the batch, or of one upload, and so of none of its creates.
const OF_BATCH: [&str; 11] = [
    "content-type",
    "content-length",
    "content-digest",
    "content-disposition",
    "repr-digest",
    "transfer-encoding",
    "idempotency-key",
    "upload-checksum",
    "upload-concat",
    "upload-defer-length",
    "upload-metadata",
];

/// Creates to be made together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// 1 to 100 of them.
    #[schema(min_items = 1, max_items = 100)]
    pub items: Vec<BatchItem>,
}

/// One create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchItem {
    /// Bytes of the file.
    #[schema(example = 1_048_576)]
    pub length: u64,
    /// Name of the profile; `default` without one.
    pub profile: Option<String>,
    /// Kept and echoed as `Upload-Metadata`: 32 keys without spaces and commas, 4 KiB.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Names this create by itself. Without one it is named by the batch's `Idempotency-Key` and its place.
    pub idempotency_key: Option<String>,
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswer {
    /// In the order of the request's.
    pub items: Vec<BatchResult>,
}

/// What became of one create: `id`, `upload` and `video`, or `problem`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct BatchResult {
    /// As the create alone would have been answered.
    #[schema(example = 201)]
    pub status: u16,
    /// Id of the upload and of its video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where its bytes go, over tus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::openapi::ProblemDocument>)]
    pub problem: Option<Value>,
}

pub(super) async fn create(app: &Arc<App>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    admit_repeat(app, &parts.headers).await?;
    if tus::media_type(&parts.headers).as_deref() != Some("application/json") {
        let detail = "Send Content-Type: application/json.";
        return Err(Problem::new(Kind::ContentType, detail).field("Content-Type"));
    }
    let key = Key::of(&parts.headers)?;
    let batch = read(body).await?;
    let results = futures::stream::iter(batch.items.into_iter().enumerate())
        .map(|(at, item)| one(app, &parts, item, key.as_ref().map(|key| key.item(at))))
        .buffered(SIDE_BY_SIDE);
    let items = results.collect().await;
    Ok(Json(BatchAnswer { items }).into_response())
}

async fn read(body: Body) -> Result<Batch, Problem> {
    let bytes = tokio::time::timeout(BODY_WITHIN, to_bytes(body, MOST_BYTES)).await;
    let bytes = bytes
        .map_err(|_| Problem::new(Kind::TooSlow, "The batch did not come within 30 s."))?
        .map_err(|_| {
            Problem::too_large("A batch has at most 1 MiB. Send several.").field("body")
        })?;
    let batch: Batch = serde_json::from_slice(&bytes).map_err(|error| {
        let detail = format!("The body is no batch: {error}.");
        Problem::bad_request("body", detail)
    })?;
    if (1..=MOST).contains(&batch.items.len()) {
        return Ok(batch);
    }
    let detail = format!("A batch has 1 to {MOST} items; send several.");
    Err(Problem::bad_request("items", detail))
}

async fn one(app: &Arc<App>, parts: &Parts, item: BatchItem, key: Option<Key>) -> BatchResult {
    let answer = match prepared(parts, &item, key) {
        Ok((request, key)) => keyed::create_as(app, request, key).await,
        Err(problem) => Err(problem),
    };
    let answer = answer.unwrap_or_else(IntoResponse::into_response);
    let status = answer.status();
    if !status.is_success() {
        return refused(answer).await;
    }
    let location = answer.headers().get(header::LOCATION);
    let upload = location.and_then(|location| location.to_str().ok());
    let id = upload.and_then(|upload| upload.rsplit('/').next());
    BatchResult {
        status: status.as_u16(),
        id: id.map(str::to_owned),
        upload: upload.map(str::to_owned),
        video: id.map(|id| app.location(&format!("/v1/videos/{id}"))),
        problem: None,
    }
}

/// The create as a request of its own.
fn prepared(
    parts: &Parts,
    item: &BatchItem,
    key: Option<Key>,
) -> Result<(Request, Option<Key>), Problem> {
    let named = item.idempotency_key.as_deref().map(Key::parse);
    let key = named.transpose()?.or(key);
    let mut request = Request::new(Body::empty());
    *request.method_mut() = http::Method::POST;
    *request.extensions_mut() = parts.extensions.clone();
    let headers = request.headers_mut();
    headers.clone_from(&parts.headers);
    for name in OF_BATCH {
        headers.remove(name);
    }
    headers.insert(tus::TUS_RESUMABLE, tus::VERSION);
    headers.insert(tus::UPLOAD_LENGTH, item.length.into());
    let value = |field: &'static str, text: &str| {
        HeaderValue::from_str(text)
            .map_err(|_| Problem::bad_request(field, format!("{field} cannot be used.")))
    };
    if let Some(profile) = &item.profile {
        headers.insert(tus::KINORA_PROFILE, value("profile", profile)?);
    }
    if !item.metadata.is_empty() {
        let metadata = metadata(&item.metadata)?;
        headers.insert(tus::UPLOAD_METADATA, value("metadata", &metadata)?);
    }
    Ok((request, key))
}

fn metadata(pairs: &BTreeMap<String, String>) -> Result<String, Problem> {
    let mut words = Vec::new();
    for (key, value) in pairs {
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
            let detail = "Keys of metadata are printable ASCII without spaces and commas.";
            return Err(Problem::bad_request("metadata", detail));
        }
        words.push(format!("{key} {}", STANDARD.encode(value)));
    }
    Ok(words.join(","))
}

/// The problem of one create, in the words of its item.
async fn refused(answer: Response) -> BatchResult {
    let status = answer.status().as_u16();
    let bytes = to_bytes(answer.into_body(), MOST_ANSWER).await;
    let mut problem: Value = bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let field = problem["field"].as_str().and_then(|field| match field {
        "Upload-Length" => Some("length"),
        "Upload-Metadata" => Some("metadata"),
        "Kinora-Profile" => Some("profile"),
        "Idempotency-Key" => Some("idempotencyKey"),
        _ => None,
    });
    if let Some(field) = field {
        problem["field"] = field.into();
    }
    BatchResult {
        status,
        problem: Some(problem),
        ..BatchResult::default()
    }
}
