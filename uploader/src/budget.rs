//! The global budget of body bytes in memory. Bytes are taken for what was received, never while
//! waiting for a client, and given back when they are stored.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An upload that gets no memory for this long flushes what it holds and frees it.
pub const PRESSURE: Duration = Duration::from_secs(5);

/// The bytes that may be held.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Semaphore>);

/// Bytes that are held.
#[derive(Debug, Default)]
pub struct Held(Option<OwnedSemaphorePermit>);

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let permits = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(permits)))
    }

    /// Takes `bytes` for a chunk that was received; false after 5 s without room.
    pub async fn take(&self, held: &mut Held, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else {
            return false;
        };
        let taken =
            tokio::time::timeout(PRESSURE, Arc::clone(&self.0).acquire_many_owned(bytes)).await;
        match taken {
            Ok(Ok(permit)) => {
                match &mut held.0 {
                    Some(all) => all.merge(permit),
                    none => *none = Some(permit),
                }
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Bytes still free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.available_permits()
    }
}

impl Held {
    /// Hands over all that is held.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn memory_is_counted_until_it_is_given_back() {
        let budget = Budget::new(10);
        let mut first = Held::default();
        let mut second = Held::default();
        assert!(budget.take(&mut first, 6).await);
        assert!(budget.take(&mut first, 2).await);
        assert!(
            budget.take(&mut second, 3).now_or_never().is_none(),
            "no room: it waits"
        );
        drop(first.take());
        assert!(budget.take(&mut second, 3).await, "room again");
        assert_eq!(budget.free(), 7);
    }
}
