//! Leadership, time, and pools: what makes many jobs be looked at again.

use std::time::Duration;

use rand::RngCore;

use super::Engine;
use crate::action::{Action, CloseReason};
use crate::archive::{LEAST_STAY_MS, MAX_DEAD_LETTERS, MAX_FINISHED};
use crate::event::{History, Lead};
use crate::ids::{PoolName, Uid};
use crate::index::Kind;
use crate::outcome::Class;
use crate::policy::PoolPolicy;
use crate::time::{Mono, Now, Wall};

/// After a fault of our own a running attempt gets at least this much longer.
pub(super) const EXCUSED: Duration = Duration::from_secs(12);
/// Ended jobs of each kind that go before their time in one tick.
const THINNED_AT_ONCE: usize = 16;

impl Engine {
    pub(super) fn on_lead(&mut self, lead: Lead, now: Now, rng: &mut dyn RngCore) {
        let before = std::mem::replace(&mut self.lead, lead);
        match (before, lead) {
            // Doubtful at once: it was stopped right after it became the leader.
            (Lead::Standby, Lead::Leader | Lead::Doubtful) => self.take_over(now, rng),
            (Lead::Doubtful, Lead::Leader) => {
                self.health.reset(now.mono);
                self.excuse(now.mono);
                self.review_all(now, rng);
            }
            (Lead::Leader | Lead::Doubtful, Lead::Standby) => self.step_down(),
            (Lead::Standby, Lead::Standby)
            | (Lead::Leader, Lead::Leader | Lead::Doubtful)
            | (Lead::Doubtful, Lead::Doubtful) => {}
        }
    }

    /// Nothing of a former time as leader counts: no token, no worker, no request under way.
    fn take_over(&mut self, now: Now, rng: &mut dyn RngCore) {
        self.health.reset(now.mono);
        for pool in self.pools.values_mut() {
            pool.begin(now.mono);
        }
        for uid in self.index.uids() {
            if let Some(job) = self.index.job(uid) {
                self.attempt_entered(&job, now);
            }
        }
        self.review_all(now, rng);
    }

    fn step_down(&mut self) {
        for session in self.workers.disband() {
            let why = CloseReason::NotLeader;
            self.out.push(Action::Close { session, why });
        }
        self.live.clear();
        self.lost.clear();
        self.strangers.clear();
        self.dirty.clear();
        self.claiming.clear();
        for pool in self.pools.values_mut() {
            pool.reserved = 0;
        }
    }

    /// What was found out about the control plane's past.
    pub(super) fn on_history(&mut self, history: History, now: Now, rng: &mut dyn RngCore) {
        if std::mem::replace(&mut self.history, history) == history {
            return;
        }
        if matches!(history, History::Rewound(_)) {
            self.index.doubt_archives();
        }
        self.review_all(now, rng);
    }

    /// Signed URLs are good or bad with this clock: while it is off, nothing is claimed.
    pub(super) fn on_clock(&mut self, trusted: bool, now: Now, rng: &mut dyn RngCore) {
        self.clock_off = !trusted;
        self.allow_all_their_time(now.mono);
        self.count_all_ghosts(now);
        self.review_all(now, rng);
        self.dirty.extend(self.index.ready_pools());
    }

    /// One that is past while the clock is wrong would ring for ever; all is looked at again once it is right.
    pub(super) fn set_alarm(&mut self, uid: Uid, alarm: Option<Wall>, now: Now) {
        let alarm = alarm.filter(|at| !self.clock_off || *at > now.wall);
        self.index.set_alarm(uid, alarm);
    }

    /// A clock that was ahead may have taken some for over.
    fn count_all_ghosts(&mut self, now: Now) {
        if self.clock_off || self.lead == Lead::Standby {
            return;
        }
        for uid in self.index.uids() {
            if let Some(job) = self.index.job(uid) {
                self.count_ghosts(&job, now);
            }
        }
    }

    /// What was left of the time of those that another leader claimed was reckoned by a clock that nobody trusts, or may be.
    fn allow_all_their_time(&mut self, now: Mono) {
        for uid in self.index.uids() {
            let Some(limit) = self.index.job(uid).and_then(|job| self.limit_of(&job)) else {
                continue;
            };
            if let Some(live) = self.live.get_mut(&uid)
                && let Some(deadline) = &mut live.deadline
            {
                *deadline = (*deadline).max(now + limit);
                self.index.set_bell(uid, live.hold.or(Some(*deadline)));
            }
        }
    }

    fn review_all(&mut self, now: Now, rng: &mut dyn RngCore) {
        for uid in self.index.uids() {
            self.review(uid, now, rng);
        }
    }

    pub(super) fn on_tick(&mut self, now: Now, rng: &mut dyn RngCore) {
        if self.health.tick(now.mono) {
            self.excuse(now.mono);
        }
        if self.lead == Lead::Leader {
            self.give_up_the_silent(now, rng);
        }
        for (name, pool) in &mut self.pools {
            let before = pool.ghosts.count();
            if !self.clock_off {
                pool.ghosts.expire(now.wall);
            }
            if pool.ghosts.count() != before {
                self.dirty.insert(*name);
            }
        }
        self.late.expire(now.mono);
        self.workers.expire(now.mono);
        for (name, pool) in &mut self.pools {
            if pool.poll(now.mono) {
                self.dirty.insert(*name);
            }
        }
        if self.lead == Lead::Leader {
            self.thin_out(now, rng);
        }
        while let Some(uid) = self.index.take_due(now.mono, now.wall) {
            self.review(uid, now, rng);
        }
        self.tend_attempt_pods(now, rng);
        // Rate tokens come with time.
        self.dirty.extend(self.index.ready_pools());
    }

    /// Too many ended jobs for one cell: the oldest go before their time, as far as their records are there.
    fn thin_out(&mut self, now: Now, rng: &mut dyn RngCore) {
        let before = Wall(now.wall.0 - LEAST_STAY_MS);
        for (kind, max, until) in [
            (Kind::DeadLetter, MAX_DEAD_LETTERS, Wall(i64::MAX)),
            (Kind::Finished, MAX_FINISHED, before),
        ] {
            for uid in self.index.crowded(kind, max, until, THINNED_AT_ONCE) {
                self.live(uid).crowded = true;
                self.review(uid, now, rng);
            }
        }
    }

    /// It was our own fault: every wait starts again, nobody expires.
    fn excuse(&mut self, now: Mono) {
        self.workers.excuse(now);
        for (uid, live) in &mut self.live {
            if let Some(deadline) = &mut live.deadline {
                *deadline = (*deadline).max(now + EXCUSED);
                self.index.set_bell(*uid, live.hold.or(Some(*deadline)));
            }
        }
    }

    fn give_up_the_silent(&mut self, now: Now, rng: &mut dyn RngCore) {
        for (worker, session) in self.workers.silent(now.mono) {
            let why = CloseReason::Silent;
            self.out.push(Action::Close { session, why });
            self.workers.end(worker, session, now.mono);
        }
        for worker in self.workers.given_up(now.mono) {
            self.give_up(worker, now, rng);
        }
    }

    /// Its attempts are lost; what it may still be calling keeps slot and permit until it says otherwise.
    fn give_up(&mut self, worker: Uid, now: Now, rng: &mut dyn RngCore) {
        let leases = self
            .workers
            .update(worker, |w| {
                w.absent_until = None;
                w.leases.keys().copied().collect::<Vec<_>>()
            })
            .unwrap_or_default();
        let doomed = self.workers.get(worker).is_some_and(|w| w.doomed);
        if leases.is_empty() && !doomed {
            self.workers.remove(worker);
        }
        for attempt in leases {
            self.lose(worker, attempt, Class::Lost, true, now, rng);
        }
    }

    pub(super) fn on_pool(
        &mut self,
        name: PoolName,
        policy: Option<PoolPolicy>,
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        let pool = self.pools.entry(name).or_default();
        if pool.policy == policy {
            return;
        }
        if pool.policy.is_none() {
            pool.bucket.drain(now.mono);
        }
        pool.set(policy);
        self.dirty.insert(name);
        for uid in self.index.uids() {
            let concerned = self
                .index
                .job(uid)
                .is_some_and(|job| job.spec.namespace == name.namespace);
            if concerned {
                self.review(uid, now, rng);
            }
        }
    }

    pub(super) fn on_jobs_synced(&mut self) {
        self.jobs_known = true;
        self.dirty.extend(self.index.ready_pools());
    }

    pub(super) fn on_pools_synced(&mut self, now: Now, rng: &mut dyn RngCore) {
        self.pools_known = true;
        self.review_all(now, rng);
    }
}
