//! Turns for reading back what is stored: slices, and finished objects, each with turns of its own, so that neither
//! waits for the other. Such bytes are outside the budget of bodies, as whoever waits for them may hold a share of that
//! already: so only so many may be in memory at once, whoever reads them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const MIB: u64 = 1 << 20;
/// MiB in memory at once; what is larger has its turn alone.
const AT_ONCE: u32 = 16;

/// The turns of one replica for one kind of bytes.
#[derive(Debug)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE as usize)))
    }
}

impl Turns {
    /// Waits for a turn for so many bytes; it ends with the permit. Whoever has one may not wait for another.
    pub(super) async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let mib = u32::try_from(bytes.div_ceil(MIB)).unwrap_or(AT_ONCE);
        // The semaphore is never closed.
        Arc::clone(&self.0)
            .acquire_many_owned(mib.min(AT_ONCE))
            .await
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// covers: F6
    #[tokio::test]
    async fn so_much_is_read_back_at_once_and_the_largest_alone() {
        let turns = Turns::default();
        let first = turns.take(8 * MIB).await;
        let second = turns.take(7 * MIB + 1).await;
        assert!(turns.take(1).now_or_never().is_none(), "all are taken");
        drop(first);
        assert!(turns.take(8 * MIB).now_or_never().is_some());
        assert!(turns.take(1 << 40).now_or_never().is_none(), "not alone");
        drop(second);
        assert!(turns.take(1 << 40).now_or_never().is_some());
    }
}
