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
    use super::*;

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
}
