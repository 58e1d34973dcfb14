//! What workers say on their streams.

use std::time::Duration;

use rand::RngCore;

use super::Engine;
use super::live::{Question, What};
use crate::action::{Action, CloseReason, ToWorker};
use crate::event::Lead;
use crate::ids::{AttemptId, PoolName, SessionId, Uid};
use crate::job::decide::{Look, Loss, Report};
use crate::job::fence::{self, Fence};
use crate::outcome::{Class, Fact, classify};
use crate::schedule::Pool;
use crate::time::Now;
use crate::workers::Said;

/// An attempt of a job that the complete index has not known for this long is nobody's.
const STRANGER_GRACE: Duration = Duration::from_secs(30);
/// More of them are not remembered.
const MAX_STRANGERS: usize = 10_000;

/// A Hello without its stream.
pub(super) struct Hello {
    pub(super) pool: PoolName,
    pub(super) slots: u32,
    pub(super) instance: Uid,
    pub(super) held: Vec<AttemptId>,
    pub(super) unacked: Vec<AttemptId>,
}

impl Engine {
    pub(super) fn on_hello(
        &mut self,
        session: SessionId,
        worker: Uid,
        hello: &Hello,
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        if self.lead == Lead::Standby {
            let why = CloseReason::NotLeader;
            self.out.push(Action::Close { session, why });
            return;
        }
        let said = Said {
            pool: hello.pool,
            slots: hello.slots.max(1),
            instance: hello.instance,
            listed: hello.held.iter().chain(&hello.unacked).copied().collect(),
        };
        let greeting = self.workers.hello(session, worker, said, now.mono);
        if let Some(session) = greeting.replaced {
            let why = CloseReason::Replaced;
            self.out.push(Action::Close { session, why });
        }
        let service = self.pools.get(&hello.pool).and_then(Pool::service);
        self.workers
            .update(worker, |w| w.service = w.service.or(service));
        let doomed = self.workers.get(worker).is_some_and(|w| w.doomed);
        for attempt in &greeting.died {
            self.died(worker, *attempt, true, now, rng);
        }
        // Only then: a job that is looked at again must not find its holder in a process that is over.
        for attempt in greeting.died {
            self.prove_late(worker, attempt, !doomed, now, rng);
        }
        // Sent when the stream was silent already: nobody can say that the process ever had them.
        for attempt in greeting.never_came {
            self.died(worker, attempt, false, now, rng);
        }
        // Cancels of the former stream may not have arrived.
        self.workers.update(worker, |w| {
            for lease in w.leases.values_mut() {
                lease.ended = false;
            }
        });
        for attempt in hello.held.iter().chain(&hello.unacked) {
            self.take_back(worker, *attempt);
        }
        self.examine(worker, &hello.held, now);
        self.ask_to_leave(worker);
        self.on_pod_hello(worker, now, rng);
        self.dirty.insert(hello.pool);
    }

    /// Its worker was given up, and is back with it before anybody wrote so.
    fn take_back(&mut self, worker: Uid, attempt: AttemptId) {
        let its_own = self
            .index
            .job(attempt.job)
            .is_some_and(|job| job.runs(attempt.attempt, worker));
        if let (true, Some(live)) = (its_own, self.live.get_mut(&attempt.job)) {
            live.loss = live
                .loss
                .filter(|loss| loss.attempt != attempt.attempt || !loss.call_may_run);
        }
    }

    /// Proof that an attempt ended with the process that held it.
    pub(super) fn died(
        &mut self,
        worker: Uid,
        attempt: AttemptId,
        by_itself: bool,
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        self.call_is_over(worker, attempt);
        let doomed = self.workers.get(worker).is_some_and(|w| w.doomed);
        let class = if by_itself && !doomed {
            Class::Interrupted
        } else {
            Class::Lost
        };
        self.lose(worker, attempt, class, false, now, rng);
    }

    /// The attempt has no holder any more.
    pub(super) fn lose(
        &mut self,
        worker: Uid,
        attempt: AttemptId,
        class: Class,
        call_may_run: bool,
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        let runs = self
            .index
            .job(attempt.job)
            .is_some_and(|job| job.runs(attempt.attempt, worker));
        if !runs {
            return;
        }
        let live = self.live(attempt.job);
        if live.report.is_some_and(|r| r.attempt == attempt.attempt) {
            return;
        }
        live.loss = Some(Loss {
            attempt: attempt.attempt,
            class,
            call_may_run,
        });
        self.review(attempt.job, now, rng);
    }

    pub(super) fn on_heartbeat(
        &mut self,
        session: SessionId,
        (seq, received): (u64, u64),
        held: &[AttemptId],
        unacked: &[AttemptId],
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        let Some(worker) = self.worker_of(session) else {
            return;
        };
        let listed: Vec<AttemptId> = held.iter().chain(unacked).copied().collect();
        let gone = self.workers.heartbeat(worker, received, &listed, now.mono);
        self.send(worker, ToWorker::Beat(seq));
        for attempt in gone {
            self.call_is_over(worker, attempt);
            self.late.survived(worker, attempt);
            self.lose(worker, attempt, Class::Lost, false, now, rng);
        }
        self.examine(worker, held, now);
        self.dirty
            .extend(self.workers.get(worker).and_then(|w| w.pool));
    }

    /// What a worker holds, held against the facts: it is told to stop what is not its own.
    fn examine(&mut self, worker: Uid, held: &[AttemptId], now: Now) {
        for attempt in held {
            let Some(job) = self.index.job(attempt.job) else {
                if self.is_strange(*attempt, now) {
                    self.stop(worker, *attempt);
                }
                continue;
            };
            if job.runs(attempt.attempt, worker) {
                continue;
            }
            // The holder of a claim that waited for its pod may be news to this replica.
            let unsure = job.awaits_pod() && attempt.attempt == job.status.attempt;
            if attempt.attempt > job.status.attempt || unsure {
                self.refresh(attempt.job);
            } else {
                self.stop(worker, *attempt);
            }
        }
    }

    fn stop(&mut self, worker: Uid, attempt: AttemptId) {
        let told = self
            .workers
            .get(worker)
            .and_then(|w| w.leases.get(&attempt))
            .is_none_or(|lease| lease.ended);
        if told {
            return;
        }
        self.workers.update(worker, |w| {
            if let Some(lease) = w.leases.get_mut(&attempt) {
                lease.ended = true;
            }
        });
        self.send(worker, ToWorker::Cancel(attempt));
    }

    /// Whether this job is known to be deleted, or the complete index has lacked it for long enough.
    pub(super) fn is_strange(&mut self, attempt: AttemptId, now: Now) -> bool {
        if !self.jobs_known {
            return false;
        }
        self.bound_strangers(attempt);
        let due = now.mono + STRANGER_GRACE;
        *self.strangers.entry(attempt).or_insert(due) <= now.mono
    }

    /// Its job was deleted: what its worker still says about it is settled at once.
    pub(super) fn disown(&mut self, attempt: AttemptId, now: Now) {
        self.bound_strangers(attempt);
        self.strangers.insert(attempt, now.mono);
    }

    fn bound_strangers(&mut self, newcomer: AttemptId) {
        if self.strangers.len() >= MAX_STRANGERS && !self.strangers.contains_key(&newcomer) {
            self.strangers.clear();
        }
    }

    pub(super) fn refresh(&mut self, uid: Uid) {
        let idle = self.live.get(&uid).is_none_or(|live| live.op.is_none());
        if let (true, Some(job)) = (idle, self.index.job(uid)) {
            self.ask(&job, What::Refresh);
        }
    }

    pub(super) fn on_outcome(
        &mut self,
        session: SessionId,
        attempt: AttemptId,
        (fact, retry_after): (Fact, Option<Duration>),
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        let Some(worker) = self.worker_of(session) else {
            return;
        };
        self.workers.heard(worker, now.mono);
        let Some(job) = self.index.job(attempt.job) else {
            if self.is_strange(attempt, now) {
                self.acknowledge(worker, attempt, false);
            }
            return;
        };
        let report = Report {
            attempt: attempt.attempt,
            worker,
            fact,
            retry_after,
            by_operator: false,
            outputs: Look::Unasked,
            source: Look::Unasked,
        };
        let class = classify(fact, retry_after);
        match fence::judge(&job, attempt.attempt, worker, class) {
            Fence::Current => {
                let live = self.live(attempt.job);
                if live.report.is_none_or(|known| known.by_operator) {
                    live.take_report(report, now.mono);
                }
                self.review(attempt.job, now, rng);
            }
            Fence::Accepted => self.acknowledge(worker, attempt, true),
            Fence::Stale | Fence::FactsAreOld => {
                let live = self.live(attempt.job);
                if live.takes_question(worker, attempt.attempt) {
                    let behind = live.op.as_ref().map(|op| op.token);
                    let at = now.mono;
                    live.questions.push(Question { report, at, behind });
                }
                self.refresh(attempt.job);
            }
        }
    }

    pub(super) fn on_draining(&mut self, session: SessionId) {
        if let Some(worker) = self.worker_of(session) {
            self.workers.update(worker, |w| w.draining = true);
        }
    }

    pub(super) fn on_slots(&mut self, session: SessionId, slots: u32) {
        if let Some(worker) = self.worker_of(session) {
            let pool = self.workers.update(worker, |w| {
                w.slots = slots.max(1);
                w.pool
            });
            self.dirty.extend(pool.flatten());
        }
    }

    pub(super) fn on_closed(&mut self, session: SessionId, now: Now) {
        self.workers.cut(session);
        self.workers.closed(session, now.mono);
    }
}
