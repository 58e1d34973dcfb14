//! Which status follows which: every write of a job's status is made here, and only here.
//!
//! Each function takes the stored facts and returns the whole next status. Whether and when it is written is the engine's affair.

use std::time::Duration;

use rand::RngCore;

use super::ends::End;
use super::{Job, Phase, Reason, Spec, Status};
use crate::ids::{Symbol, Uid};
use crate::limits;
use crate::outcome::Class;
use crate::policy::PoolPolicy;
use crate::time::{Clock, Wall};

/// More calls of one job than this never haunt a service at once; a full list holds the next claim back.
pub const MAX_GHOSTS: usize = 8;

/// A verdict on an ended attempt: its class, and what the engine found out beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// Class of the end.
    pub class: Class,
    /// What the service asked for.
    pub retry_after: Option<Duration>,
    /// Rejected, and the pool has lately succeeded with others: believed at once.
    pub credible: bool,
    /// Unavailable, while the pool succeeds with others: counts as an interruption.
    pub alone: bool,
    /// Failed, and the source was not there.
    pub source_missing: bool,
    /// Failed, while the store could not be asked: nobody is charged.
    pub store_away: bool,
    /// The call may still be running: leave a ghost.
    pub call_may_run: bool,
}

impl Verdict {
    /// A plain end of this class.
    #[must_use]
    pub fn of(class: Class) -> Verdict {
        Verdict {
            class,
            retry_after: None,
            credible: false,
            alone: false,
            source_missing: false,
            store_away: false,
            call_may_run: false,
        }
    }
}

impl Job {
    fn next(&self, phase: Phase, reason: Reason, now: Wall) -> Status {
        let now = now.floor_second();
        let mut next = self.status.clone();
        let was_final = next.phase.is_final();
        let was_suspended = next.is_suspended();
        next.observed = self.generation;
        next.phase = phase;
        next.reason = reason;
        if !next.is_written() || was_final != phase.is_final() {
            next.since = Some(now);
        }
        if phase.is_final() {
            next.finished = next.finished.or(Some(now));
            next.next_attempt = None;
            next.mode_since = None;
        } else if next.mode_since.is_none() || was_suspended != (phase == Phase::Suspended) {
            next.mode_since = Some(now);
        }
        next
    }

    /// The first status of a declared job, and the note that a change of the spec was seen: nothing else moves.
    #[must_use]
    pub fn observed(&self, now: Wall) -> Status {
        self.next(self.status.phase, self.status.reason, now)
    }

    /// Waits for something outside: no such pool.
    #[must_use]
    pub fn blocked(&self, reason: Reason, now: Wall) -> Status {
        self.next(self.status.phase, reason, now)
    }

    /// The reason it shows while waiting, when nothing blocks it.
    #[must_use]
    pub fn unblocked(&self, now: Wall) -> Status {
        let reason = match self.status.phase {
            Phase::Backoff => Reason::Backoff,
            _ => Reason::Queued,
        };
        self.next(self.status.phase, reason, now)
    }

    /// Attempt + 1, for one worker only; for none yet if a pod is to be made for it. Only made by a clock that is right.
    #[must_use]
    pub fn claimed(&self, worker: impl Into<Option<Uid>>, pool: Symbol, now: Wall) -> Status {
        let mut next = self.next(Phase::Running, Reason::Processing, now);
        next.attempt = next.attempt.saturating_add(1);
        next.worker = worker.into();
        next.pool = Some(pool);
        next.started = Some(now.floor_second());
        next.next_attempt = None;
        next.ghosts.retain(|until| limits::is_ghost(*until, now));
        next
    }

    /// The pod of the attempt reported: from now on it is the holder, and the attempt's time runs.
    #[must_use]
    pub fn placed(&self, worker: Uid, now: Wall) -> Status {
        let mut next = self.next(Phase::Running, Reason::Processing, now);
        next.worker = Some(worker);
        next.started = Some(now.floor_second());
        next
    }

    /// Its lease goes out long after the claim, or on a claim that may be another leader's: the attempt's time runs from now
    /// on. Within the second that is stored, from the next: a write that changes nothing shows nothing.
    #[must_use]
    pub fn delayed(&self, now: Wall) -> Status {
        let mut next = self.next(Phase::Running, Reason::Processing, now);
        let at = now.floor_second();
        let is_same = self.status.started == Some(at);
        next.started = Some(at + Duration::from_secs(is_same.into()));
        next
    }

    /// The pod of the attempt cannot be made, is missing, or did not report in time: nobody is charged, and a full quota or
    /// node is given time.
    pub fn unplaced(&self, policy: &PoolPolicy, now: Wall, rng: &mut dyn RngCore) -> Status {
        let next = self.next(Phase::Queued, Reason::Queued, now);
        let end = End {
            job: self,
            verdict: Verdict::of(Class::Released),
            policy,
            now,
        };
        let next = end.uncharged_backoff(next, rng);
        self.held_if_asked(next, now)
    }

    /// Brought back from the dead letters: a new life with its budgets whole; the attempt goes on, so that what the old life
    /// left behind stays fenced.
    #[must_use]
    pub fn redriven(&self, by: Uid, now: Wall) -> Status {
        let mut next = self.next(Phase::Queued, Reason::Queued, now);
        next.redrives = next.redrives.saturating_add(1);
        next.redriven_by = Some(by);
        next.failures = 0;
        next.interruptions = 0;
        next.rejections = 0;
        next.uncharged = 0;
        next.active = Duration::ZERO;
        next.worker = None;
        next.started = None;
        next.finished = None;
        self.held_if_asked(next, now)
    }

    /// Held by its author.
    #[must_use]
    pub fn suspended(&self, now: Wall) -> Status {
        self.next(Phase::Suspended, Reason::Suspended, now)
    }

    /// Let go again: a wait that is not over goes on.
    #[must_use]
    pub fn resumed(&self, now: Wall) -> Status {
        match self.status.next_attempt {
            Some(due) if due > now => self.next(Phase::Backoff, Reason::Backoff, now),
            _ => {
                let mut next = self.next(Phase::Queued, Reason::Queued, now);
                next.next_attempt = None;
                next
            }
        }
    }

    /// Given up by its author. A call that may still run leaves a ghost.
    #[must_use]
    pub fn cancelled(&self, limit: Duration, call_may_run: bool, now: impl Into<Clock>) -> Status {
        let clock = now.into();
        let mut next = self.next(Phase::Cancelled, Reason::Cancelled, clock.wall);
        self.close_attempt(&mut next, limit, call_may_run, clock);
        next
    }

    /// Out of time.
    #[must_use]
    pub fn expired(&self, limit: Duration, call_may_run: bool, now: Wall) -> Status {
        let mut next = self.dead(Reason::DeadlineExceeded, now);
        self.close_attempt(&mut next, limit, call_may_run, now.into());
        if self.status.phase == Phase::Running {
            next.worker = None;
        }
        next
    }

    /// Failed for good while it waited.
    #[must_use]
    pub fn dead(&self, reason: Reason, now: Wall) -> Status {
        self.next(Phase::DeadLettered, reason, now)
    }

    /// It names a source that it may not have; nobody ever got a URL for it.
    #[must_use]
    pub fn refused(&self, now: Wall) -> Status {
        let mut next = self.dead(Reason::InvalidSource, now);
        next.worker = None;
        next
    }

    /// Its source is still missing at the second look, where it may come back: charged until the budget ends.
    #[must_use]
    pub fn source_still_missing(&self, policy: &PoolPolicy, wait: Duration, now: Wall) -> Status {
        if self.spec.own_source {
            return self.dead(Reason::InvalidSource, now);
        }
        let mut next = self.next(Phase::Backoff, Reason::SourceUnavailable, now);
        next.failures = next.failures.saturating_add(1);
        next.next_attempt = Some((now + wait).ceil_second());
        if next.failures >= self.max_failures(policy) {
            return self.buried(next, Reason::FailuresExhausted, now);
        }
        next
    }

    /// Failures until the dead letters.
    #[must_use]
    pub fn max_failures(&self, policy: &PoolPolicy) -> u32 {
        self.spec.max_failures.unwrap_or(policy.max_failures).max(1)
    }

    /// The end of the running attempt, as its class says.
    pub fn ended(
        &self,
        verdict: Verdict,
        policy: &PoolPolicy,
        now: impl Into<Clock>,
        rng: &mut dyn RngCore,
    ) -> Status {
        let clock = now.into();
        let now = clock.wall;
        let mut next = self.next(Phase::Queued, Reason::Queued, now);
        let limit = policy.attempt_limit();
        self.close_attempt(&mut next, limit, verdict.call_may_run, clock);
        let end = End {
            job: self,
            verdict,
            policy,
            now,
        };
        if verdict.call_may_run {
            next.worker = None;
        }
        let next = match verdict.class {
            Class::Succeeded => self.buried(next, Reason::Completed, now),
            Class::Rejected => end.rejected(next, rng),
            Class::Failed => end.failed(next, rng),
            Class::Throttled => end.uncharged_backoff(next, rng),
            Class::Misconfigured => end.misconfigured(next, rng),
            Class::Unavailable if verdict.alone => end.interrupted(next, Some(rng)),
            Class::Unavailable => end.uncharged_backoff(next, rng),
            Class::Interrupted => end.interrupted(next, None),
            Class::Lost => {
                next.worker = None;
                end.given_back(next, rng)
            }
            Class::Released => end.given_back(next, rng),
        };
        self.held_if_asked(next, now)
    }

    /// A running attempt of a suspended job ended: now it is held. A wait that is not over is remembered.
    fn held_if_asked(&self, mut next: Status, now: Wall) -> Status {
        if self.spec.suspend && !next.phase.is_final() {
            next.phase = Phase::Suspended;
            next.reason = Reason::Suspended;
            next.mode_since = Some(now.floor_second());
        }
        next
    }

    /// By a clock that is off no time has passed, and no call is over.
    fn close_attempt(&self, next: &mut Status, limit: Duration, call_may_run: bool, clock: Clock) {
        let (Phase::Running, Some(started)) = (self.status.phase, self.status.started) else {
            return;
        };
        let runs = |until: Wall| clock.off || until > clock.wall;
        if !clock.off {
            let active = (clock.wall.floor_second() - started).min(limit);
            next.active = next.active.saturating_add(active);
        }
        next.ghosts.retain(|until| runs(*until));
        let until = (started + limit).ceil_second();
        if call_may_run && runs(until) && next.ghosts.len() < MAX_GHOSTS {
            next.ghosts.push(until);
        }
    }

    pub(super) fn buried(&self, mut next: Status, reason: Reason, now: Wall) -> Status {
        let phase = match reason {
            Reason::Completed => Phase::Succeeded,
            _ => Phase::DeadLettered,
        };
        let end = self.next(phase, reason, now);
        next.phase = end.phase;
        next.reason = end.reason;
        next.since = end.since;
        next.mode_since = end.mode_since;
        next.finished = end.finished;
        next.next_attempt = None;
        next
    }
}

/// How long after a missing source somebody looks again.
pub const SOURCE_RECHECK: Duration = Duration::from_secs(60);

/// Whether `new` may follow `old`: the table of transitions, held against every write before it leaves the engine.
#[must_use]
pub fn is_legal(old: &Status, new: &Status) -> bool {
    let claims = new.attempt != old.attempt;
    if claims {
        let from = matches!(old.phase, Phase::Queued | Phase::Backoff | Phase::Running);
        return from
            && new.phase == Phase::Running
            && old.attempt.checked_add(1) == Some(new.attempt)
            && new.redrives == old.redrives;
    }
    if new.redrives != old.redrives {
        return old.phase == Phase::DeadLettered
            && matches!(new.phase, Phase::Queued | Phase::Suspended)
            && old.redrives.checked_add(1) == Some(new.redrives)
            && new.redriven_by.is_some()
            && new.failures == 0
            && new.interruptions == 0;
    }
    if new.redriven_by != old.redriven_by {
        return false;
    }
    match old.phase {
        Phase::Succeeded | Phase::DeadLettered | Phase::Cancelled => {
            // An end without a date is somebody's edit, and gets one.
            let dated = old.finished.is_none() || new.finished == old.finished;
            new.phase == old.phase && new.reason == old.reason && dated
        }
        Phase::Running => true,
        Phase::Queued | Phase::Backoff | Phase::Suspended => {
            !matches!(new.phase, Phase::Running | Phase::Succeeded)
        }
    }
}

/// Whether the spec's `startDeadlineSeconds` is past for a job that was never claimed.
#[must_use]
pub fn start_deadline_past(spec: &Spec, status: &Status, now: Wall) -> bool {
    status.attempt == 0
        && status.redrives == 0
        && spec
            .start_deadline
            .is_some_and(|limit| spec.created + limit <= now)
}

/// Whether the spec's `activeDeadlineSeconds` is used up by ended attempts and the running one. One that still waits for its
/// pod, or for its call, does not run.
#[must_use]
pub fn active_deadline_past(spec: &Spec, status: &Status, now: Wall) -> bool {
    let Some(limit) = spec.active_deadline else {
        return false;
    };
    let running = match (status.phase, status.worker, status.started) {
        (Phase::Running, Some(_), Some(started)) => now - started,
        _ => Duration::ZERO,
    };
    status.active.saturating_add(running) >= limit
}

impl Job {
    /// The claim after a loss, in one write: attempt + 1 from a status that says the last one is lost.
    #[must_use]
    pub fn reclaimed(
        &self,
        lost: &Status,
        worker: impl Into<Option<Uid>>,
        pool: Symbol,
        now: Wall,
    ) -> Status {
        let virtual_job = Job {
            status: lost.clone(),
            ..self.clone()
        };
        virtual_job.claimed(worker, pool, now)
    }
}
