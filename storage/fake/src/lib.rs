//! An S3 in this process that fails on command: for tests and benchmarks, never shipped.
//!
//! [`FakeS3`] listens on a loopback port and speaks the protocol through `s3s`, signatures included. [`Behaviour`] says
//! what kind of store it is, [`Faults`] what goes wrong and when, [`Journal`] what was asked, and [`Clock`] what time it
//! says. `state` holds the bytes and decides, with `bucket` and `versions`; `objects` and `multipart` translate, `server`
//! moves and cuts connections.

mod behaviour;
mod bucket;
mod clock;
mod faults;
mod journal;
mod multipart;
mod objects;
mod server;
mod service;
mod state;
mod versions;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use behaviour::Behaviour;
pub use clock::Clock;
pub use faults::{Fault, Faults, Rule};
pub use journal::{Call, Journal, Op, Outcome};
use service::Shared;

/// The access key id the store knows.
pub const ACCESS_KEY_ID: &str = "kinora-test";
/// Its secret.
pub const SECRET_ACCESS_KEY: &str = "kinora-test-secret";
/// The bucket that exists.
pub const BUCKET: &str = "kinora";

/// A running store; it ends with the handle. It has a thread of its own, so any test may share it.
#[derive(Debug)]
pub struct FakeS3 {
    address: SocketAddr,
    shared: Arc<Shared>,
    credentials: tempfile::TempDir,
    stop: CancellationToken,
}

impl FakeS3 {
    /// Starts a store with one empty bucket on a free loopback port.
    ///
    /// # Errors
    /// If there is no port, thread or temporary directory.
    pub fn start(behaviour: Behaviour) -> std::io::Result<Self> {
        let credentials = tempfile::tempdir()?;
        std::fs::write(credentials.path().join("access-key-id"), ACCESS_KEY_ID)?;
        std::fs::write(
            credentials.path().join("secret-access-key"),
            SECRET_ACCESS_KEY,
        )?;
        let shared = Arc::new(Shared::new(behaviour));
        let stop = CancellationToken::new();
        let address = server::start(Arc::clone(&shared), stop.clone())?;
        Ok(Self {
            address,
            shared,
            credentials,
            stop,
        })
    }

    /// URL of the endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Directory with the files `access-key-id` and `secret-access-key`.
    #[must_use]
    pub fn credentials_dir(&self) -> &Path {
        self.credentials.path()
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What was asked.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// What time it is here.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Keys of the bucket that begin with `prefix`, in order.
    #[must_use]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.shared.state().keys(BUCKET, prefix)
    }

    /// The bytes of an object, past all faults.
    #[must_use]
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.shared.state().whole(BUCKET, key)
    }

    /// All versions of keys that begin with `prefix`, the newest of each first, as `(key, version id)`; ids of delete
    /// markers begin with `marker`.
    #[must_use]
    pub fn versions(&self, prefix: &str) -> Vec<(String, String)> {
        let state = self.shared.state();
        let versions = state.bucket(BUCKET).ok().and_then(|b| b.versions.as_ref());
        let listed = versions.map(|versions| versions.list(prefix, None));
        let listed = listed.unwrap_or_default().into_iter();
        listed.map(|(key, one, _)| (key, one.id())).collect()
    }

    /// Locks the versions that are there of keys that begin with `prefix`.
    pub fn lock(&self, prefix: &str) {
        self.edit_versions(|versions| versions.lock(prefix));
    }

    /// Whether the key of the store has the right to remove versions, as it does at first.
    pub fn may_remove_versions(&self, may: bool) {
        self.edit_versions(|versions| versions.forbidden = !may);
    }

    fn edit_versions(&self, edit: impl FnOnce(&mut versions::Versions)) {
        let mut state = self.shared.state();
        if let Ok(bucket) = state.bucket_mut(BUCKET) {
            bucket.versions.as_mut().map(edit);
        }
    }

    /// Multipart uploads that still hold parts or wait for some, as `(key, upload id)`.
    #[must_use]
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        self.shared.state().open_uploads(BUCKET)
    }
}

impl Drop for FakeS3 {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
