//! Whether the operator wants more jobs, and Kubernetes has room for them. Above the operator's watermark, and while a quota
//! or etcd's space is used up, uploads are still taken and wait in the outbox; only when that has grown too old are new ones
//! refused.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kinora_storage::UploadId;
use lru::LruCache;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
/// New uploads are refused while no jobs can be made and the oldest entry is older than this.
const TOO_OLD_SECONDS: u64 = 6 * 3600;

/// Entries that nobody will take are remembered, up to this many.
const STUCK: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

#[derive(Debug, Deserialize)]
struct Answer {
    admit: bool,
}

/// What is known; clones share it. Open until somebody says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Admission(Arc<Known>);

#[derive(Debug)]
struct Known {
    closed: AtomicBool,
    full: AtomicBool,
    oldest_pending_seconds: AtomicU64,
    started: Instant,
    stuck: Mutex<LruCache<UploadId, ()>>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            closed: AtomicBool::default(),
            full: AtomicBool::default(),
            oldest_pending_seconds: AtomicU64::default(),
            started: Instant::now(),
            stuck: Mutex::new(LruCache::new(STUCK)),
        }
    }
}

impl Known {
    fn stuck(&self) -> MutexGuard<'_, LruCache<UploadId, ()>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Whether an outbox entry was refused for itself when it was tried: its age says nothing of how jobs come on.
    #[must_use]
    pub fn is_stuck(&self, id: &UploadId) -> bool {
        self.0.stuck().contains(id)
    }

    /// How long this process has seen entries wait. While no jobs can be made it tries none, and what an old one waits for is not
    /// known.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Remembers one.
    pub fn note_stuck(&self, id: &UploadId) {
        self.0.stuck().put(id.clone(), ());
    }

    /// Whether jobs may be created now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.0.closed.load(Ordering::Relaxed)
    }

    /// Whether new uploads are to be refused.
    #[must_use]
    pub fn refuses_uploads(&self) -> bool {
        let waits = !self.is_open() || self.0.full.load(Ordering::Relaxed);
        waits && self.0.oldest_pending_seconds.load(Ordering::Relaxed) > TOO_OLD_SECONDS
    }

    /// Whether Kubernetes had no room for the last job. It is asked again by the next sweep, with one job.
    pub fn set_full(&self, full: bool) {
        self.0.full.store(full, Ordering::Relaxed);
    }

    /// What the operator said.
    pub fn set_open(&self, open: bool) {
        self.0.closed.store(!open, Ordering::Relaxed);
    }

    /// What the sweep saw.
    pub fn set_oldest_pending(&self, seconds: u64) {
        self.0
            .oldest_pending_seconds
            .store(seconds, Ordering::Relaxed);
    }

    /// Asks the operator every 5 s until the end; no answer means open.
    pub async fn watch(self, url: String, end: CancellationToken) {
        let client = match client() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "no HTTP client: admission counts as open");
                return;
            }
        };
        while !end.is_cancelled() {
            let open = ask(&client, &url).await.unwrap_or(true);
            if open != self.is_open() {
                tracing::info!(open, "admission changed");
            }
            self.set_open(open);
            tokio::select! {
                () = end.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}

/// The operator answers over plain HTTP. A client that looks for the system's certificate authorities could not be built in
/// an image that has none.
fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_certs_only([])
        .timeout(TIMEOUT)
        .build()
}

async fn ask(client: &reqwest::Client, url: &str) -> Option<bool> {
    let answer = client.get(url).send().await.ok()?;
    let answer: Answer = answer.error_for_status().ok()?.json().await.ok()?;
    Some(answer.admit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_made() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        client().unwrap();
    }

    /// Again in a process that is as bare as the image.
    #[test]
    fn a_client_is_made_where_the_system_has_no_certificate_authorities() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "admission::tests::a_client_is_made"])
            .env("SSL_CERT_FILE", "/nonexistent")
            .env("SSL_CERT_DIR", "/nonexistent")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    }

    /// covers: F9
    #[test]
    fn uploads_are_refused_only_when_no_job_can_be_made_and_the_outbox_is_old() {
        let cases = [
            ("open, young", true, false, 10, false),
            ("open, old", true, false, 7 * 3600, false),
            ("closed, young", false, false, 10, false),
            ("closed, old", false, false, 7 * 3600, true),
            ("full, young", true, true, 10, false),
            ("full, old", true, true, 7 * 3600, true),
        ];
        for (name, open, full, oldest, want) in cases {
            let admission = Admission::default();
            admission.set_open(open);
            admission.set_full(full);
            admission.set_oldest_pending(oldest);
            assert_eq!(admission.refuses_uploads(), want, "{name}");
        }
    }
}
