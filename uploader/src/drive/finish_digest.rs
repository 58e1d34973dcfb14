//! The one read of a finished object for digests that no running value tells.

use bytes::Bytes;
use kinora_upload_engine::Answer;
use kinora_upload_engine::finish::Facts;
use tokio::sync::OwnedSemaphorePermit;

use super::calls::failed;
use super::finish::Finisher;
use crate::digest::Whole;

/// So much is read at once: eight uploads have their turn together, with 512 reads for a GiB.
const STEP: u64 = 2 << 20;

impl Finisher {
    pub(super) async fn digest_video(&self, algorithms: &[String], facts: &Facts) -> Answer {
        let mut whole = Whole::of(algorithms);
        let mut at = 0;
        while at < facts.length {
            let to = facts.length.min(at + STEP);
            match self.piece(at, to).await {
                Ok((bytes, _turn)) => whole.update(&bytes),
                Err(answer) => return answer,
            }
            at = to;
        }
        Answer::Digests(whole.values())
    }

    /// Bytes `[from, to)`, and the turn that lasts as long as they are in memory.
    async fn piece(
        &self,
        from: u64,
        to: u64,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Answer> {
        if let Some(bytes) = self.ram.range(from, to) {
            return Ok((bytes.into_bytes(), None));
        }
        let turn = self.driver.app.object_turns.take(to - from).await;
        let key = &self.pending.key;
        match self.driver.app.store.get_range(key, from..to).await {
            Ok(Some(object)) if object.bytes.len() as u64 == to - from => Ok((object.bytes, turn)),
            Ok(_) => Err(Answer::Failed(format!("get {key}: it is not whole"))),
            Err(error) => Err(failed(&error)),
        }
    }
}
