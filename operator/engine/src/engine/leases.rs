//! From a stored claim to its lease: the URLs are signed, the lease is pushed, and from then on the call's time runs.

use std::time::Duration;

use super::Engine;
use super::live::{Op, What};
use crate::action::{Action, Cause, ToWorker};
use crate::event::Answer;
use crate::ids::{AttemptId, Uid};
use crate::job::decide::{Look, Loss};
use crate::job::{Job, Phase};
use crate::outcome::Class;
use crate::time::Now;

/// A claim whose lease is not out after so long, as while the API server is away, is dated anew before: whatever is reckoned
/// from its time is reckoned for a call that begins then.
const OLD: Duration = Duration::from_secs(10);

impl Engine {
    /// The claim is stored and its lease was not sent yet: sign its URLs, with a clock that is right.
    pub(super) fn prepare_if_claimed(&mut self, job: &Job, now: Now) -> bool {
        let (Phase::Running, Some(worker), Some(pool)) =
            (job.status.phase, job.status.worker, job.claimed_pool())
        else {
            return false;
        };
        let attempt = AttemptId {
            job: job.uid,
            attempt: job.status.attempt,
        };
        let unsent = self
            .workers
            .get(worker)
            .and_then(|w| w.leases.get(&attempt))
            .is_some_and(|lease| lease.since_seq.is_none());
        let ended = job.spec.cancel
            || self
                .live
                .get(&job.uid)
                .is_some_and(|l| l.foreign || l.loss.is_some());
        if !unsent || ended {
            return false;
        }
        if self.clock_off {
            return true;
        }
        let live = self.live(job.uid);
        let started = job.status.started;
        let is_old = started.is_some_and(|at| now.wall - at > OLD) && started != live.dated;
        if live.unsure || is_old {
            let after = Box::new(job.delayed(now.wall));
            live.dated = after.started;
            self.write(job, after, Cause::Observed, None);
            return true;
        }
        let token = self.token();
        self.live(job.uid).op = Some(Op {
            token,
            what: What::Prepare {
                attempt: attempt.attempt,
                worker,
                pool,
            },
        });
        self.out.push(Action::Prepare {
            token,
            attempt,
            worker,
            pool,
        });
        true
    }

    /// The lease's URLs are signed: push it, if its worker is still there.
    pub(super) fn on_prepared(
        &mut self,
        attempt: AttemptId,
        worker: Uid,
        answer: &Answer,
        now: Now,
    ) {
        let known = self.index.job(attempt.job);
        let Some(job) = known.filter(|job| job.runs(attempt.attempt, worker)) else {
            return;
        };
        // Given up meanwhile: a call must not start now.
        let given_up = self
            .live
            .get(&attempt.job)
            .is_some_and(|live| live.loss.is_some());
        let sent = match answer.look() {
            Look::There if given_up => None,
            Look::There => self.send(worker, ToWorker::Lease(attempt)),
            Look::Missing => {
                self.live(attempt.job).foreign = true;
                None
            }
            Look::Away | Look::Unasked => None,
        };
        if let Some(seq) = sent {
            self.workers.pushed(worker, attempt, seq, now.mono);
            return self.begin_call(&job, now);
        }
        self.workers.forget(worker, attempt);
        let shared = self.live(attempt.job).shared;
        let pool = job.claimed_pool();
        if let Some(pool) = pool.and_then(|pool| self.pools.get_mut(&pool))
            && !shared
        {
            pool.give_back_token();
        }
        self.live(attempt.job).loss = Some(Loss {
            attempt: attempt.attempt,
            class: Class::Lost,
            call_may_run: shared,
        });
    }

    /// It has all its time from now on, however long the claim took.
    fn begin_call(&mut self, job: &Job, now: Now) {
        let limit = self.limit_of(job);
        let live = self.live(job.uid);
        live.pushed = Some(now.mono);
        live.deadline = live.deadline.max(limit.map(|limit| now.mono + limit));
        let deadline = live.deadline;
        self.index.set_bell(job.uid, deadline);
    }
}
