//! The serial pass: every claim of this leader is granted here, one after the other, within the limits of its pool.

use std::collections::VecDeque;

use super::Engine;
use super::live::{Claim, Pending};
use crate::action::Cause;
use crate::event::Lead;
use crate::ids::{AttemptId, PoolName, Symbol, Uid};
use crate::job::Job;
use crate::schedule::CLAIM_CONCURRENCY;
use crate::schedule::queue::{Room, Ticket};
use crate::time::Now;
use crate::workers::{ADOPTION_HOLD, Worker};

/// A claim that is possible: a ready job, and a worker of its pool with a free slot, or a pod that is to be made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The job.
    pub job: Uid,
    /// Pod uid; `None`: its pool makes a pod for each attempt.
    pub worker: Option<Uid>,
    /// The pool of both.
    pub pool: PoolName,
}

impl Engine {
    /// Grants what can be granted in the pools that something changed in, one claim of each in turn: how many are under way
    /// is limited, and no pool's trouble may take all of them.
    pub(super) fn grant(&mut self, now: Now) {
        let dirty = std::mem::take(&mut self.dirty);
        if !self.may_claim() {
            return;
        }
        let behind = dirty.iter().filter(|pool| Some(**pool) > self.turn);
        let before = dirty.iter().filter(|pool| Some(**pool) <= self.turn);
        let mut turns: VecDeque<PoolName> = behind.chain(before).copied().collect();
        while self.claims() < CLAIM_CONCURRENCY
            && let Some(pool) = turns.pop_front()
        {
            if self.grant_one(pool, now) {
                self.turn = Some(pool);
                turns.push_back(pool);
            }
        }
        // They go on when a claim is settled.
        let waiting = turns
            .iter()
            .filter(|pool| self.index.ready(**pool).is_some());
        self.dirty.extend(waiting);
    }

    /// Only who knows all that runs can keep within limits.
    fn may_claim(&self) -> bool {
        self.lead == Lead::Leader && self.is_synced() && !self.clock_off
    }

    /// A job that needs a worker for itself would wait for ever behind a full queue: one worker is kept free for it, while no
    /// other has one. The only worker there is is kept one turn in four, or such jobs would have all of the pool.
    fn keep_worker(&mut self, pool: PoolName) {
        let workers = &self.workers;
        let wanted = self.index.ready(pool).is_some_and(|queue| {
            queue
                .suspect_of(|tenant| self.may_have(pool, tenant, 0))
                .is_some()
                && (queue.is_turn_of_alone()
                    || workers.of(pool).filter(|w| w.is_open()).count() > 1)
                && !workers.of(pool).any(Worker::works_alone)
        });
        self.workers.keep_one(pool, wanted);
    }

    fn grant_one(&mut self, name: PoolName, now: Now) -> bool {
        self.keep_worker(name);
        if self.index.ready(name).is_none() {
            return false;
        }
        let running = self
            .index
            .tally(name)
            .running
            .saturating_sub(self.proven_ends(name));
        let Some(pool) = self.pools.get(&name) else {
            return false;
        };
        // First: to pick a job costs a look at every tenant.
        if !pool.has_permit(running, now.mono) {
            return false;
        }
        let makes_pods = self.makes_pods(name);
        let Some((ticket, worker)) = self.next_grant(name, makes_pods, now) else {
            return false;
        };
        if worker.is_none() && !makes_pods {
            return false;
        }
        let Some(pool) = self.pools.get_mut(&name) else {
            return false;
        };
        if makes_pods {
            pool.reserve_permit(ticket.uid);
        } else if !pool.reserve(ticket.uid, now.mono) {
            return false;
        }
        if let (Some(queue), Some(policy)) = (self.index.ready_mut(name), &pool.policy) {
            queue.granted(ticket, &policy.fairness);
        }
        self.claim(ticket.uid, worker, name, now);
        true
    }

    fn makes_pods(&self, name: PoolName) -> bool {
        let policy = self.pools.get(&name).and_then(|pool| pool.policy.as_ref());
        policy.is_some_and(|policy| policy.pod_start.is_some())
    }

    /// The job that is next in a pool, and the worker for it.
    fn next_grant(
        &self,
        name: PoolName,
        makes_pods: bool,
        now: Now,
    ) -> Option<(Ticket, Option<Uid>)> {
        let queue = self.index.ready(name)?;
        let rules = &self.pools.get(&name)?.policy.as_ref()?.fairness;
        // Pods of attempts are made as they are needed: there is always room.
        let any = self.workers.idlest(name).filter(|_| !makes_pods);
        let suspect_of = queue.suspect_of(|tenant| self.may_have(name, tenant, 0));
        let idle = suspect_of
            .and_then(|_| self.workers.idle(name))
            .filter(|_| !makes_pods);
        if !makes_pods && any.is_none() && idle.is_none() {
            return None;
        }
        let room = Room {
            any: makes_pods || any.is_some(),
            idle: makes_pods || idle.is_some(),
        };
        // A worker is kept for its job: the last place of its tenant is that job's.
        let kept_for = suspect_of.filter(|_| self.workers.keeps_one(name));
        let may = |tenant: Symbol, alone: bool| {
            let taken = !alone && kept_for == Some(tenant);
            self.may_have(name, tenant, u32::from(taken))
        };
        let ticket = queue.pick(rules, now.wall, room, may)?;
        let worker = if ticket.alone { idle } else { any };
        (makes_pods || worker.is_some()).then_some((ticket, worker))
    }

    /// Whether a tenant's cap allows it another call beside those it has, and so many that it is about to have.
    fn may_have(&self, pool: PoolName, tenant: Symbol, besides: u32) -> bool {
        let policy = self.pools.get(&pool).and_then(|p| p.policy.as_ref());
        policy.is_some_and(|policy| {
            let cap = policy.fairness.cap(tenant);
            cap == u32::MAX || self.in_flight_of(pool, tenant).saturating_add(besides) < cap
        })
    }

    /// Calls of a tenant that run or are about to.
    fn in_flight_of(&self, pool: PoolName, tenant: Symbol) -> u32 {
        // The watch may show a claim before its write is answered, and one made anew counts all along.
        let claiming = self.claiming.iter().filter(|(attempt, claim)| {
            **claim == (pool, tenant) && !self.index.runs_in(attempt.job, pool)
        });
        let claiming = u32::try_from(claiming.count()).unwrap_or(u32::MAX);
        self.index.running_of(pool, tenant).saturating_add(claiming)
    }

    pub(super) fn claims(&self) -> u32 {
        u32::try_from(self.claiming.len()).unwrap_or(u32::MAX)
    }

    /// Every claim that is possible now, whatever limits and order would say.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        if !self.may_claim() || self.claims() >= CLAIM_CONCURRENCY {
            return Vec::new();
        }
        let mut all = Vec::new();
        for (pool, job) in self.index.ready_jobs() {
            if self.makes_pods(pool) {
                let worker = None;
                all.push(Candidate { job, worker, pool });
                continue;
            }
            let free = self
                .workers
                .iter()
                .filter(|(_, w)| w.pool == Some(pool) && w.free() > 0);
            all.extend(free.map(|(worker, _)| Candidate {
                job,
                worker: Some(*worker),
                pool,
            }));
        }
        all
    }

    /// Grants one of [`Engine::candidates`]. False: it is none of them.
    pub(super) fn claim_candidate(&mut self, candidate: Candidate, now: Now) -> bool {
        let Candidate { job, worker, pool } = candidate;
        let possible = self.candidates().contains(&candidate)
            && self.pools.get_mut(&pool).is_some_and(|p| {
                if worker.is_none() {
                    p.reserve_permit(job);
                }
                worker.is_none() || p.reserve(job, now.mono)
            });
        if possible {
            self.claim(job, worker, pool, now);
        }
        possible
    }

    /// Jobs still stored as running whose call is known to be over.
    fn proven_ends(&self, pool: PoolName) -> u32 {
        let ended = self.lost.iter().filter(|(uid, lost)| {
            !lost.call_may_run
                && self
                    .index
                    .job(**uid)
                    .is_some_and(|job| job.claimed_pool() == Some(pool))
        });
        u32::try_from(ended.count()).unwrap_or(u32::MAX)
    }

    fn claim(&mut self, uid: Uid, worker: Option<Uid>, pool: PoolName, now: Now) {
        let Some(job) = self.index.job(uid) else {
            return;
        };
        let (after, cause) = match self.lost.remove(&uid) {
            Some(lost) => (
                job.reclaimed(&lost.status, worker, pool.name, now.wall),
                Cause::Reclaimed(lost.class),
            ),
            None => (job.claimed(worker, pool.name, now.wall), Cause::Claimed),
        };
        let attempt = AttemptId {
            job: uid,
            attempt: after.attempt,
        };
        self.claiming.insert(attempt, (pool, job.spec.tenant));
        if let Some(worker) = worker {
            self.workers
                .expect(worker, attempt, false, now.mono + ADOPTION_HOLD);
            if self.is_suspect(uid, after.interruptions) {
                self.workers.seclude(worker, attempt);
            }
        }
        self.index.set_alarm(uid, None);
        self.write(&job, Box::new(after), cause, Some(Claim { worker, pool }));
    }

    /// The claim's write is settled. Not stored: slot, permit and token go back.
    pub(super) fn settle_claim(
        &mut self,
        Claim { worker, pool }: Claim,
        attempt: AttemptId,
        stored: bool,
        now: Now,
    ) {
        self.claiming.remove(&attempt);
        if let Some(known) = self.pools.get_mut(&pool) {
            known.settle();
            if !stored {
                known.withdraw(attempt.job, now.mono);
                if worker.is_some() {
                    known.give_back_token();
                }
            }
        }
        if let (false, Some(worker)) = (stored, worker) {
            let unsent = self
                .workers
                .get(worker)
                .and_then(|w| w.leases.get(&attempt))
                .is_some_and(|lease| lease.since_seq.is_none());
            if unsent {
                self.workers.forget(worker, attempt);
            }
        }
        self.dirty.insert(pool);
    }

    /// Our own write made this worker the holder, and its pod went meanwhile: no lease goes out, and no token is spent.
    pub(super) fn give_back_unspent(&mut self, pending: &Pending, attempt: AttemptId) {
        let takes_token = pending.claim.is_some() || pending.cause == Cause::Placed;
        let Some(worker) = pending.after.worker.filter(|_| takes_token) else {
            return;
        };
        let known = self.workers.get(worker);
        let waits = known.is_some_and(|w| w.leases.contains_key(&attempt));
        let shared = self.live.get(&attempt.job).is_some_and(|l| l.shared);
        let job = self.index.job(attempt.job);
        let runs = job.filter(|job| job.runs(attempt.attempt, worker));
        if let Some(pool) = runs.as_ref().and_then(Job::claimed_pool)
            && let Some(pool) = self.pools.get_mut(&pool).filter(|_| !waits && !shared)
        {
            pool.give_back_token();
        }
    }
}
