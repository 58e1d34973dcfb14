//! Readiness: the store answers, its self-test passed, and its clock and ours agree. A replica
//! that is not ready mints no id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kinora_storage::Store;
use kinora_storage::selftest::MAX_SKEW_SECONDS;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);

/// What is known; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    store: AtomicBool,
    draining: AtomicBool,
}

impl Ready {
    /// Whether new uploads may be made here.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn check(&self, store: &Store) -> Result<(), &'static str> {
        if self.0.draining.load(Ordering::Relaxed) {
            return Err("this replica is shutting down");
        }
        if !self.0.store.load(Ordering::Relaxed) {
            return Err("the object store does not answer");
        }
        match store.store_time() {
            Some(skew) if skew.unsigned_abs() > MAX_SKEW_SECONDS => Err(
                "the clocks of this replica and of the object store differ by more than 5 minutes",
            ),
            Some(_) | None => Ok(()),
        }
    }

    /// The store answered, or did not.
    pub fn set_store(&self, answers: bool) {
        self.0.store.store(answers, Ordering::Relaxed);
    }

    /// This process is about to end.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Asks the store every 5 s until the end.
    pub async fn watch(self, store: Store, end: CancellationToken) {
        while !end.is_cancelled() {
            let answers = match store.head("control/absent").await {
                Ok(_) => true,
                Err(error) => {
                    tracing::warn!(%error, "not ready");
                    false
                }
            };
            self.set_store(answers);
            tokio::select! {
                () = end.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}
