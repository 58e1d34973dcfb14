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
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::serve::Running;

/// Of a refused body, this much is read; what is longer breaks off, as it would have at once.
const MOST_BYTES: usize = 16 << 20;
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

/// Reads a body that nobody needs, up to the same bounds, or until this process ends.
pub(super) async fn read_out(body: Body, closing: &CancellationToken) {
    tokio::select! {
        () = closing.cancelled() => {}
        () = tokio::time::sleep(MOST_TIME) => {}
        () = drop_bytes(body) => {}
    }
}

async fn drop_bytes(mut body: Body) {
    let mut read = 0;
    while read < MOST_BYTES {
        let Some(Ok(frame)) = body.frame().await else {
            return;
        };
        read += frame.data_ref().map_or(0, Bytes::len);
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
    use futures::FutureExt;

    use super::*;

    /// covers: F8
    #[tokio::test]
    async fn a_body_that_nobody_needs_holds_no_process_that_ends() {
        let endless =
            || Body::from_stream(futures::stream::pending::<Result<Bytes, axum::Error>>());
        let closing = CancellationToken::new();
        assert!(read_out(endless(), &closing).now_or_never().is_none());
        closing.cancel();
        assert!(read_out(endless(), &closing).now_or_never().is_some());
    }
}
