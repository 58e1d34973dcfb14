//! The one read of a finished object for digests that no running value tells.

use kinora_upload_engine::Answer;
use kinora_upload_engine::finish::Facts;

use super::calls::failed;
use super::finish::Finisher;
use crate::digest::Whole;

/// So much is read at once; the digests of more never take more memory.
const STEP: u64 = 8 << 20;

impl Finisher {
    pub(super) async fn digest_video(&self, algorithms: &[String], facts: &Facts) -> Answer {
        let mut whole = Whole::of(algorithms);
        let mut at = 0;
        while at < facts.length {
            let to = facts.length.min(at + STEP);
            match self.piece(at, to).await {
                Ok(bytes) => whole.update(&bytes),
                Err(answer) => return answer,
            }
            at = to;
        }
        Answer::Digests(whole.values())
    }

    async fn piece(&self, from: u64, to: u64) -> Result<bytes::Bytes, Answer> {
        if let Some(bytes) = self.ram.range(from, to) {
            return Ok(bytes.into_bytes());
        }
        let key = &self.pending.key;
        match self.driver.app.store.get_range(key, from..to).await {
            Ok(Some(object)) if object.bytes.len() as u64 == to - from => Ok(object.bytes),
            Ok(_) => Err(Answer::Failed(format!("get {key}: it is not whole"))),
            Err(error) => Err(failed(&error)),
        }
    }
}
