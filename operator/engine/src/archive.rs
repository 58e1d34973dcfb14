//! From the end of a job to its deletion: record, cleaning, waiting, read back, gone.
//!
//! Nothing is remembered across leaders: a new one asks the store about every final job it finds.

use std::time::Duration;

use crate::job::{Phase, Spec, Status};
use crate::policy::PoolPolicy;
use crate::time::Wall;

/// Dead letters of a cell that stay as VideoJobs; beyond, the oldest live in their records only.
pub const MAX_DEAD_LETTERS: usize = 20_000;

/// Succeeded and cancelled uploads of a cell that stay as VideoJobs: a million a day with a TTL of a day would fill etcd. Beyond,
/// the oldest go before their time, and their records answer for them.
pub const MAX_FINISHED: usize = 50_000;
/// None of them goes sooner than so many milliseconds after its end: the least TTL of an upload.
pub const LEAST_STAY_MS: i64 = 900_000;

/// How far the archive of a final job is known to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Archive {
    /// Somebody else may have written the record.
    #[default]
    Unknown,
    /// There is no record, or only one of an earlier redrive.
    ToWrite,
    /// The record is written; the `active/` entry and losing outputs may still be there.
    ToClean,
    /// As [`Archive::ToClean`], but the record was there before: most likely nothing is left to clean.
    Found,
    /// Nothing to do before the TTL.
    Done,
    /// The TTL is past and the record was read back.
    Confirmed,
}

/// When a final job may be deleted; `None`: never.
#[must_use]
pub fn expiry(spec: &Spec, status: &Status, policy: Option<&PoolPolicy>) -> Option<Wall> {
    let finished = status.finished?;
    let ttl = match status.phase {
        Phase::Succeeded | Phase::Cancelled => spec.ttl?,
        // A declared job that was deleted would be made and run again by whatever declares it.
        Phase::DeadLettered if spec.declared && spec.ttl.is_none() => return None,
        Phase::DeadLettered => dead_letter_ttl(spec, policy),
        Phase::Queued | Phase::Running | Phase::Backoff | Phase::Suspended => return None,
    };
    Some(finished + ttl)
}

fn dead_letter_ttl(spec: &Spec, policy: Option<&PoolPolicy>) -> Duration {
    let of_pool = policy.map_or_else(
        || PoolPolicy::default().dead_letter_ttl,
        |p| p.dead_letter_ttl,
    );
    of_pool.max(spec.ttl.filter(|_| !spec.declared).unwrap_or_default())
}
