//! The writers of this process by upload, so that a request for an upload that is being written
//! here can ask the writer to close instead of waiting for it.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use kinora_storage::UploadId;
use tokio_util::sync::CancellationToken;

/// A writer that was asked has closed within this, or the asker goes on and polls the store.
const CLOSES_WITHIN: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
struct Handle {
    close: CancellationToken,
    closed: CancellationToken,
}

/// All writers of this process.
#[derive(Clone, Debug, Default)]
pub struct Writers(Arc<DashMap<UploadId, Handle>>);

/// A writer's place in the list; leaving scope says that it has closed.
#[derive(Debug)]
pub struct Registration {
    id: UploadId,
    handle: Handle,
    writers: Writers,
}

impl Writers {
    /// Lists a writer. An older one of the same upload was fenced off and is asked to end.
    #[must_use]
    pub fn register(&self, id: &UploadId) -> Registration {
        let handle = Handle {
            close: CancellationToken::new(),
            closed: CancellationToken::new(),
        };
        if let Some(older) = self.0.insert(id.clone(), handle.clone()) {
            older.close.cancel();
        }
        Registration {
            id: id.clone(),
            handle,
            writers: self.clone(),
        }
    }

    /// Asks the writer of this upload to close and waits a moment; false if there is none here.
    pub async fn ask(&self, id: &UploadId) -> bool {
        let Some(handle) = self.0.get(id).map(|entry| entry.value().clone()) else {
            return false;
        };
        handle.close.cancel();
        // Whether or not it is done in time: the state object tells.
        let _ = tokio::time::timeout(CLOSES_WITHIN, handle.closed.cancelled()).await;
        true
    }

    /// How many write now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody writes now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Registration {
    /// Resolves when the writer is asked to close.
    pub async fn asked(&self) {
        self.handle.close.cancelled().await;
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.handle.close.is_cancelled()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.handle.closed.cancel();
        // A later writer of the same upload may hold the place now.
        self.writers
            .0
            .remove_if(&self.id, |_, there| there.closed.is_cancelled());
    }
}
