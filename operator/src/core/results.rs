//! What services returned beside the outputs, each kept until the record that holds it is written.
//!
//! Before its attempt is settled a result waits in [`super::reports`]; there is one bound for both.

use std::collections::HashMap;

use kinora_engine::Uid;

/// Bytes of results that wait, for their verdicts or for their records: 1,000 of the largest. A store that is away, or that
/// takes outputs and refuses records, would fill the memory otherwise; beyond, a record is written without its result.
pub(super) const MOST_BYTES: usize = 64 << 20;

/// All of them, by job.
#[derive(Debug, Default)]
pub(super) struct Results {
    all: HashMap<Uid, String>,
    bytes: usize,
}

impl Results {
    /// Keeps the result of a job, in place of an earlier one. It had its room already, in its report.
    pub(super) fn keep(&mut self, job: Uid, result: String) {
        self.drop(job);
        self.bytes += result.len();
        self.all.insert(job, result);
    }

    /// How much they are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The result of a job.
    pub(super) fn get(&self, job: Uid) -> Option<&String> {
        self.all.get(&job)
    }

    /// Nobody asks for it again.
    pub(super) fn drop(&mut self, job: Uid) {
        if let Some(result) = self.all.remove(&job) {
            self.bytes -= result.len();
        }
    }
}
