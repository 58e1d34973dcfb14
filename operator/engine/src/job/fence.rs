//! What a worker's word about an attempt is worth, held against the stored status.

use super::{Job, Phase};
use crate::ids::Uid;
use crate::outcome::Class;

/// The answer of the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// The attempt runs, and is this worker's.
    Current,
    /// It ended with this worker's report: say so again.
    Accepted,
    /// Somebody else's, or ended otherwise. Final only when the facts come from a quorum read or an own write.
    Stale,
    /// The report knows a later attempt than the facts do: the facts are old.
    FactsAreOld,
}

/// Judges a report of `worker` about `attempt`. `class`: of its outcome.
#[must_use]
pub fn judge(job: &Job, attempt: u32, worker: Uid, class: Class) -> Fence {
    let status = &job.status;
    if attempt > status.attempt {
        return Fence::FactsAreOld;
    }
    if attempt < status.attempt || status.worker != Some(worker) {
        return Fence::Stale;
    }
    match status.phase {
        Phase::Running => Fence::Current,
        Phase::Cancelled => Fence::Stale,
        Phase::Succeeded if class != Class::Succeeded => Fence::Stale,
        Phase::Succeeded
        | Phase::Queued
        | Phase::Backoff
        | Phase::Suspended
        | Phase::DeadLettered => Fence::Accepted,
    }
}
