//! What was called, how often and how much at once, for the tests to hold against what Kinora promises.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Keys beyond this are counted in the totals only.
const MAX_KEYS: usize = 100_000;

/// The counts, as `/calls` shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Calls begun.
    pub total: u64,
    /// Running now.
    pub in_flight: u64,
    /// The most that ran at once.
    pub max_in_flight: u64,
    /// Ended with a result.
    pub succeeded: u64,
    /// Ended with a status.
    pub failed: u64,
    /// Given up by the caller.
    pub cancelled: u64,
    /// Answered from memory instead of transcoding again.
    pub remembered: u64,
    /// Calls begun by idempotency key.
    pub calls: BTreeMap<String, u64>,
}

/// Shared counts.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    counts: Arc<Mutex<Counts>>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a result.
    Succeeded,
    /// With a status.
    Failed,
    /// The caller went away.
    Cancelled,
}

/// A running call. Dropped without [`Entry::end`] it counts as cancelled.
#[derive(Debug)]
pub struct Entry {
    ledger: Ledger,
    ending: Ending,
}

impl Ledger {
    /// A call begins.
    #[must_use]
    pub fn enter(&self, key: &str) -> Entry {
        let mut counts = self.lock();
        counts.total += 1;
        counts.in_flight += 1;
        counts.max_in_flight = counts.max_in_flight.max(counts.in_flight);
        if counts.calls.len() < MAX_KEYS || counts.calls.contains_key(key) {
            *counts.calls.entry(key.to_owned()).or_default() += 1;
        }
        Entry {
            ledger: self.clone(),
            ending: Ending::Cancelled,
        }
    }

    /// A call was answered from memory.
    pub fn remembered(&self) {
        self.lock().remembered += 1;
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Starts over; running calls stay counted as running.
    pub fn reset(&self) {
        let mut counts = self.lock();
        let in_flight = counts.in_flight;
        *counts = Counts {
            in_flight,
            max_in_flight: in_flight,
            ..Counts::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The call ends so.
    pub fn end(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut counts = self.ledger.lock();
        counts.in_flight = counts.in_flight.saturating_sub(1);
        match self.ending {
            Ending::Succeeded => counts.succeeded += 1,
            Ending::Failed => counts.failed += 1,
            Ending::Cancelled => counts.cancelled += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_key_by_ending_and_by_how_many_ran_at_once() {
        let ledger = Ledger::default();
        let (a, b) = (ledger.enter("k.0"), ledger.enter("k.0"));
        a.end(Ending::Succeeded);
        drop(b);
        ledger.enter("other.0").end(Ending::Failed);
        let counts = ledger.counts();
        assert_eq!(
            (counts.total, counts.in_flight, counts.max_in_flight),
            (3, 0, 2)
        );
        assert_eq!(
            (counts.succeeded, counts.failed, counts.cancelled),
            (1, 1, 1)
        );
        assert_eq!(counts.calls["k.0"], 2);
        ledger.reset();
        assert_eq!(ledger.counts(), Counts::default());
    }
}
