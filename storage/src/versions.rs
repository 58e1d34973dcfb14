//! Removing for good: on a bucket with versioning a deleted object lives on as a version, and what was overwritten too.

use crate::error::StoreError;
use crate::observe::StoreCall;
use crate::store::Store;

/// Keys of one page of a listing; as many fit one DeleteObjects.
const PAGE: i32 = 1000;

/// What of an object is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// The object and all its versions.
    Everything,
    /// Its earlier versions only.
    Earlier,
}

impl Store {
    /// Removes what is under `prefix` with its versions; a prefix without a slash at its end is one key. On a store
    /// without versions there are no earlier ones.
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names; repeating it is safe.
    pub async fn purge(&self, prefix: &str, what: Purge) -> Result<(), StoreError> {
        let ours = |key: &str| key == prefix || prefix.ends_with('/');
        if what == Purge::Everything {
            let mut after = None;
            loop {
                let page = self.list(prefix, after.as_deref(), 1000).await?;
                let keys = page.entries.into_iter().map(|entry| entry.key);
                let keys: Vec<String> = keys.filter(|key| ours(key)).collect();
                self.delete_many(&keys).await?;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        let (mut key, mut version) = (None, None);
        loop {
            let action = StoreCall::List.on(format!("list the versions of {prefix}"));
            let call = self
                .client()
                .list_object_versions()
                .bucket(self.bucket())
                .prefix(prefix)
                .set_key_marker(key.take())
                .set_version_id_marker(version.take())
                .max_keys(PAGE);
            let call = async { call.send().await.map_err(|e| self.classify(&action, e)) };
            let page = match self.once(&action, self.short(), call).await {
                Ok(page) => page,
                // It has no versions to list.
                Err(error) if matches!(error.status, Some(405 | 501)) => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut old = Vec::new();
            for found in page.versions() {
                let latest = found.is_latest() == Some(true);
                if !(latest && what == Purge::Earlier) {
                    old.push((found.key(), found.version_id()));
                }
            }
            for found in page.delete_markers() {
                let latest = found.is_latest() == Some(true);
                if !(latest && what == Purge::Earlier) {
                    old.push((found.key(), found.version_id()));
                }
            }
            old.retain(|(key, _)| key.is_some_and(ours));
            self.delete_all(&old, "versions").await?;
            if page.is_truncated() != Some(true) {
                return Ok(());
            }
            key = page.next_key_marker().map(str::to_owned);
            version = page.next_version_id_marker().map(str::to_owned);
        }
    }
}
