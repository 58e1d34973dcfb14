//! How connections end with the replica. One that is idle may have a request under way to it already, and a proxy would
//! answer that with 502. So idle ones stay a moment, and every answer meanwhile closes its connection.

use std::future::Future;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Response};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tower::util::MapResponseLayer;

/// Idle connections stay so long.
const LAST_CALL: Duration = Duration::from_secs(2);

/// The end of all connections.
#[derive(Clone, Debug)]
pub(crate) struct Parting {
    begun: CancellationToken,
    over: CancellationToken,
}

impl Parting {
    /// Of a listener that ends with this token.
    pub(crate) fn at(begun: CancellationToken) -> Self {
        Self {
            begun,
            over: CancellationToken::new(),
        }
    }

    /// Ends what is idle still, once it has begun and its time is over, or all have `gone`.
    pub(super) async fn part(&self, gone: impl Future<Output = ()>) {
        self.begun.cancelled().await;
        tokio::select! {
            () = gone => {}
            () = tokio::time::sleep(LAST_CALL) => {}
        }
        self.over.cancel();
    }

    /// Resolves when clients are to take other connections.
    pub(super) fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.begun.cancelled()
    }

    /// Resolves when idle connections are to be closed.
    pub(super) fn over(&self) -> WaitForCancellationFuture<'_> {
        self.over.cancelled()
    }

    /// Closes the connection with each answer since it has begun.
    pub(super) fn layer<B>(
        &self,
    ) -> MapResponseLayer<impl FnMut(Response<B>) -> Response<B> + Clone + use<B>> {
        let begun = self.begun.clone();
        MapResponseLayer::new(move |mut answer: Response<B>| {
            if begun.is_cancelled() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            answer
        })
    }
}
