//! Uploads that a client began here. How they went on is not known here, another replica may have
//! ended them: so before one is refused, the store is asked which of them are still open.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use kinora_storage::{Object, Store, StoreError, UploadId, keys};
use kinora_upload_engine::{Phase, State};
use lru::LruCache;

use super::buckets::Key;

/// Looks at the store at a time.
const LOOKS: usize = 16;

#[derive(Debug, Default)]
struct Ids {
    known: Mutex<VecDeque<UploadId>>,
    /// One request at a time asks the store.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
pub(super) struct OpenUploads(Mutex<LruCache<Key, Arc<Ids>>>);

impl Ids {
    fn known(&self) -> MutexGuard<'_, VecDeque<UploadId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenUploads {
    pub(super) fn new(remembered: usize) -> Self {
        let most = NonZeroUsize::new(remembered).unwrap_or(NonZeroUsize::MIN);
        Self(Mutex::new(LruCache::new(most)))
    }

    fn of(&self, key: Key) -> Arc<Ids> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.get_or_insert(key, Arc::default))
    }

    /// Remembers an upload.
    pub(super) fn add(&self, key: Key, id: UploadId) {
        let ids = self.of(key);
        let mut known = ids.known();
        if !known.contains(&id) {
            known.push_back(id);
        }
    }

    /// Whether fewer than `most` are open.
    pub(super) async fn has_room(
        &self,
        key: Key,
        most: usize,
        store: &Store,
    ) -> Result<bool, StoreError> {
        let ids = self.of(key);
        let _alone = ids.asking.lock().await;
        if ids.known().len() < most {
            return Ok(true);
        }
        let known = ids.known().clone();
        let looks = stream::iter(known).map(|id| async move {
            let state = store.get_document(&keys::state(&id)).await?;
            // What is whole may wait for its job, for hours: its client has nothing more to send.
            let over = |object: Object| {
                State::parse(&object.bytes)
                    .is_ok_and(|doc| matches!(doc.phase, Phase::Dead | Phase::Finishing))
            };
            Ok(state.is_none_or(over).then_some(id))
        });
        let ended: Vec<Option<UploadId>> = looks.buffered(LOOKS).try_collect().await?;
        let ended: HashSet<UploadId> = ended.into_iter().flatten().collect();
        let mut known = ids.known();
        known.retain(|id| !ended.contains(id));
        Ok(known.len() < most)
    }
}
