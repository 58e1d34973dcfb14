//! `OPTIONS`, and what scripts of other sites may send and read.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::methods::Methods;
use super::{ACCEPT_PATCH, digests, draft, tus};
use crate::app::App;
use crate::sweep::REST_SECONDS;

const PATCHES: HeaderValue =
    HeaderValue::from_static("application/offset+octet-stream, application/partial-upload");

/// Response headers that scripts may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Location, Content-Location, ETag, Allow, Accept-Patch, Retry-After, WWW-Authenticate, Upload-Offset, Upload-Length, \
     Upload-Defer-Length, Upload-Metadata, Upload-Expires, Upload-Checksum, Upload-Complete, Upload-Incomplete, \
     Upload-Limit, Upload-Draft-Interop-Version, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, \
     Tus-Checksum-Algorithm, Want-Content-Digest, Want-Repr-Digest",
);
/// Request headers that scripts may send.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Content-Disposition, Content-Digest, Repr-Digest, Upload-Offset, Upload-Length, \
     Upload-Defer-Length, Upload-Metadata, Upload-Checksum, Upload-Complete, Upload-Incomplete, \
     Upload-Draft-Interop-Version, Tus-Resumable, Kinora-Profile, Idempotency-Key, X-HTTP-Method-Override, \
     If-None-Match, X-Requested-With, X-Request-ID, Traceparent, Tracestate",
);
const ALLOWED_METHODS: HeaderValue =
    HeaderValue::from_static("POST, PUT, HEAD, PATCH, DELETE, GET, OPTIONS");

/// What is offered on uploads, in the words of each protocol.
pub(super) fn options(app: &App, methods: Methods) -> Response {
    // Some browsers take nothing but 200 for the answer to a preflight.
    let mut answer = StatusCode::OK.into_response();
    let headers = answer.headers_mut();
    let max = app.profiles.max_bytes();
    headers.insert(tus::TUS_VERSION, tus::VERSION);
    headers.insert(tus::TUS_EXTENSION, tus::EXTENSIONS);
    headers.insert(tus::TUS_MAX_SIZE, max.into());
    if let Ok(algorithms) = HeaderValue::try_from(digests::announced()) {
        headers.insert(tus::TUS_CHECKSUM_ALGORITHM, algorithms);
    }
    if let Ok(limits) = HeaderValue::try_from(draft::limits(max, REST_SECONDS)) {
        headers.insert(draft::UPLOAD_LIMIT, limits);
    }
    headers.insert(ACCEPT_PATCH, PATCHES);
    headers.insert(digests::WANT_CONTENT_DIGEST, digests::WANTED);
    headers.insert(digests::WANT_REPR_DIGEST, digests::WANTED);
    headers.insert(header::ALLOW, methods.header());
    answer
}

/// Lets scripts of any site send and read what uploads need: credentials are a header that they
/// set themselves, never cookies.
pub(super) fn allow(headers: &mut HeaderMap, preflight: bool) {
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("86400"),
        );
    }
}
