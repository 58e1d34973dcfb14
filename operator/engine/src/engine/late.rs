//! What comes after it was decided: proof of an interruption after the verdict Lost, and answers about jobs that are gone.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngCore;

use super::Engine;
use crate::action::Cause;
use crate::graves::Graves;
use crate::ids::{AttemptId, Uid};
use crate::job::Job;
use crate::outcome::Class;
use crate::schedule::ALONE_FROM;
use crate::time::{Mono, Now, Wall};

/// Proof that comes later than this after the verdict changes nothing.
const LATE_PROOF: Duration = Duration::from_secs(300);
/// More are not remembered.
const MAX_REMEMBERED: usize = 20_000;

/// A loss that was stored as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Verdict {
    started: Option<Wall>,
    until: Mono,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Late {
    verdicts: BTreeMap<(Uid, AttemptId), Verdict>,
    owed: BTreeMap<Uid, u32>,
    graves: Graves,
}

impl Late {
    /// This worker's attempt was stored as lost.
    pub(super) fn lost(
        &mut self,
        worker: Uid,
        attempt: AttemptId,
        started: Option<Wall>,
        now: Mono,
    ) {
        if self.verdicts.len() < MAX_REMEMBERED {
            let until = now + LATE_PROOF;
            self.verdicts
                .insert((worker, attempt), Verdict { started, until });
        }
    }

    /// Proof that the process that held it ended by itself. True: a verdict was waiting for it.
    pub(super) fn proved(&mut self, worker: Uid, attempt: AttemptId) -> bool {
        let waited = self.verdicts.remove(&(worker, attempt)).is_some();
        if waited {
            let owed = self.owed.entry(attempt.job).or_default();
            *owed = owed.saturating_add(1);
        }
        waited
    }

    /// The process that held it is over with it, and lives: its death, should it come, is none of this attempt's.
    pub(super) fn survived(&mut self, worker: Uid, attempt: AttemptId) {
        self.verdicts.remove(&(worker, attempt));
    }

    /// Attempts of a worker that were called lost, claimed before `end`.
    pub(super) fn of(&self, worker: Uid, end: Wall) -> Vec<AttemptId> {
        let from = (worker, AttemptId::default());
        let all = self
            .verdicts
            .range(from..)
            .take_while(|((w, _), _)| *w == worker);
        all.filter(|(_, verdict)| verdict.started.is_some_and(|at| at < end))
            .map(|((_, attempt), _)| *attempt)
            .collect()
    }

    /// Interruptions that the job's next write adds.
    pub(super) fn owed(&self, job: Uid) -> u32 {
        self.owed.get(&job).copied().unwrap_or(0)
    }

    /// So many were added.
    pub(super) fn paid(&mut self, job: Uid, count: u32) {
        let left = self.owed(job).saturating_sub(count);
        if left == 0 {
            self.owed.remove(&job);
        } else {
            self.owed.insert(job, left);
        }
    }

    /// The job is gone; its uid never comes back.
    pub(super) fn bury(&mut self, job: Uid, now: Mono) {
        self.owed.remove(&job);
        self.graves.dig(job, now);
    }

    /// Whether an answer about this job can only be older than its end.
    pub(super) fn is_buried(&self, job: Uid) -> bool {
        self.graves.holds(job)
    }

    /// The watch shows it: what was taken for its end was none.
    pub(super) fn unbury(&mut self, job: Uid) {
        self.graves.open(job);
    }

    pub(super) fn expire(&mut self, now: Mono) {
        self.verdicts.retain(|_, verdict| verdict.until > now);
        self.graves.expire(now);
    }
}

impl Engine {
    /// The process that held this attempt is over. A loss that was stored before is an interruption after all.
    pub(super) fn prove_late(
        &mut self,
        worker: Uid,
        attempt: AttemptId,
        by_itself: bool,
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        if by_itself && self.late.proved(worker, attempt) {
            // Waiting, it may want a worker for itself from now on.
            self.index.unqueue(attempt.job);
            self.review(attempt.job, now, rng);
        }
    }

    /// Whether a job with so many interruptions, and those that are owed, gets a worker for itself.
    pub(super) fn is_suspect(&self, job: Uid, interruptions: u32) -> bool {
        interruptions.saturating_add(self.late.owed(job)) >= ALONE_FROM
    }

    /// Interruptions that were stored by a write which is not awaited (any more) may be those that are owed: one that was given up
    /// and came late, or that of another time as leader. Nothing is charged twice.
    pub(super) fn note_charges(&mut self, job: &Job) {
        let known = self.index.job(job.uid).filter(|known| known.rv < job.rv);
        if let Some(known) = known {
            let charged = job.status.interruptions;
            let count = charged.saturating_sub(known.status.interruptions);
            self.late.paid(job.uid, count);
        }
    }

    /// Of an attempt that is called lost: proof that comes soon may still make it an interruption. A heartbeat without it, or a
    /// stream that only fell silent, say nothing of the process's death.
    pub(super) fn missed(&self, job: &Job, cause: Cause) -> Option<(Uid, AttemptId, Option<Wall>)> {
        let lost = matches!(
            cause,
            Cause::Ended(Class::Lost) | Cause::Reclaimed(Class::Lost)
        );
        let worker = job.status.worker.filter(|_| lost)?;
        let attempt = AttemptId {
            job: job.uid,
            attempt: job.status.attempt,
        };
        let lease = self.workers.get(worker)?.leases.get(&attempt)?;
        (lease.proven || lease.cut).then_some((worker, attempt, job.status.started))
    }
}
