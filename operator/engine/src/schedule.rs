//! The scheduler: which ready job goes next, and what one pool's limits allow. Knows nothing of how a job ends.
//!
//! Order inside a pool: priority, then age. Fair shares between tenants belong here when they come.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::ids::Uid;
use crate::job::Job;
use crate::limits::{Bucket, Ghosts};
use crate::policy::PoolPolicy;
use crate::time::{Mono, Wall};

/// How many claims one leader has under way: what a paused leader that wakes may exceed the limits by.
pub const CLAIM_CONCURRENCY: u32 = 32;

/// Outcomes of a pool that are remembered to judge a rejection by.
const HISTORY: usize = 20;

/// For this long a success proves that the service is there.
const RECENT: Duration = Duration::from_secs(60);

/// Place of a job in its pool's ready queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadyKey {
    priority: Reverse<i32>,
    created: Wall,
    /// The job.
    pub uid: Uid,
}

impl ReadyKey {
    /// Of these facts.
    #[must_use]
    pub fn of(job: &Job) -> ReadyKey {
        ReadyKey {
            priority: Reverse(job.spec.priority),
            created: job.spec.created,
            uid: job.uid,
        }
    }
}

/// What a leader knows of one pool beside its settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    /// Settings; `None`: the pool is gone, or not seen yet.
    pub policy: Option<PoolPolicy>,
    /// Rate tokens.
    pub bucket: Bucket,
    /// Claims under way.
    pub reserved: u32,
    /// Calls of ended attempts.
    pub ghosts: Ghosts,
    history: VecDeque<bool>,
    last_success: Option<(Mono, Uid)>,
    before_last: Option<(Mono, Uid)>,
    call_ms: Option<f64>,
}

impl Hash for Pool {
    /// Without what no decision about a job depends on (`call_ms`), and of the settings only what changes under way.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Pool {
            policy,
            bucket,
            reserved,
            ghosts,
            history,
            last_success,
            before_last,
            call_ms: _,
        } = self;
        let settings = policy.as_ref().map(|p| (p.suspended, p.is_default));
        (settings, bucket, reserved, ghosts, history).hash(state);
        (last_success, before_last).hash(state);
    }
}

impl Pool {
    /// What a new leader begins with: no token, no memory of outcomes.
    pub fn begin(&mut self, now: Mono) {
        self.bucket.drain(now);
        self.reserved = 0;
        self.history.clear();
        self.last_success = None;
        self.before_last = None;
    }

    /// How many calls at once the limiter allows; `None`: only slots limit them.
    #[must_use]
    pub fn effective_limit(&self) -> Option<u32> {
        self.policy.as_ref().and_then(|p| p.max_in_flight)
    }

    /// Calls that run or may run.
    #[must_use]
    pub fn in_flight(&self, running: u32) -> u32 {
        running
            .saturating_add(self.reserved)
            .saturating_add(self.ghosts.count())
    }

    /// Whether a permit is free.
    #[must_use]
    pub fn has_permit(&self, running: u32) -> bool {
        let Some(policy) = &self.policy else {
            return false;
        };
        let limit = policy.max_in_flight.unwrap_or(u32::MAX);
        !policy.suspended && self.in_flight(running) < limit
    }

    /// Reserves a permit and a rate token for a claim.
    pub fn reserve(&mut self, now: Mono) -> bool {
        let Some(policy) = &self.policy else {
            return false;
        };
        let taken = self.bucket.take(policy, now);
        if taken {
            self.reserved = self.reserved.saturating_add(1);
        }
        taken
    }

    /// Reserves a permit for a claim whose call starts later: its rate token is taken then.
    pub fn reserve_permit(&mut self) {
        self.reserved = self.reserved.saturating_add(1);
    }

    /// Takes a rate token for a call that starts now.
    pub fn take_token(&mut self, now: Mono) -> bool {
        match &self.policy {
            Some(policy) => self.bucket.take(policy, now),
            None => false,
        }
    }

    /// The claim's write is settled: from now on the stored status counts, or nothing.
    pub fn settle(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// The token of a claim that led to no call.
    pub fn give_back_token(&mut self) {
        if let Some(policy) = &self.policy {
            self.bucket.give_back(policy);
        }
    }

    /// Notes an outcome that came from the service. `call`: its duration.
    pub fn note(&mut self, job: Uid, succeeded: bool, call: Option<Duration>, now: Mono) {
        self.history.push_back(succeeded);
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        if !succeeded {
            return;
        }
        if self.last_success.is_none_or(|(_, last)| last != job) {
            self.before_last = self.last_success;
        }
        self.last_success = Some((now, job));
        if let Some(call) = call {
            let ms = call.as_secs_f64() * 1000.0;
            self.call_ms = Some(self.call_ms.map_or(ms, |mean| mean * 0.9 + ms * 0.1));
        }
    }

    /// Whether one of the last outcomes was a success: the service tells good from bad.
    #[must_use]
    pub fn is_credible(&self) -> bool {
        self.history.iter().any(|succeeded| *succeeded)
    }

    /// Whether another job succeeded within the last minute.
    #[must_use]
    pub fn others_succeed(&self, job: Uid, now: Mono) -> bool {
        [self.last_success, self.before_last]
            .into_iter()
            .flatten()
            .any(|(at, who)| who != job && now.since(at) <= RECENT)
    }

    /// Mean seconds of a call.
    #[must_use]
    pub fn call_seconds(&self) -> Option<f64> {
        self.call_ms.map(|ms| ms / 1000.0)
    }
}
