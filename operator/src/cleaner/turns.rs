//! When the next batch may be looked at and deleted.

use std::time::Instant;

use kinora_engine::Mono;
use kinora_engine::pace::Batches;

/// The rate of one pass.
#[derive(Debug)]
pub(super) struct Turns {
    batches: Batches,
    began: Instant,
}

impl Turns {
    /// So many objects a second, at most.
    pub(super) fn new(per_second: u32) -> Turns {
        Turns {
            batches: Batches::new(per_second.max(1).into()),
            began: Instant::now(),
        }
    }

    fn now(&self) -> Mono {
        Mono(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Looks through a batch, as late as its turn allows: a hold that is laid in the pause before counts.
    pub(super) async fn look<T>(&mut self, look: impl Future<Output = T>) -> T {
        tokio::time::sleep(self.batches.before_look(self.now())).await;
        let before = Instant::now();
        let seen = look.await;
        self.batches.looked(before.elapsed());
        seen
    }

    /// Waits for the turn of so many objects.
    pub(super) async fn take(&mut self, objects: usize) {
        let objects = u32::try_from(objects).unwrap_or(u32::MAX);
        let wait = self.batches.turns(objects, self.now());
        tokio::time::sleep(wait).await;
    }
}
