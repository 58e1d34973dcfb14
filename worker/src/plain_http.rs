//! Plain HTTP answers to a gRPC call, made by what stands between (ingress, mesh, load balancer). Pure.
//!
//! tonic would stumble over the body of such an answer and call a 503 a broken message, which is charged to the job. The
//! codes are those of the gRPC mapping, but for throttling and time-outs, and with `retry-after` kept. A 400 or 413 of a
//! proxy says nothing about a video, so none of them becomes a rejection.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tonic::Code;
use tonic::body::Body;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A gRPC answer without messages in place of a plain HTTP one; gRPC answers pass unchanged.
#[must_use]
pub fn to_grpc(answer: Response<Body>) -> Response<Body> {
    let status = answer.status();
    if status == StatusCode::OK || answer.headers().contains_key(GRPC_STATUS) {
        return answer;
    }
    let mut told = Response::new(Body::empty());
    let headers = told.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(code(status) as i32));
    let message = format!("HTTP status {} instead of a gRPC answer", status.as_u16());
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if let Some(wait) = answer.headers().get(RETRY_AFTER) {
        headers.insert(RETRY_AFTER, wait.clone());
    }
    told
}

fn code(status: StatusCode) -> Code {
    match status.as_u16() {
        400 | 500 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        408 | 425 | 429 => Code::ResourceExhausted,
        502 | 503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        // Nothing that speaks this protocol is there: redirects, 404 and all other 4xx.
        300..=499 => Code::Unimplemented,
        _ => Code::Unknown,
    }
}
