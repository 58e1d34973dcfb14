//! The states that this replica closed last. A PATCH that follows saves the read of the state: the
//! swap to `open` proves that it is still the stored one. Nothing is ever answered from here, and
//! losing it costs one read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use kinora_storage::UploadId;
use kinora_upload_engine::{Phase, State};

/// So many are remembered; a state is small, its metadata at most 4 KiB.
const MOST: usize = 1024;

/// Remembered states with their ETags.
#[derive(Debug, Default)]
pub struct Hints(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    states: HashMap<UploadId, (State, String)>,
    /// Oldest first; ids that were forgotten since are skipped.
    order: VecDeque<UploadId>,
}

impl Hints {
    /// Remembers a state that was stored just now under `etag`, if it is one to go on from.
    pub fn stored(&self, id: &UploadId, doc: &State, etag: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if doc.phase != Phase::Closed || doc.is_full() {
            seen.states.remove(id);
            return;
        }
        let there = seen
            .states
            .insert(id.clone(), (doc.clone(), etag.to_owned()));
        if there.is_none() {
            seen.order.push_back(id.clone());
        }
        while seen.order.len() > MOST {
            if let Some(oldest) = seen.order.pop_front() {
                seen.states.remove(&oldest);
            }
        }
    }

    /// Takes the state, if it ends at `offset`.
    #[must_use]
    pub fn take(&self, id: &UploadId, offset: u64) -> Option<(State, String)> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.states
            .remove(id)
            .filter(|(doc, _)| doc.offset == offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::blank_state;

    fn id(n: u64) -> UploadId {
        UploadId::from_parts(&"a".parse().unwrap(), n, 1)
    }

    #[test]
    fn only_what_was_closed_last_is_remembered_and_the_oldest_goes() {
        let hints = Hints::default();
        let closed = |n| blank_state(&id(n), "acme", "default", Some(9), 8);
        hints.stored(&id(0), &closed(0), "e");
        assert!(hints.take(&id(0), 5).is_none(), "another offset");
        assert!(hints.take(&id(0), 0).is_none(), "it was taken");

        hints.stored(&id(0), &closed(0), "e");
        hints.stored(&id(0), &closed(0).opened("n"), "f");
        assert!(hints.take(&id(0), 0).is_none(), "somebody writes");

        for n in 0..=MOST as u64 {
            hints.stored(&id(n), &closed(n), "e");
        }
        assert!(hints.take(&id(0), 0).is_none(), "the oldest");
        assert!(hints.take(&id(1), 0).is_some(), "the next");
        let seen = hints.0.lock().unwrap();
        assert!(seen.states.len() <= MOST && seen.order.len() <= MOST);
    }
}
