//! The OpenAPI document of the server: schemas from the types that are answered, problems from their table, and one
//! operation for each method of each route. `openapi.json` beside this crate is its checked-in form.

mod build;
mod service;
mod uploads;
mod videos;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;
use utoipa::openapi::path::Paths;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::{OpenApi, ToSchema, openapi};

use super::batches::{Batch, BatchAnswer, BatchItem, BatchResult};
use super::problem::Kind;
use super::token::IssuedToken;
use super::videos::erase::{EraseRequest, ErasureAnswer, ErasureState};
use super::videos::list::Page;
use super::videos::view::{Video, VideoOutput, VideoState, VideoTimes};

/// Name of the security scheme.
const BEARER: &str = "bearer";

/// An error: RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Problem")]
pub struct ProblemDocument {
    /// What kind of problem it is; stable.
    #[serde(rename = "type")]
    #[schema(example = "https://kinora.dev/problems/not-found")]
    pub kind: String,
    /// The same in words.
    pub title: String,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What is wrong with this request, and how to mend it.
    pub detail: String,
    /// The header, parameter or member that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// A video that was taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct Taken {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: VideoState,
    /// URL of its status.
    pub status: String,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kinora uploader",
        description = "Takes short videos over plain HTTP and tus 1.0, and tells where they stand.",
        version = "1"
    ),
    components(schemas(
        ProblemDocument,
        Taken,
        Video,
        VideoState,
        VideoTimes,
        VideoOutput,
        Page,
        Batch,
        BatchItem,
        BatchAnswer,
        BatchResult,
        IssuedToken,
        EraseRequest,
        ErasureAnswer,
        ErasureState,
    ))
)]
struct Schemas;

/// The whole document.
#[must_use]
pub fn document() -> openapi::OpenApi {
    let mut document = Schemas::openapi();
    let mut paths = Paths::new();
    for operation in uploads::all()
        .into_iter()
        .chain(videos::all())
        .chain(service::all())
    {
        let (path, method) = (operation.path, operation.method.clone());
        paths.add_path_operation(path, vec![method], operation.build());
    }
    document.paths = paths;
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key, `<key-id>.<secret>`, or a token."))
        .build();
    if let Some(components) = &mut document.components {
        components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    }
    document.security = Some(vec![SecurityRequirement::new(BEARER, [""; 0])]);
    document
}

/// The document as it is served and checked in.
#[must_use]
pub fn json() -> String {
    // Maps and strings always have a JSON form.
    document().to_pretty_json().unwrap_or_default() + "\n"
}

pub(super) async fn serve() -> Response {
    static TEXT: std::sync::LazyLock<String> = std::sync::LazyLock::new(json);
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], TEXT.as_str()).into_response()
}

/// What every request with credentials may meet.
const ALWAYS: &[Kind] = &[
    Kind::Unauthenticated,
    Kind::MissingScope,
    Kind::LimitReached,
    Kind::Internal,
    Kind::TryAgain,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_checked_in_document_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        if std::env::var_os("KINORA_WRITE_OPENAPI").is_some() {
            std::fs::write(&path, json()).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == json(),
            "uploader/openapi.json is not current; write it with\n  \
             KINORA_WRITE_OPENAPI=1 cargo test -p kinora-uploader --lib openapi"
        );
    }

    #[test]
    fn every_problem_is_documented_by_some_operation() {
        let text = json();
        let named: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        for word in named {
            assert!(text.contains(&format!("`{word}`")), "{word}");
        }
    }
}
