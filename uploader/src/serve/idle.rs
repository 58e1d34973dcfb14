//! The requests of a connection: how many there were, whether one runs, and since when there is none.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use tokio::time::Instant;
use tower::{Layer, Service};

/// Counts the running requests of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    all: AtomicUsize,
    running: AtomicUsize,
    last: Mutex<Instant>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            all: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        }
    }
}

impl Meter {
    pub(super) fn layer(&self) -> MeterLayer {
        MeterLayer(self.clone())
    }

    /// Requests so far.
    pub(super) fn seen(&self) -> usize {
        self.0.all.load(Ordering::Relaxed)
    }

    /// Whether one is not answered yet.
    pub(super) fn is_running(&self) -> bool {
        self.0.running.load(Ordering::Relaxed) > 0
    }

    /// Resolves when no request has run for so long.
    pub(super) async fn idle_for(&self, period: Duration) {
        loop {
            let last = *self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
            let running = self.is_running();
            let quiet = last.elapsed();
            if !running && quiet >= period {
                return;
            }
            let pause = if running { period } else { period - quiet };
            tokio::time::sleep(pause).await;
        }
    }

    /// The end of a connection that takes no more requests; `None` once all are answered for so long and it has not come: of an
    /// answer that its client makes no room for there is no other end.
    pub(super) async fn until_taken<T>(
        &self,
        connection: impl Future<Output = T>,
        within: Duration,
    ) -> Option<T> {
        let untaken = async {
            tokio::time::sleep(within).await;
            self.idle_for(within).await;
        };
        tokio::select! {
            ended = connection => Some(ended),
            () = untaken => None,
        }
    }

    /// A request that runs until the last clone of this is dropped.
    pub(super) fn enter(&self) -> Running {
        self.0.all.fetch_add(1, Ordering::Relaxed);
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::new(Ends(self.clone())))
    }
}

/// One running request; in its extensions, for whoever reads its body after the answer.
#[derive(Clone, Debug)]
pub(crate) struct Running(#[expect(dead_code, reason = "held")] Arc<Ends>);

#[derive(Debug)]
struct Ends(Meter);

impl Drop for Ends {
    fn drop(&mut self) {
        let Seen { running, last, .. } = &*self.0.0;
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone)]
pub(super) struct MeterLayer(Meter);

#[derive(Clone)]
pub(super) struct Metered<S> {
    inner: S,
    meter: Meter,
}

impl<S> Layer<S> for MeterLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered {
            inner,
            meter: self.0.clone(),
        }
    }
}

impl<S, B> Service<Request<B>> for Metered<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let running = self.meter.enter();
        request.extensions_mut().insert(running.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(running);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::metrics::Metrics;
    use crate::serve::{Caps, serve_counted};

    #[tokio::test]
    async fn a_connection_is_idle_only_without_requests() {
        let meter = Meter::default();
        let running = meter.enter();
        let period = Duration::from_millis(20);
        let waited = tokio::time::timeout(period * 5, meter.idle_for(period)).await;
        assert!(waited.is_err(), "a request runs");
        drop(running);
        meter.idle_for(period).await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_is_waited_for_once_all_are_given() {
        let meter = Meter::default();
        let within = Duration::from_millis(20);
        let ended = meter.until_taken(async { 7 }, within).await;
        assert_eq!(ended, Some(7), "it is taken");
        let running = meter.enter();
        let never = meter.until_taken(std::future::pending::<()>(), within);
        let mut never = std::pin::pin!(never);
        let waited = tokio::time::timeout(within * 5, never.as_mut()).await;
        assert!(waited.is_err(), "a request runs");
        drop(running);
        assert_eq!(never.await, None);
    }

    /// Proxies keep theirs for as long as theirs is set.
    #[tokio::test]
    async fn an_idle_connection_is_closed_after_the_time_that_is_set() {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let caps = Caps {
            idle: Duration::from_secs(1),
            ..Caps::default()
        };
        let end = CancellationToken::new();
        let serving = end.clone();
        let task = tokio::spawn(async move {
            serve_counted(listener, Router::new(), caps, &Metrics::default(), serving).await;
        });
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut answer));
        read.await.expect("it is closed").unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 404"));
        end.cancel();
        task.await.unwrap();
    }
}
