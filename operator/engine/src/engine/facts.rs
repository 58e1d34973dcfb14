//! New facts about a job: into the index, and what a change of the stored attempt means for workers and limits.

use std::time::Duration;

use rand::RngCore;

use super::Engine;
use super::lead::EXCUSED;
use super::live::{Live, Placement, What};
use crate::action::{Redrive, ToWorker};
use crate::event::Lead;
use crate::ids::{AttemptId, Uid};
use crate::job::fence::{self, Fence};
use crate::job::{Job, Phase, Status};
use crate::outcome::classify;
use crate::policy::PoolPolicy;
use crate::schedule::ALONE_FROM;
use crate::time::Now;
use crate::workers::ADOPTION_HOLD;

impl Engine {
    pub(super) fn on_job(&mut self, job: Job, now: Now, rng: &mut dyn RngCore) {
        let uid = job.uid;
        self.late.unbury(uid);
        if self.absorb(job, now) {
            if let Some(live) = self.live.get_mut(&uid) {
                live.hold = None;
            }
            self.review(uid, now, rng);
        }
    }

    /// Takes newer facts that this replica did not write itself. False: nothing new.
    pub(super) fn absorb(&mut self, job: Job, now: Now) -> bool {
        self.charge_foreign_calls(&job, now);
        self.follow_new_date(&job);
        self.note_charges(&job);
        self.take_facts(job, now)
    }

    /// A leader that was stopped and wakes has claims under way. Their calls count against the rate as if they were our own.
    fn charge_foreign_calls(&mut self, job: &Job, now: Now) {
        let (Lead::Leader, Some(pool)) = (self.lead, job.claimed_pool()) else {
            return;
        };
        let known = self.index.job(job.uid);
        if known.as_ref().is_some_and(|known| known.rv >= job.rv) {
            return;
        }
        let Some(pool) = self.pools.get_mut(&pool) else {
            return;
        };
        let status = &job.status;
        let holds = status.phase == Phase::Running && status.worker.is_some();
        let makes_pods = pool.policy.as_ref().is_some_and(|p| p.pod_start.is_some());
        let calls = match known {
            // Its call begins when its pod becomes the holder, not with the claim.
            Some(known) if makes_pods => {
                let held = known.status.worker == status.worker;
                u32::from(holds && !(held && known.status.attempt == status.attempt))
            }
            Some(known) => status.attempt.saturating_sub(known.status.attempt),
            // Whoever began to lead before its first listing was through finds them there: that charges nobody again.
            None => u32::from(holds && self.jobs_known),
        };
        let ours = self.live.get(&job.uid).is_some_and(|live| {
            let same = |after: &Status| {
                holds && after.attempt == status.attempt && after.worker == status.worker
            };
            live.writes().is_some_and(same)
        });
        let calls = calls.saturating_sub(u32::from(ours));
        if calls > 0 {
            pool.owe(calls, now.mono);
        }
    }

    /// Takes newer facts and lets workers and limits follow. False: nothing new.
    pub(super) fn take_facts(&mut self, job: Job, now: Now) -> bool {
        let uid = job.uid;
        let before = self.index.job(uid).map(|known| known.status);
        if !self.index.put(job) {
            return false;
        }
        if self.lead == Lead::Standby {
            return true;
        }
        self.lost.remove(&uid);
        let Some(job) = self.index.job(uid) else {
            return true;
        };
        if let Some(before) = before {
            self.attempt_left(&job, &before);
        }
        self.attempt_entered(&job, now);
        true
    }

    /// Was the old status running an attempt that the new one does not run? Then its worker learns what became of it.
    fn attempt_left(&mut self, job: &Job, before: &Status) {
        if before.phase == Phase::Running && before.worker.is_none() {
            return self.wait_ended(job, before);
        }
        let (Phase::Running, Some(worker)) = (before.phase, before.worker) else {
            return;
        };
        if job.runs(before.attempt, worker) {
            // Dated anew before its lease went out, perhaps by a leader that this one follows.
            if job.status.started != before.started
                && let Some(live) = self.live.get_mut(&job.uid)
            {
                live.deadline = None;
                live.report = live.report.filter(|report| !report.by_operator);
            }
            return;
        }
        let attempt = AttemptId {
            job: job.uid,
            attempt: before.attempt,
        };
        let report = self
            .live
            .get_mut(&job.uid)
            .and_then(|live| live.report.take())
            .filter(|r| r.attempt == before.attempt && !r.by_operator);
        if let Some(live) = self.live.get_mut(&job.uid) {
            live.loss = None;
            live.attempt = 0;
            live.deadline = None;
            live.pushed = None;
            live.reported = None;
            live.shared = false;
            live.unsure = false;
            live.dated = None;
            live.told = None;
        }
        self.note_ghost(job, before, attempt);
        match report {
            Some(report) => {
                let class = classify(report.fact, report.retry_after);
                let verdict = fence::judge(job, attempt.attempt, report.worker, class);
                self.acknowledge(report.worker, attempt, verdict == Fence::Accepted);
            }
            None => self.withdraw(worker, attempt),
        }
    }

    /// The claim that waited for its pod got its holder, or is over.
    fn wait_ended(&mut self, job: &Job, before: &Status) {
        let waits_on = job.awaits_pod() && job.status.attempt == before.attempt;
        if let (false, Some(live)) = (waits_on, self.live.get_mut(&job.uid)) {
            live.loss = None;
            live.attempt = 0;
            live.deadline = None;
            live.placement = Placement::ToFind;
        }
    }

    fn note_ghost(&mut self, job: &Job, before: &Status, attempt: AttemptId) {
        let (Some(pool), Some(started), Some(worker)) =
            (job.claimed_pool(), before.started, before.worker)
        else {
            return;
        };
        let until = (started + self.call_limit(job)).ceil_second();
        if let Some(pool) = self.pools.get_mut(&pool)
            && job.status.ghosts.contains(&until)
            && !before.ghosts.contains(&until)
        {
            pool.ghosts.add(attempt, worker, until);
        }
    }

    /// The attempt is over and its worker does not know: a lease that was never sent is dropped, any other is cancelled and
    /// keeps its slot until the worker confirms.
    pub(super) fn withdraw(&mut self, worker: Uid, attempt: AttemptId) {
        let Some(lease) = self
            .workers
            .get(worker)
            .and_then(|w| w.leases.get(&attempt).copied())
        else {
            self.call_is_over(worker, attempt);
            return;
        };
        if lease.since_seq.is_none() {
            self.workers.forget(worker, attempt);
            self.call_is_over(worker, attempt);
            return;
        }
        self.workers.update(worker, |w| {
            if let Some(lease) = w.leases.get_mut(&attempt) {
                lease.ended = true;
            }
        });
        self.send(worker, ToWorker::Cancel(attempt));
    }

    /// A running attempt, ours or not: its worker is expected to have it, and its time is limited.
    pub(super) fn attempt_entered(&mut self, job: &Job, now: Now) {
        self.count_ghosts(job, now);
        if job.awaits_pod() {
            return self.limit_attempt(job, now);
        }
        let (Phase::Running, Some(worker)) = (job.status.phase, job.status.worker) else {
            return;
        };
        let attempt = AttemptId {
            job: job.uid,
            attempt: job.status.attempt,
        };
        self.workers
            .expect(worker, attempt, true, now.mono + ADOPTION_HOLD);
        if job.status.interruptions >= ALONE_FROM {
            self.workers.seclude(worker, attempt);
        }
        self.limit_attempt(job, now);
    }

    /// Calls of its ended attempts that may still run keep their permits.
    pub(super) fn count_ghosts(&mut self, job: &Job, now: Now) {
        if let Some(pool) = job.claimed_pool() {
            let pool = self.pools.entry(pool).or_default();
            pool.ghosts.sync(job.uid, &job.status.ghosts, now.wall);
        }
    }

    /// How long a running attempt may wait for its pod, or call; `None`: its pool may still come to be known.
    pub(super) fn limit_of(&self, job: &Job) -> Option<Duration> {
        let known = self.pools_known || self.claimed_policy(job).is_some();
        known.then(|| {
            if job.awaits_pod() {
                self.pod_start(job)
            } else {
                self.call_limit(job)
            }
        })
    }

    /// How long an attempt of this job may call, by the pool that it was claimed in.
    pub(super) fn call_limit(&self, job: &Job) -> Duration {
        self.claimed_policy(job).map_or_else(
            || PoolPolicy::unknown().attempt_limit(),
            PoolPolicy::attempt_limit,
        )
    }

    pub(super) fn claimed_policy(&self, job: &Job) -> Option<&PoolPolicy> {
        let pool = job.claimed_pool().and_then(|name| self.pools.get(&name));
        pool.and_then(|pool| pool.policy.as_ref())
    }

    /// An attempt that was met before its pool.
    pub(super) fn limit_if_unlimited(&mut self, job: &Job, now: Now) {
        let limited = self
            .live
            .get(&job.uid)
            .is_some_and(|live| live.deadline.is_some());
        if job.status.phase == Phase::Running && !limited {
            self.limit_attempt(job, now);
        }
    }

    /// The operator itself ends what the attempt waits for or does after so long.
    fn limit_attempt(&mut self, job: &Job, now: Now) {
        let limit = self.limit_of(job);
        let clock_off = self.clock_off;
        let live = self.live(job.uid);
        if live.deadline.is_none() || live.attempt != job.status.attempt {
            // Only what is left of it, should another leader have claimed; never more than all of it, whatever the wall says;
            // all of it, while the wall is known to be wrong. Its outcome may wait for a leader that listens.
            let started = job.status.started.filter(|_| !clock_off);
            let spent = started
                .map(|started| now.wall - started)
                .unwrap_or_default();
            live.attempt = job.status.attempt;
            live.deadline = limit.map(|limit| now.mono + limit.saturating_sub(spent).max(EXCUSED));
        }
        let deadline = self.live.get(&job.uid).and_then(|live| live.deadline);
        self.index.set_bell(job.uid, deadline);
    }

    /// Deleted by somebody: whoever works on it is told to stop; a call that may run keeps its permit.
    pub(super) fn on_deleted(&mut self, uid: Uid, now: Now) {
        self.end_redrive(uid, Redrive::Gone);
        self.late.bury(uid, now.mono);
        self.lost.remove(&uid);
        let live = self.live.remove(&uid);
        let Some(job) = self.index.remove(uid) else {
            return;
        };
        self.abandon(&job, live, now);
        self.disown_pods(uid, now);
        let (Phase::Running, Some(worker)) = (job.status.phase, job.status.worker) else {
            return;
        };
        let attempt = AttemptId {
            job: uid,
            attempt: job.status.attempt,
        };
        if let (Some(pool), Some(started)) = (job.claimed_pool(), job.status.started) {
            let until = (started + self.call_limit(&job)).ceil_second();
            if let Some(pool) = self.pools.get_mut(&pool)
                && (self.clock_off || until > now.wall)
            {
                pool.ghosts.add(attempt, worker, until);
            }
        }
        self.disown(attempt, now);
        self.withdraw(worker, attempt);
    }

    /// Nobody will hear how its attempts end: what they hold of their pools goes back, once.
    fn abandon(&mut self, job: &Job, live: Option<Live>, now: Now) {
        let pending = live.and_then(|live| match live.op?.what {
            What::Write(pending) => Some(pending),
            _ => None,
        });
        let attempt = |attempt| AttemptId {
            job: job.uid,
            attempt,
        };
        let claim = pending.as_ref().and_then(|pending| {
            let claimed = attempt(pending.after.attempt);
            pending.claim.map(|claim| (claim, claimed))
        });
        // The watch may have shown the claim, or the end, before the write was answered.
        let runs = job.status.phase == Phase::Running
            && claim.is_none_or(|(_, claimed)| claimed != attempt(job.status.attempt));
        let ending = pending.and_then(|pending| pending.ends);
        let ended = if runs {
            job.claimed_pool()
        } else {
            ending.map(|ending| ending.pool)
        };
        if let Some((claim, claimed)) = claim {
            self.settle_claim(claim, claimed, false, now);
        }
        if let Some(name) = ended
            && let Some(pool) = self.pools.get_mut(&name)
        {
            pool.withdraw(job.uid, now.mono);
            self.dirty.insert(name);
        }
    }
}
