//! Readiness: the store answers, its self-test passed, and its clock and ours agree. A replica
//! that is not ready mints no id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kinora_storage::Store;
use kinora_storage::selftest::MAX_SKEW_SECONDS;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
/// After so many looks in vain, one after the other, what waits for the store waits no longer.
const GONE: u32 = 2;

/// What is known; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    store: AtomicBool,
    draining: AtomicBool,
    /// Looks in vain since the store answered last.
    misses: watch::Sender<u32>,
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
        let missed = |misses: &mut u32| *misses = if answers { 0 } else { *misses + 1 };
        self.0.misses.send_modify(missed);
    }

    /// Resolves when the store is away, and not for a moment only.
    pub async fn store_gone(&self) {
        let mut misses = self.0.misses.subscribe();
        // The sender is here.
        let _ = misses.wait_for(|misses| *misses >= GONE).await;
    }

    /// This process is about to end.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Asks the store every 5 s until the end.
    pub async fn watch(self, store: Store, end: CancellationToken) {
        while !end.is_cancelled() {
            let answers = match tokio::time::timeout(EVERY, store.head("control/absent")).await {
                Ok(Ok(_)) => true,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "not ready");
                    false
                }
                Err(_) => {
                    tracing::warn!("not ready: the object store does not answer within 5 s");
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use futures::FutureExt;
    use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
    use kinora_storage::StoreArgs;

    use super::*;

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(60), "never {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// covers: F61
    #[tokio::test]
    async fn a_replica_is_not_ready_while_the_store_s_name_is_not_found_and_is_when_it_is() {
        let s3 = FakeS3::start(Behaviour::aws()).unwrap();
        let found = Arc::new(Mutex::new(None));
        let names = found.clone();
        let lookup: kinora_storage::Lookup = Arc::new(move |_| {
            let address = *names.lock().unwrap();
            let answer = address.ok_or_else(|| std::io::Error::other("SERVFAIL"));
            Box::pin(async move { answer.map(|address: std::net::IpAddr| vec![address]) })
        });
        let endpoint = s3.endpoint().replace("127.0.0.1", "store.test");
        let args = StoreArgs::new(endpoint, BUCKET, s3.credentials_dir());
        let store = Store::with_names(&args, lookup).unwrap();
        let (ready, end) = (Ready::default(), CancellationToken::new());
        ready.set_store(true);
        let watching = tokio::spawn(ready.clone().watch(store.clone(), end.clone()));
        until("not ready", || ready.check(&store).is_err()).await;
        *found.lock().unwrap() = Some([127, 0, 0, 1].into());
        until("ready", || ready.check(&store).is_ok()).await;
        end.cancel();
        watching.await.unwrap();
    }

    /// covers: F14
    #[test]
    fn a_store_is_gone_after_two_looks_in_vain_and_back_after_one_answer() {
        let ready = Ready::default();
        for (looks, gone) in [
            ([false, false].as_slice(), true),
            (&[true, false], false),
            (&[false], true),
            (&[false, true], false),
            (&[false, true, false], false),
        ] {
            looks.iter().for_each(|answers| ready.set_store(*answers));
            let known = ready.store_gone().now_or_never().is_some();
            assert_eq!(known, gone, "{looks:?}");
        }
    }
}
