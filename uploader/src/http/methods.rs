//! The methods that each resource knows: what `Allow` says to OPTIONS and with 405. The OpenAPI
//! document has the same ones, which a test compares.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::problem::Problem;

/// A resource, by its methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Methods {
    /// As in `Allow`.
    allow: &'static str,
    /// What to do instead of what is not known.
    hint: &'static str,
}

impl Methods {
    /// `/v1/uploads`.
    pub(super) const UPLOADS: Self = Self::new(
        "POST, PUT, OPTIONS",
        "GET, HEAD, PATCH and DELETE need the URL of one upload.",
    );
    /// `/v1/uploads/{id}`.
    pub(super) const UPLOAD: Self = Self::new(
        "HEAD, PATCH, DELETE, OPTIONS",
        "An upload knows HEAD, PATCH, DELETE and OPTIONS. Its status is at /v1/videos/<id>.",
    );
    /// `/v1/uploads/{id}/token`.
    pub(super) const TOKEN: Self = Self::new("POST, OPTIONS", "A token is asked for with POST.");
    /// `/v1/batches`.
    pub(super) const BATCHES: Self =
        Self::new("POST, OPTIONS", "A batch of creates is sent with POST.");
    /// `/v1/videos`.
    pub(super) const VIDEOS: Self = Self::new(
        "GET, HEAD, OPTIONS",
        "Videos are listed with GET, and created by uploading to /v1/uploads.",
    );
    /// `/v1/videos/{id}`.
    pub(super) const VIDEO: Self = Self::new(
        "GET, HEAD, DELETE, OPTIONS",
        "A video knows GET and DELETE.",
    );
    /// `/v1/videos/{id}/erase`.
    pub(super) const ERASE: Self = Self::new(
        "POST, OPTIONS",
        "The wish to erase a video is sent with POST.",
    );
    /// `/v1/openapi.json`.
    pub(super) const DOCUMENT: Self = Self::new("GET, HEAD", "The document is read with GET.");

    const fn new(allow: &'static str, hint: &'static str) -> Self {
        Self { allow, hint }
    }

    /// 405 for any other.
    pub(super) fn refuse(self) -> Problem {
        Problem::not_allowed(self.allow, self.hint)
    }

    /// The field `Allow`.
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.allow)
    }

    /// The answer to OPTIONS where there is nothing more to say.
    pub(super) fn options(self) -> Response {
        (StatusCode::NO_CONTENT, [(header::ALLOW, self.header())]).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::openapi;
    use super::Methods;

    #[test]
    fn allow_names_what_the_document_has() {
        let document: serde_json::Value = serde_json::from_str(&openapi::json()).unwrap();
        for (path, methods) in [
            ("/v1/uploads", Methods::UPLOADS),
            ("/v1/uploads/{id}", Methods::UPLOAD),
            ("/v1/uploads/{id}/token", Methods::TOKEN),
            ("/v1/batches", Methods::BATCHES),
            ("/v1/videos", Methods::VIDEOS),
            ("/v1/videos/{id}", Methods::VIDEO),
            ("/v1/videos/{id}/erase", Methods::ERASE),
            ("/v1/openapi.json", Methods::DOCUMENT),
        ] {
            // HTTP has HEAD wherever there is GET, and OPTIONS everywhere.
            let told = |method: &String| !matches!(method.as_str(), "OPTIONS" | "HEAD");
            let allow: BTreeSet<String> = methods
                .allow
                .split(", ")
                .map(str::to_owned)
                .filter(told)
                .collect();
            let operations = document["paths"][path].as_object().unwrap();
            let want = operations
                .keys()
                .map(|method| method.to_uppercase())
                .filter(told);
            assert_eq!(allow, want.collect(), "{path}");
        }
    }
}
