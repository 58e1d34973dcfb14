//! Uploads that a client began here. How they went on is not known here, another replica may have
//! ended them: so before one is refused, the store is asked which of them are still open.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use kinora_storage::{Object, Store, StoreError, UploadId, keys};
use kinora_upload_engine::{Phase, State};
use lru::LruCache;

use super::buckets::Key;

/// Looks at the store at a time.
const LOOKS: usize = 16;

type Ids = Arc<tokio::sync::Mutex<VecDeque<UploadId>>>;

#[derive(Debug)]
pub(super) struct OpenUploads(Mutex<LruCache<Key, Ids>>);

impl OpenUploads {
    pub(super) fn new(remembered: usize) -> Self {
        let most = NonZeroUsize::new(remembered).unwrap_or(NonZeroUsize::MIN);
        Self(Mutex::new(LruCache::new(most)))
    }

    fn of(&self, key: Key) -> Ids {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.get_or_insert(key, Ids::default))
    }

    /// Remembers an upload.
    pub(super) fn add(&self, key: Key, id: UploadId) {
        let ids = self.of(key);
        // Somebody is counting: it is one too few for a moment.
        if let Ok(mut ids) = ids.try_lock() {
            ids.push_back(id);
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
        let mut ids = ids.lock().await;
        if ids.len() < most {
            return Ok(true);
        }
        let looks = stream::iter(ids.iter().cloned()).map(|id| async move {
            let state = store.get_document(&keys::state(&id)).await?;
            let dead = |object: Object| {
                State::parse(&object.bytes).is_ok_and(|doc| doc.phase == Phase::Dead)
            };
            Ok(state.is_some_and(|object| !dead(object)).then_some(id))
        });
        let open: Vec<Option<UploadId>> = looks.buffered(LOOKS).try_collect().await?;
        *ids = open.into_iter().flatten().collect();
        Ok(ids.len() < most)
    }
}
