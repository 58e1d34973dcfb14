//! Plain HTTP answers to a gRPC call, made by what stands between (ingress, mesh, load balancer). Pure.
//!
//! tonic would stumble over the body of such an answer and call a 503 a broken message, which is charged to the job. The
//! codes are those of the gRPC mapping, but for throttling and time-outs, and with `retry-after` kept. A 400 or 413 of a
//! proxy says nothing about a video, so none of them becomes a rejection.
//!
//! And gRPC answers that they cut: proxies reset a stream with `NO_ERROR` when the connection behind them is gone, and hyper
//! takes that for the end of a body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A gRPC answer without messages in place of a plain HTTP one; gRPC answers pass, but end well only where their sender
/// ended them.
#[must_use]
pub fn to_grpc(answer: Response<Body>) -> Response<Body> {
    let status = answer.status();
    if answer.headers().contains_key(GRPC_STATUS) {
        return answer;
    }
    if status == StatusCode::OK {
        return answer.map(|body| Body::new(Whole { body, told: false }));
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

/// A body whose end is its sender's, or comes after the trailers.
struct Whole {
    body: Body,
    told: bool,
}

impl hyper::body::Body for Whole {
    type Data = <Body as hyper::body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &polled {
            self.told |= frame.is_trailers();
        }
        if polled.is_none() && !self.told && !self.body.is_end_stream() {
            return Poll::Ready(Some(Err(Status::unavailable("the answer was cut"))));
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
