//! Deletions by others: told to who may have to call them a cancel, before the job is forgotten.

use kinora_engine::Uid;

use super::run::Core;
use crate::ports::ForeignDeletion;

/// Jobs that a call found gone before the watch showed it; more are left to the audit.
const MAX_AHEAD: usize = 10_000;

impl Core {
    /// The watch shows a deletion. Only then is it surely one: who listed anew cannot tell it from a loss.
    pub(super) fn note_deletion(&mut self, uid: Uid) {
        let known = self.foreign_deletion(uid);
        let Some(deletion) = known.or_else(|| self.memory.found_gone.remove(&uid)) else {
            return;
        };
        let name = deletion.name.clone();
        if self.deletions.try_send(deletion).is_err() {
            // No cancel then: the audit brings it back.
            self.losses.notify_one();
            tracing::warn!(job = name, "too many deletions to judge");
        }
    }

    /// A call of ours found the job gone: the engine forgets it, and the watch tells later.
    pub(super) fn note_gone(&mut self, uid: Uid) {
        if self.memory.found_gone.len() < MAX_AHEAD
            && let Some(deletion) = self.foreign_deletion(uid)
        {
            self.memory.found_gone.insert(uid, deletion);
        }
    }

    /// A listing lacks it, and nobody knows why.
    pub(super) fn note_missing(&mut self, uid: Uid) {
        let known = self.memory.found_gone.remove(&uid).is_some();
        if known || self.foreign_deletion(uid).is_some() {
            self.losses.notify_one();
        }
    }

    fn foreign_deletion(&self, uid: Uid) -> Option<ForeignDeletion> {
        let job = self.engine.job(uid)?;
        if job.spec.declared || !self.engine.is_foreign_deletion(uid) {
            return None;
        }
        let address = self.memory.address(uid)?;
        Some(ForeignDeletion {
            namespace: address.namespace.to_string(),
            name: address.name.to_string(),
            uid: address.uid.to_string(),
            created_ms: job.spec.created.0,
            attempts: job.status.attempt,
            redrives: job.status.redrives,
        })
    }
}
