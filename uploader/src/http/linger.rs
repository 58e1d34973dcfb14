//! Refusals that arrive: a server that answers and closes while the client still sends resets the connection, and the
//! client sees a broken pipe in place of the problem document. So what is left of a refused body is read and dropped,
//! up to a bound, while the answer is under way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::drive::body::{RATE_BYTES, RATE_WINDOW};
use crate::serve::Running;

/// Of a refused body, this much is read; what is longer breaks off, as it would have at once.
const MOST_BYTES: u64 = 16 << 20;
/// And for this long.
const MOST_TIME: Duration = Duration::from_secs(10);

/// Lends the body to the handler; a refusal gets it back and reads on.
pub(super) async fn linger(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let expects = request.headers().contains_key(header::EXPECT);
    let running = request.extensions().get::<Running>().cloned();
    let (give_back, given_back) = oneshot::channel();
    let request = request.map(|body| {
        Body::new(Lent {
            body: Some(body),
            asked_for: !expects,
            give_back: Some(give_back),
        })
    });
    let answer = next.run(request).await;
    if answer.status().is_client_error() || answer.status().is_server_error() {
        let closing = app.closing.clone();
        tokio::spawn(async move {
            if let Ok(body) = given_back.await {
                read_out(body, &closing).await;
            }
            drop(running);
        });
    }
    answer
}

/// Reads a body that nobody needs, up to these bounds, or until this process ends.
async fn read_out(mut body: Body, closing: &CancellationToken) {
    let mut read = 0;
    tokio::select! {
        () = closing.cancelled() => {}
        () = tokio::time::sleep(MOST_TIME) => {}
        () = drop_bytes(&mut body, &mut read, MOST_BYTES) => {}
    }
}

/// Reads a body whose bytes are there already: as far as any may go, and no slower than any, or until this process ends.
pub(super) async fn read_through(
    mut body: Body,
    most: u64,
    received: &Counter,
    closing: &CancellationToken,
) {
    let mut read = 0;
    loop {
        let before = read;
        let ended = tokio::select! {
            () = closing.cancelled() => true,
            ended = tokio::time::timeout(RATE_WINDOW, drop_bytes(&mut body, &mut read, most)) => ended.is_ok(),
        };
        received.inc_by(read - before);
        if ended || read - before < RATE_BYTES {
            return;
        }
    }
}

/// Reads to the end, or beyond `most` bytes.
async fn drop_bytes(body: &mut Body, read: &mut u64, most: u64) {
    while *read <= most {
        let Some(Ok(frame)) = body.frame().await else {
            return;
        };
        *read += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
}

/// A body that goes back where it came from when the handler is done with it before its end.
struct Lent {
    body: Option<Body>,
    /// The client sends it: it waited for no leave, or has it since the first read.
    asked_for: bool,
    give_back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.asked_for = true;
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A refusal asks for no body that waits for leave.
        if let (Some(body), Some(give_back), true) =
            (self.body.take(), self.give_back.take(), self.asked_for)
        {
            // Nobody listens after a success: then the body goes with its connection.
            let _ = give_back.send(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    /// covers: F8
    #[tokio::test]
    async fn a_body_that_nobody_needs_holds_no_process_that_ends() {
        let endless =
            || Body::from_stream(futures::stream::pending::<Result<Bytes, axum::Error>>());
        let closing = CancellationToken::new();
        let received = Counter::default();
        let through = || read_through(endless(), 1, &received, &closing).now_or_never();
        assert!(read_out(endless(), &closing).now_or_never().is_none());
        assert!(through().is_none());
        closing.cancel();
        assert!(read_out(endless(), &closing).now_or_never().is_some());
        assert!(through().is_some());
    }

    /// covers: S7
    #[tokio::test]
    async fn a_body_that_is_there_already_is_read_to_its_end_and_no_further_than_any() {
        let chunks = |n| {
            let chunk = || Ok::<_, axum::Error>(Bytes::from_static(&[0; 1024]));
            Body::from_stream(futures::stream::repeat_with(chunk).take(n))
        };
        for (name, n, want) in [("to its end", 9, 9), ("too much", usize::MAX, 17)] {
            let received = Counter::default();
            let closing = CancellationToken::new();
            let read = read_through(chunks(n), 16 * 1024, &received, &closing);
            assert!(read.now_or_never().is_some(), "{name}");
            assert_eq!(received.get(), want * 1024, "{name}");
        }
    }
}
