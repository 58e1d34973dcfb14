//! Pools with a pod for each attempt: the claim is stored first, then the pod is made, once; its Hello fills in the holder.
//!
//! Nothing is remembered that another leader would need: a claim without a holder is looked after by whoever leads, by the
//! pod's deterministic name. Only the leader that stored the claim makes the pod, so that it is never made a second time.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngCore;

use super::Engine;
use super::lead::EXCUSED;
use super::live::{Op, Placement, What};
use super::review::STORE_HOLD;
use crate::action::{Action, Cause, PodAction};
use crate::event::{Answer, Lead};
use crate::ids::{AttemptId, Uid};
use crate::job::decide::Loss;
use crate::job::{Job, Phase};
use crate::outcome::Class;
use crate::time::{Mono, Now};
use crate::workers::{ADOPTION_HOLD, Worker};

/// Within which an attempt's pod must report when its pool does not say.
const DEFAULT_POD_START: Duration = Duration::from_secs(600);
/// A removal that shows no effect is asked for again after this.
const REMOVE_AGAIN: Duration = Duration::from_secs(5);

/// A pod that was made for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AttemptPod {
    attempt: AttemptId,
    removed_at: Option<Mono>,
}

/// Every such pod that the watch or a Hello has shown, by uid, until its object is gone.
pub(super) type AttemptPods = BTreeMap<Uid, AttemptPod>;

impl Engine {
    /// A pod of an attempt is there.
    pub(super) fn on_attempt_pod(&mut self, worker: Uid, attempt: AttemptId) {
        self.attempt_pods.entry(worker).or_insert(AttemptPod {
            attempt,
            removed_at: None,
        });
        self.workers.dedicate(worker);
    }

    /// It is over, and its object may stay. If nobody ever heard of it, its attempt will not come about.
    pub(super) fn on_attempt_pod_gone(&mut self, worker: Uid, now: Now, rng: &mut dyn RngCore) {
        let Some(pod) = self.attempt_pods.get(&worker).copied() else {
            return;
        };
        let awaited = self
            .index
            .job(pod.attempt.job)
            .is_some_and(|job| job.awaits_pod() && job.status.attempt == pod.attempt.attempt);
        if awaited && self.lead != Lead::Standby {
            self.pod_will_not_come(pod.attempt);
            self.review(pod.attempt.job, now, rng);
        }
    }

    /// Nothing is left to remove.
    pub(super) fn on_attempt_pod_deleted(&mut self, worker: Uid) {
        self.attempt_pods.remove(&worker);
    }

    /// Their job was deleted: nobody waits for it to appear.
    pub(super) fn disown_pods(&mut self, job: Uid, now: Now) {
        let pods = self.attempt_pods.values();
        let of_job: Vec<AttemptId> = pods
            .map(|pod| pod.attempt)
            .filter(|attempt| attempt.job == job)
            .collect();
        for attempt in of_job {
            self.disown(attempt, now);
        }
    }

    /// A pod said Hello: if its attempt waits for it, it becomes the holder.
    pub(super) fn on_pod_hello(&mut self, worker: Uid, now: Now, rng: &mut dyn RngCore) {
        if let Some(pod) = self.attempt_pods.get(&worker) {
            self.review(pod.attempt.job, now, rng);
        }
    }

    /// A claim without a holder: its pod is made, looked for, waited for, or met. True: a request is under way.
    pub(super) fn place_if_awaited(&mut self, job: &Job, now: Now) -> bool {
        if !job.awaits_pod() || job.spec.cancel {
            return false;
        }
        let attempt = AttemptId {
            job: job.uid,
            attempt: job.status.attempt,
        };
        let live = self.live(job.uid);
        if live.loss.is_some() {
            return false;
        }
        let (placement, deadline) = (live.placement, live.deadline);
        // Its pod would wait for a call for ever.
        let is_in_vain = self.pools_known && self.claimed_policy(job).is_none();
        if let Some(worker) = self.reporter(attempt).filter(|_| !is_in_vain) {
            let is_met = self.meet(job, attempt, worker, now);
            if !is_met {
                self.wait_on(job.uid, now.mono);
            }
            return is_met;
        }
        if is_in_vain || deadline.is_some_and(|at| at <= now.mono) {
            self.pod_will_not_come(attempt);
            return false;
        }
        match placement {
            Placement::ToMake | Placement::ToFind => {
                self.place(job, attempt, placement == Placement::ToMake);
                true
            }
            Placement::There => false,
        }
    }

    /// The connected pod of an attempt.
    fn reporter(&self, attempt: AttemptId) -> Option<Uid> {
        self.attempt_pods
            .iter()
            .filter(|(_, pod)| pod.attempt == attempt)
            .map(|(worker, _)| *worker)
            .find(|worker| self.workers.get(*worker).is_some_and(Worker::is_open))
    }

    /// Fills in the holder, as far as the pool lets a call begin: it begins now, not when the attempt was claimed.
    fn meet(&mut self, job: &Job, attempt: AttemptId, worker: Uid, now: Now) -> bool {
        if self.clock_off {
            // Its time would be wrong, and so would its URLs.
            return false;
        }
        let Some(name) = job.claimed_pool() else {
            return false;
        };
        let begun = self.index.tally(name).begun;
        let pool = self.pools.get_mut(&name);
        if !pool.is_some_and(|pool| pool.take_token(job.uid, begun, now.mono)) {
            // Looked at again with every tick, as long as the pod is there.
            return false;
        }
        self.workers
            .expect(worker, attempt, false, now.mono + ADOPTION_HOLD);
        let after = Box::new(job.placed(worker, now.wall));
        self.write(job, after, Cause::Placed, None);
        self.index.count(job.uid, Some(name), true);
        true
    }

    /// Its pod came in time, and waits for its call. Should it go without a word, somebody has to notice.
    fn wait_on(&mut self, job: Uid, now: Mono) {
        let live = self.live(job);
        live.deadline = live.deadline.map(|at| at.max(now + EXCUSED));
        let deadline = live.deadline;
        self.index.set_bell(job, deadline);
    }

    /// Its fill was not stored: the pod has nothing to do with the attempt yet.
    pub(super) fn unmeet(&mut self, job: Uid, worker: Option<Uid>, attempt: u32) {
        let attempt = AttemptId { job, attempt };
        if let Some(worker) = worker {
            self.workers.forget(worker, attempt);
        }
        let pool = self.index.job(job).as_ref().and_then(Job::claimed_pool);
        if let Some(pool) = pool.and_then(|name| self.pools.get_mut(&name)) {
            pool.give_back_token();
        }
    }

    fn place(&mut self, job: &Job, attempt: AttemptId, make: bool) {
        let token = self.token();
        let pool = job.claimed_pool().unwrap_or_default();
        self.live(job.uid).op = Some(Op {
            token,
            what: What::Place,
        });
        let action = if make {
            PodAction::Make {
                token,
                attempt,
                pool,
            }
        } else {
            PodAction::Find { token, attempt }
        };
        self.out.push(Action::Pod(action));
    }

    /// The pod was made or found, cannot be made or is missing, or nobody knows: then it is only looked for from now on.
    pub(super) fn on_placed(&mut self, uid: Uid, answer: &Answer, now: Now) {
        let awaited = self
            .index
            .job(uid)
            .filter(Job::awaits_pod)
            .map(|job| job.status.attempt);
        let Some(attempt) = awaited else {
            return;
        };
        match answer {
            Answer::Yes => self.live(uid).placement = Placement::There,
            Answer::No | Answer::Gone => self.pod_will_not_come(AttemptId { job: uid, attempt }),
            // Not made at all: this process may no longer lead, or a limit of its own held it back.
            Answer::NotSent => self.hold(uid, now.mono + STORE_HOLD),
            Answer::Unknown
            | Answer::Away
            | Answer::Refused
            | Answer::Written(_)
            | Answer::Found(_)
            | Answer::Record(_) => {
                self.live(uid).placement = Placement::ToFind;
                self.hold(uid, now.mono + STORE_HOLD);
            }
        }
    }

    fn pod_will_not_come(&mut self, attempt: AttemptId) {
        self.live(attempt.job).loss = Some(Loss {
            attempt: attempt.attempt,
            class: Class::Released,
            call_may_run: false,
        });
    }

    /// How long a claim without a holder waits for its pod.
    pub(super) fn pod_start(&self, job: &Job) -> Duration {
        self.claimed_policy(job)
            .and_then(|policy| policy.pod_start)
            .unwrap_or(DEFAULT_POD_START)
    }

    /// With every tick: pods that wait for their call are met, and those whose attempt is over are removed.
    pub(super) fn tend_attempt_pods(&mut self, now: Now, rng: &mut dyn RngCore) {
        if self.lead != Lead::Leader || !self.jobs_known {
            return;
        }
        let all: Vec<(Uid, AttemptPod)> = self.attempt_pods.iter().map(|(u, p)| (*u, *p)).collect();
        for (worker, pod) in all {
            let job = self.index.job(pod.attempt.job);
            if job.is_some_and(|job| job.awaits_pod() && job.status.attempt == pod.attempt.attempt)
            {
                if self.workers.get(worker).is_some_and(Worker::is_open) {
                    self.review(pod.attempt.job, now, rng);
                }
                continue;
            }
            let lately = pod
                .removed_at
                .is_some_and(|at| now.mono.since(at) < REMOVE_AGAIN);
            if lately || !self.is_superfluous(worker, pod.attempt, now) {
                continue;
            }
            if let Some(pod) = self.attempt_pods.get_mut(&worker) {
                pod.removed_at = Some(now.mono);
            }
            self.out.push(Action::Pod(PodAction::Remove { worker }));
        }
    }

    /// Its job is gone or at a later attempt; or its attempt ended and it has told all that it had to tell.
    fn is_superfluous(&mut self, worker: Uid, attempt: AttemptId, now: Now) -> bool {
        let Some(job) = self.index.job(attempt.job) else {
            // The watch of jobs may be behind that of pods.
            return self.is_strange(attempt, now);
        };
        if attempt.attempt != job.status.attempt {
            // A later one than the index knows: the facts are old.
            return attempt.attempt < job.status.attempt;
        }
        if job.status.phase == Phase::Running {
            return false;
        }
        let busy = self
            .workers
            .get(worker)
            .is_some_and(|w| w.session.is_some() && !w.leases.is_empty());
        let limit = self.call_limit(&job);
        let overdue = job
            .status
            .started
            .is_none_or(|started| !self.clock_off && started + limit <= now.wall);
        !busy || overdue
    }
}
