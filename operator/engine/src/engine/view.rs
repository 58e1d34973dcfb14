//! What the rest of the operator may see of the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Engine;
use crate::archive::Archive;
use crate::event::Lead;
use crate::ids::{AttemptId, PoolName, SessionId, Uid};
use crate::index::ArchiveBacklog;
use crate::job::Job;
use crate::schedule::breaker::State;
use crate::time::{Mono, Wall};
use crate::workers::Worker;

/// Backoff jobs that come due this soon count as claimable.
const SOON: Duration = Duration::from_secs(30);

/// Counts of one pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolView {
    /// Queued or in backoff.
    pub queued: u32,
    /// Could be claimed now or within 30 s; none while the pool is suspended.
    pub claimable: u32,
    /// Running.
    pub running: u32,
    /// Neither final nor suspended.
    pub unfinished: u32,
    /// Creation of the oldest claimable job.
    pub oldest: Option<Wall>,
    /// Mean seconds of a call.
    pub call_seconds: Option<f64>,
    /// Calls at once that the limiter allows; `None`: only slots limit them.
    pub effective_limit: Option<u32>,
    /// Until when the service is left alone, which throttles the fewest calls; a time that is past says nothing.
    pub paused_until: Option<Mono>,
    /// The circuit breaker.
    pub breaker: State,
    /// The breaker is not closed because the service does not know us.
    pub refused: bool,
}

impl Engine {
    /// Who leads.
    #[must_use]
    pub fn lead(&self) -> Lead {
        self.lead
    }

    /// The facts of a job.
    #[must_use]
    pub fn job(&self, uid: Uid) -> Option<Job> {
        self.index.job(uid)
    }

    /// Whether its record is written and nothing is left to do before its TTL.
    #[must_use]
    pub fn is_archived(&self, uid: Uid) -> bool {
        let archive = self.index.archive(uid);
        matches!(archive, Some(Archive::Done | Archive::Confirmed))
    }

    /// Whether it can go on only once its record was looked for: to its next attempt, or back from the dead letters.
    #[must_use]
    pub fn is_pressing(&self, uid: Uid) -> bool {
        let open = self.index.job(uid).map(|job| !job.status.phase.is_final());
        let wanted = self.live.get(&uid).is_some_and(|l| l.redrive.is_some());
        open.is_some_and(|open| open || wanted)
    }

    /// The worker behind a stream.
    #[must_use]
    pub fn worker_of(&self, session: SessionId) -> Option<Uid> {
        self.workers.of_session(session)
    }

    /// Whether this attempt runs on this worker, by the facts at hand.
    #[must_use]
    pub fn holds(&self, worker: Uid, attempt: AttemptId) -> bool {
        self.index
            .job(attempt.job)
            .is_some_and(|job| job.runs(attempt.attempt, worker))
    }

    /// Whether a report of this worker about this attempt would be judged, at once or after a read: worth keeping its texts.
    #[must_use]
    pub fn takes_report(&self, worker: Uid, attempt: AttemptId) -> bool {
        let is_later = self
            .index
            .job(attempt.job)
            .is_some_and(|job| attempt.attempt > job.status.attempt);
        let asks = || {
            self.live
                .get(&attempt.job)
                .is_none_or(|live| live.takes_question(worker, attempt.attempt))
        };
        self.holds(worker, attempt) || (is_later && asks())
    }

    /// Whether such a report waits for its verdict, or for the write that follows from it.
    #[must_use]
    pub fn keeps_report(&self, worker: Uid, attempt: AttemptId) -> bool {
        self.live.get(&attempt.job).is_some_and(|live| {
            let asked = live.questions.iter().map(|question| &question.report);
            asked
                .chain(&live.report)
                .any(|report| report.is_about(worker, attempt.attempt))
        })
    }

    /// How many jobs the index holds.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.index.len()
    }

    /// Non-final jobs.
    #[must_use]
    pub fn live_jobs(&self) -> u64 {
        self.index.live()
    }

    /// Non-final jobs of uploads.
    #[must_use]
    pub fn live_uploads(&self) -> u64 {
        self.index.live_uploads()
    }

    /// Jobs that wait for a pool that does not exist; none before pools were listed completely.
    #[must_use]
    pub fn jobs_without_pool(&self) -> u64 {
        if self.pools_known {
            self.index.without_pool()
        } else {
            0
        }
    }

    /// Whether jobs and pools were listed completely.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.jobs_known && self.pools_known
    }

    /// Writes that the transition table forbade, and that were therefore not made. Anything but zero is a fault of ours.
    #[must_use]
    pub fn illegal_writes(&self) -> u64 {
        self.illegal
    }

    /// Whether a read proved that the control plane went back in time: whatever is known here is worthless.
    #[must_use]
    pub fn history_went_back(&self) -> bool {
        self.went_back
    }

    /// Whether the end of this job, seen on the watch of a leader, is somebody's wish: not final, and not deleted by us.
    #[must_use]
    pub fn is_foreign_deletion(&self, uid: Uid) -> bool {
        let asked = self.live.get(&uid).and_then(|live| live.deleting);
        let open = self
            .index
            .job(uid)
            .is_some_and(|job| !job.status.phase.is_final() && asked != Some(job.rv));
        self.lead == Lead::Leader && open
    }

    /// How far archiving is behind; nothing at a replica that does not lead, which archives nothing.
    #[must_use]
    pub fn archive_backlog(&self) -> ArchiveBacklog {
        match self.lead {
            Lead::Leader => self.index.archive_backlog(),
            Lead::Standby | Lead::Doubtful => ArchiveBacklog::default(),
        }
    }

    /// Every worker, by pod uid.
    pub fn workers(&self) -> impl Iterator<Item = (&Uid, &Worker)> {
        self.workers.iter()
    }

    /// Counts of every pool that exists or has jobs.
    #[must_use]
    pub fn pools(&self, now: Wall) -> BTreeMap<PoolName, PoolView> {
        let due = self.index.due_until(now + SOON);
        let there = self.pools.iter().filter(|(_, p)| p.policy.is_some());
        let names: BTreeSet<PoolName> = there
            .map(|(name, _)| *name)
            .chain(self.index.counted_pools())
            .collect();
        names
            .into_iter()
            .map(|name| (name, self.pool_view(name, due.get(&name).copied())))
            .collect()
    }

    fn pool_view(&self, name: PoolName, due: Option<u32>) -> PoolView {
        let tally = self.index.tally(name);
        let pool = self.pools.get(&name);
        let reserved = pool.map_or(0, |p| p.reserved);
        let waiting = self
            .index
            .ready_len(name)
            .saturating_add(due.unwrap_or(0))
            .saturating_add(reserved);
        let policy = pool.and_then(|p| p.policy.as_ref());
        let suspended = policy.is_some_and(|policy| policy.suspended);
        PoolView {
            queued: tally.queued,
            claimable: if suspended { 0 } else { waiting },
            running: tally.running,
            unfinished: tally.queued.saturating_add(tally.running),
            oldest: self.index.oldest(name),
            call_seconds: pool.and_then(super::Pool::call_seconds),
            effective_limit: pool.and_then(super::Pool::effective_limit),
            paused_until: pool.and_then(super::Pool::paused_until),
            // Nobody calls for a pool that is gone.
            breaker: pool
                .filter(|p| p.policy.is_some())
                .map(super::Pool::breaker)
                .unwrap_or_default(),
            refused: pool.is_some_and(super::Pool::is_refused),
        }
    }
}
