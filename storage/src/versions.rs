//! Removing for good: on a bucket with versioning a deleted object lives on as a version, and what was overwritten too.
//! A lock of the bucket keeps such versions; they are left then, below a marker that hides them.

use std::collections::BTreeSet;

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;

use crate::error::{StoreError, StoreErrorKind};
use crate::observe::StoreCall;
use crate::store::Store;

/// Keys of one page of a listing; as many fit one DeleteObjects.
const PAGE: usize = 1000;

/// What a key is called that shows beside another whether markers can be removed.
const PROBE: &str = ".probe";
const NO_RIGHT: &str = "the store lets no version be removed: give the key in --store-credentials-dir the right \
                        s3:DeleteObjectVersion";

/// What of an object is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// The object and all its versions.
    Everything,
    /// Its earlier versions only.
    Earlier,
}

/// Where a listing of versions goes on: a key, and a version of it.
type After = (Option<String>, Option<String>);

impl Store {
    /// Removes what is under `prefix` with its versions; a prefix without a slash at its end is one key. On a store
    /// without versions there are no earlier ones. The number of versions that are left because they are locked: with
    /// [`Purge::Everything`] they are hidden.
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names; `AccessDenied` also where no version at all may be removed. Repeating it is safe.
    pub async fn purge(&self, prefix: &str, what: Purge) -> Result<u64, StoreError> {
        if what == Purge::Everything {
            self.hide(prefix).await?;
        }
        let old = |key: Option<&str>, latest: Option<bool>| {
            let goes = what == Purge::Everything || latest != Some(true);
            goes && key.is_some_and(|key| is_under(key, prefix))
        };
        let (mut left, mut locked) = (0, BTreeSet::new());
        let (mut markers, mut after) = (Vec::new(), (None, None));
        while let Some(page) = self.list_versions(prefix, after).await? {
            let versions = page.versions().iter();
            let versions = versions.filter(|one| old(one.key(), one.is_latest()));
            let versions: Vec<_> = versions.map(|one| (one.key(), one.version_id())).collect();
            for key in self.delete_versions(&versions).await? {
                left += 1;
                locked.insert(key);
            }
            let found = page.delete_markers().iter();
            let found = found.filter(|one| old(one.key(), one.is_latest()));
            let found = found.filter_map(|one| one.key.clone().zip(one.version_id.clone()));
            markers.extend(found);
            let next = page.next_key_marker;
            let next = next.filter(|_| page.is_truncated == Some(true));
            // A marker goes after all that it hides, of which there may be more on the next page, and stays with it.
            let (wait, mut ready): (Vec<_>, Vec<_>) = markers
                .into_iter()
                .partition(|(key, _)| next.as_ref() == Some(key));
            ready.retain(|(key, _)| !locked.contains(key));
            self.delete_markers(&ready).await?;
            if next.is_none() {
                break;
            }
            (markers, after) = (wait, (next, page.next_version_id_marker));
        }
        if let Some(key) = locked.first() {
            self.may_remove_versions(key).await?;
        }
        Ok(left)
    }

    /// Removes what anybody sees under `prefix`.
    async fn hide(&self, prefix: &str) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.list(prefix, after.as_deref(), PAGE).await?;
            let keys = page.entries.into_iter().map(|entry| entry.key);
            let keys: Vec<String> = keys.filter(|key| is_under(key, prefix)).collect();
            self.delete_many(&keys).await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// A page of versions; none where the store has none to list.
    async fn list_versions(
        &self,
        prefix: &str,
        (key, version): After,
    ) -> Result<Option<ListObjectVersionsOutput>, StoreError> {
        let action = StoreCall::List.on(format!("list the versions of {prefix}"));
        let call = self
            .client()
            .list_object_versions()
            .bucket(self.bucket())
            .prefix(prefix)
            .set_key_marker(key)
            .set_version_id_marker(version)
            .max_keys(i32::try_from(PAGE).unwrap_or(1));
        let call = async { call.send().await.map_err(|e| self.classify(&action, e)) };
        match self.once(&action, self.short(), call).await {
            Ok(page) => Ok(Some(page)),
            Err(error) if matches!(error.status, Some(405 | 501)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A version that is refused is locked, unless the right to remove any is missing: the store says the same of both.
    /// No lock holds a marker, so one of a key beside it, which nobody reads, is made and removed.
    async fn may_remove_versions(&self, refused: &str) -> Result<(), StoreError> {
        let beside = format!("{refused}{PROBE}");
        let left = self.list_versions(&beside, (None, None)).await?;
        let left = left.and_then(|page| page.delete_markers().first()?.version_id.clone());
        let marker = match left {
            Some(marker) => marker,
            None => match self.put_marker(&beside).await? {
                Some(marker) => marker,
                // A store that makes none of what is not there leaves it open.
                None => return Ok(()),
            },
        };
        self.delete_markers(&[(beside, marker)]).await
    }

    async fn put_marker(&self, key: &str) -> Result<Option<String>, StoreError> {
        let action = StoreCall::Delete.on(format!("put a marker at {key}"));
        let call = self.client().delete_object().bucket(self.bucket()).key(key);
        let call = async { call.send().await.map_err(|e| self.classify(&action, e)) };
        let made = self.once(&action, self.short(), call).await?;
        Ok(made.version_id)
    }

    /// No lock holds a marker: one that is refused tells that a right is missing.
    async fn delete_markers(&self, markers: &[(String, String)]) -> Result<(), StoreError> {
        let named = markers.iter().map(|(key, id)| (Some(&**key), Some(&**id)));
        let named: Vec<_> = named.collect();
        match self.delete_all(&named, "markers").await {
            Err(error) if error.kind == StoreErrorKind::AccessDenied => {
                Err(StoreError::new(error.kind, error.action, NO_RIGHT))
            }
            done => done,
        }
    }
}

/// Whether it is meant by the prefix, or was left beside a key that is.
fn is_under(key: &str, prefix: &str) -> bool {
    let beyond = key.strip_prefix(prefix);
    prefix.ends_with('/') || beyond.is_some_and(|beyond| matches!(beyond, "" | PROBE))
}
