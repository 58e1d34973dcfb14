//! What is next about one job: gathers what is known beside its facts, asks the job's machine, and starts what it says.

use std::time::Duration;

use rand::RngCore;

use super::live::{Claim, Ending, Live, Op, Pending, What};
use super::{Engine, Lost};
use crate::action::{Action, Cause};
use crate::event::{History, Lead};
use crate::ids::{AttemptId, PoolName, Uid};
use crate::job::decide::{self, Beside, Look, Loss, Next, Report};
use crate::job::{Job, Phase, Status, machine};
use crate::outcome::{Class, Fact, grpc};
use crate::policy::PoolPolicy;
use crate::schedule::Pool;
use crate::time::{Mono, Now};
use crate::workers::ADOPTION_HOLD;

/// How long to leave the store alone that could not be asked.
pub(super) const STORE_HOLD: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn review(&mut self, uid: Uid, now: Now, rng: &mut dyn RngCore) {
        let Some(job) = self.index.job(uid) else {
            return;
        };
        let pool = self.pool_of(&job);
        self.index.count(uid, pool, self.has_begun(&job));
        self.answer_redrive(uid);
        if !self.may_decide(&job) || self.is_busy(&job) || self.is_held(uid, now.mono) {
            return;
        }
        self.limit_if_unlimited(&job, now);
        if self.prepare_if_claimed(&job, now) || self.place_if_awaited(&job, now) {
            return;
        }
        self.expect_holder(&job, now);
        self.end_if_overdue(&job, now);
        let next = {
            let beside = self.beside(&job, pool, now);
            decide::next(&job, &beside, now.wall, rng)
        };
        self.start(&job, pool, next, now);
        if self.live.get(&uid).is_some_and(Live::is_empty) {
            self.live.remove(&uid);
        }
    }

    /// Whether a running job has a holder, or one is being filled in: its call begins with that.
    fn has_begun(&self, job: &Job) -> bool {
        let written = self.live.get(&job.uid).and_then(Live::writes);
        job.status.worker.is_some() || written.is_some_and(|status| status.worker.is_some())
    }

    /// The pool whose settings count: the claimed one from the claim on, else the one it would be claimed from.
    fn pool_of(&self, job: &Job) -> Option<PoolName> {
        match job.status.phase {
            Phase::Running | Phase::Succeeded | Phase::DeadLettered | Phase::Cancelled => {
                job.claimed_pool()
            }
            Phase::Queued | Phase::Backoff | Phase::Suspended => {
                self.resolve(job.spec.namespace, job.spec.pool)
            }
        }
    }

    /// A doubtful leader still takes results, and decides nothing else.
    fn may_decide(&self, job: &Job) -> bool {
        if self.history == History::Unknown && !job.spec.declared && !job.status.phase.is_final() {
            return false;
        }
        match self.lead {
            Lead::Standby => false,
            Lead::Leader => true,
            Lead::Doubtful => {
                job.status.phase == Phase::Running
                    && self
                        .live
                        .get(&job.uid)
                        .is_some_and(|l| l.report.is_some_and(|r| !r.by_operator))
            }
        }
    }

    /// Made before the control plane went back: it may have ended in a past that only the store remembers.
    fn is_doubted(&self, job: &Job) -> bool {
        match self.history {
            History::Unbroken | History::Unknown => false,
            History::Rewound(at) => !job.spec.declared && job.spec.created <= at,
        }
    }

    /// Whether a request under way forbids a new decision. A cancel does not wait for a look into the store.
    fn is_busy(&mut self, job: &Job) -> bool {
        let doubted = self.is_doubted(job) && !self.index.is_cleared(job.uid);
        let Some(live) = self.live.get_mut(&job.uid) else {
            return false;
        };
        let Some(op) = &live.op else {
            return false;
        };
        let pressing = job.spec.cancel && !job.status.phase.is_final() && !doubted;
        if op.what.binds() || !pressing {
            return true;
        }
        live.op = None;
        false
    }

    fn is_held(&mut self, uid: Uid, now: Mono) -> bool {
        let Some(until) = self.live.get(&uid).and_then(|live| live.hold) else {
            return false;
        };
        if until > now {
            self.index.set_bell(uid, Some(until));
            return true;
        }
        self.live(uid).hold = None;
        let deadline = self.live(uid).deadline;
        self.index.set_bell(uid, deadline);
        false
    }

    /// Stored as running, and nothing says that it ended: its worker must show it, or it is lost.
    fn expect_holder(&mut self, job: &Job, now: Now) {
        let (Phase::Running, Some(worker)) = (job.status.phase, job.status.worker) else {
            return;
        };
        let known = self.live.get(&job.uid);
        if known.is_none_or(|live| live.report.is_none() && live.loss.is_none()) {
            let attempt = AttemptId {
                job: job.uid,
                attempt: job.status.attempt,
            };
            let until = now.mono + ADOPTION_HOLD;
            if !self.workers.expect(worker, attempt, true, until) {
                // Its pod went before this was known: no call of it runs.
                self.live(job.uid).loss = Some(Loss {
                    attempt: attempt.attempt,
                    class: Class::Lost,
                    call_may_run: false,
                });
            }
        }
    }

    /// Timeout and grace are past and nobody reported: the operator says so itself.
    fn end_if_overdue(&mut self, job: &Job, now: Now) {
        let (Phase::Running, Some(worker)) = (job.status.phase, job.status.worker) else {
            return;
        };
        let attempt = job.status.attempt;
        let Some(live) = self.live.get_mut(&job.uid) else {
            return;
        };
        let overdue = live.deadline.is_some_and(|at| at <= now.mono);
        if overdue && live.report.is_none() && live.loss.is_none() {
            live.report = Some(Report {
                attempt,
                worker,
                fact: Fact::Grpc(grpc::DEADLINE_EXCEEDED),
                retry_after: None,
                by_operator: true,
                outputs: Look::Unasked,
                source: Look::Unasked,
            });
        }
    }

    fn beside<'a>(&'a self, job: &Job, pool: Option<PoolName>, now: Now) -> Beside<'a> {
        let known = pool.and_then(|name| self.pools.get(&name));
        let live = self.live.get(&job.uid);
        Beside {
            policy: known.and_then(|p| p.policy.as_ref()),
            pools_known: self.pools_known,
            report: live.and_then(|l| l.report),
            loss: live.and_then(|l| l.loss),
            credible: known.is_some_and(super::Pool::is_credible),
            others_succeed: known.is_some_and(|p| p.others_succeed(job.uid, now.mono)),
            source: live.map(|l| l.source).unwrap_or_default(),
            foreign: live.is_some_and(|l| l.foreign),
            cleared: self.index.is_cleared(job.uid),
            archive: self.index.archive(job.uid).unwrap_or_default(),
            doubted: self.is_doubted(job),
            owed: self.late.owed(job.uid),
            redrive: live.and_then(|l| l.redrive),
            reactivated: live.is_some_and(|l| l.reactivated),
            to_take_back: live.is_some_and(|l| l.to_take_back),
            crowded: live.is_some_and(|l| l.crowded),
            clock_off: self.clock_off,
            next_probe: known.map(|p| p.next_probe_in(now.mono)).unwrap_or_default(),
        }
    }

    fn start(&mut self, job: &Job, pool: Option<PoolName>, next: Next, now: Now) {
        let uid = job.uid;
        match next {
            Next::Write(after, cause) => self.write(job, after, cause, None),
            Next::Requeue(status, class) => self.requeue(job, status, class),
            Next::CheckOutputs => self.ask(job, What::CheckOutputs),
            Next::CheckSource => self.ask(job, What::CheckSource),
            Next::ReadRecord => self.ask(job, What::ReadRecord),
            Next::WriteRecord => self.ask(job, What::WriteRecord),
            Next::Clean => self.ask(job, What::Clean),
            Next::Delete => self.ask(job, What::Delete),
            Next::Reactivate => self.ask(job, What::Reactivate),
            Next::TakeBack => self.ask(job, What::TakeBack),
            Next::Ready(alarm) => {
                self.set_alarm(uid, alarm, now);
                if let Some(pool) = pool {
                    let alone = self.is_suspect(uid, job.status.interruptions);
                    self.index.queue(uid, pool, alone);
                    self.dirty.insert(pool);
                }
            }
            Next::Wait(alarm) => {
                self.index.unqueue(uid);
                self.set_alarm(uid, alarm, now);
            }
            Next::AskAgain => self.hold(uid, now.mono + STORE_HOLD),
        }
    }

    /// Nothing about this job before then; looks that found the store away are asked again.
    pub(super) fn hold(&mut self, uid: Uid, until: Mono) {
        let live = self.live(uid);
        live.hold = Some(until);
        if live.source == Look::Away {
            live.source = Look::Unasked;
        }
        if let Some(report) = &mut live.report {
            if report.outputs == Look::Away {
                report.outputs = Look::Unasked;
            }
            if report.source == Look::Away {
                report.source = Look::Unasked;
            }
        }
        self.index.unqueue(uid);
        self.index.set_bell(uid, Some(until));
    }

    fn requeue(&mut self, job: &Job, status: Box<Status>, class: Class) {
        let call_may_run = self
            .live
            .get(&job.uid)
            .and_then(|l| l.loss)
            .is_none_or(|loss| loss.call_may_run);
        if let Some(pool) = self.resolve(job.spec.namespace, job.spec.pool) {
            let alone = self.is_suspect(job.uid, status.interruptions);
            self.index.queue(job.uid, pool, alone);
            self.dirty.insert(pool);
        }
        self.lost.insert(
            job.uid,
            Lost {
                status,
                class,
                call_may_run,
            },
        );
    }

    /// Losses that no slot was free for are stored as they are.
    pub(super) fn store_losses(&mut self) {
        for (uid, lost) in std::mem::take(&mut self.lost) {
            let Some(job) = self.index.job(uid) else {
                continue;
            };
            self.index.unqueue(uid);
            self.write(&job, lost.status, Cause::Ended(lost.class), None);
        }
    }

    pub(super) fn write(
        &mut self,
        job: &Job,
        mut after: Box<Status>,
        cause: Cause,
        claim: Option<Claim>,
    ) {
        self.index.unqueue(job.uid);
        let owed = self.late.owed(job.uid);
        if owed > 0 && !job.status.phase.is_final() {
            let limit = self.interruption_limit(job).max(after.interruptions);
            after.interruptions = after.interruptions.saturating_add(owed).min(limit);
        }
        if !machine::is_legal(&job.status, &after) || *after == job.status {
            // A fault of ours: never let it out.
            self.illegal = self.illegal.saturating_add(1);
            debug_assert!(false, "illegal {:?} after {:?}", after, job.status);
            return;
        }
        let ran = job.status.phase == Phase::Running;
        let goes_on = after.phase == Phase::Running && after.attempt == job.status.attempt;
        let ended = job.claimed_pool().filter(|_| ran && !goes_on);
        let live = self.live.get(&job.uid);
        let report = live
            .and_then(|live| live.report)
            .filter(|report| report.attempt == job.status.attempt);
        let ends = ended.map(|pool| Ending {
            pool,
            elsewhere: self.calls_elsewhere(pool, job.status.worker),
            call: live.and_then(super::Live::call),
            retry_after: report.and_then(|report| report.retry_after),
            missed: self.missed(job, cause),
        });
        let token = self.token();
        self.out.push(Action::Write {
            job: job.uid,
            token,
            rv: job.rv,
            before: Box::new(job.status.clone()),
            after: after.clone(),
            cause,
        });
        self.live(job.uid).op = Some(Op {
            token,
            what: What::Write(Pending {
                after,
                cause,
                claim,
                rv: job.rv,
                owed,
                ends,
            }),
        });
    }

    fn calls_elsewhere(&self, pool: PoolName, worker: Option<Uid>) -> bool {
        let its = worker.and_then(|worker| self.workers.get(worker)?.service);
        let now = self.pools.get(&pool).and_then(Pool::service);
        matches!((its, now), (Some(its), Some(now)) if its != now)
    }

    fn interruption_limit(&self, job: &Job) -> u32 {
        let pool = self.pool_of(job).and_then(|pool| self.pools.get(&pool));
        let policy = pool.and_then(|pool| pool.policy.as_ref());
        policy.map_or_else(
            || PoolPolicy::default().interruption_limit,
            |policy| policy.interruption_limit,
        )
    }

    pub(super) fn ask(&mut self, job: &Job, what: What) {
        let (token, uid) = (self.token(), job.uid);
        self.index.unqueue(uid);
        let attempt = AttemptId {
            job: uid,
            attempt: job.status.attempt,
        };
        let action = match &what {
            What::CheckOutputs => Action::CheckOutputs {
                token,
                attempt,
                worker: job.status.worker.unwrap_or_default(),
                pool: job.claimed_pool().unwrap_or_default(),
            },
            What::CheckSource => Action::CheckSource { token, job: uid },
            What::ReadRecord => Action::ReadRecord { token, job: uid },
            What::WriteRecord => Action::WriteRecord { token, job: uid },
            What::Clean => Action::Clean { token, job: uid },
            What::Delete => Action::Delete {
                token,
                job: uid,
                rv: job.rv,
            },
            What::Reactivate | What::TakeBack => Action::Reactivate {
                token,
                job: uid,
                redrives: job.status.redrives.saturating_add(1),
                undo: what == What::TakeBack,
            },
            What::Refresh | What::Write(_) | What::Place | What::Prepare { .. } => {
                Action::Read { job: uid, token }
            }
        };
        self.out.push(action);
        let live = self.live(uid);
        if what == What::Delete {
            live.deleting = Some(job.rv);
        }
        live.op = Some(Op { token, what });
    }
}
