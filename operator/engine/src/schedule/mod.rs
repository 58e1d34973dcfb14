//! The scheduler: which ready job goes next, and what one pool's limits allow. Knows nothing of how a job ends.
//!
//! [`queue`] orders the jobs of a pool, [`adapt`] and [`breaker`] follow how its service does.

pub mod adapt;
pub mod breaker;
pub mod queue;

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::ids::Uid;
use crate::limits::{Bucket, Ghosts};
use crate::outcome::Class;
use crate::policy::PoolPolicy;
use crate::time::Mono;
use adapt::Adapt;
use breaker::{Breaker, Sign, State};

/// How many claims one leader has under way: what a paused leader that wakes may exceed the limits by.
pub const CLAIM_CONCURRENCY: u32 = 32;

/// From so many interruptions on a job gets a worker for itself: it may be what takes them down.
pub const ALONE_FROM: u32 = 3;

/// Outcomes of a pool that are remembered to judge a rejection by.
const HISTORY: usize = 20;

/// For this long a success proves that the service is there.
const RECENT: Duration = Duration::from_secs(60);

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
    adapt: Adapt,
    breaker: Breaker,
    refused: bool,
    /// Which service all this is known of.
    service: Option<u64>,
}

impl Hash for Pool {
    /// Without what no decision about a job depends on, and of the settings only what changes under way.
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
            adapt,
            breaker,
            refused: _,
            service: _,
        } = self;
        // Only a pod that waits for its call depends on it: what is claimed is up to who chooses.
        let waits = policy
            .as_ref()
            .filter(|p| p.pod_start.is_some())
            .map(|_| (adapt, breaker));
        let settings = policy.as_ref().map(|p| (p.suspended, p.is_default));
        (settings, bucket, reserved, ghosts, history).hash(state);
        (last_success, before_last, waits).hash(state);
    }
}

fn may_begin(policy: &PoolPolicy, adapt: &Adapt, now: Mono) -> bool {
    !policy.adaptive.enabled || adapt.may_begin(now)
}

impl Pool {
    /// What a new leader begins with: no token, no memory of outcomes.
    pub fn begin(&mut self, now: Mono) {
        self.bucket.drain(now);
        self.reserved = 0;
        self.forget();
    }

    /// Whose settings these are from now on. Pauses and breaker are for the service that they were learnt from.
    pub fn set(&mut self, policy: Option<PoolPolicy>) {
        if let Some(policy) = &policy {
            let before = self.service.replace(policy.service);
            if before.is_some_and(|before| before != policy.service) {
                self.forget();
                self.call_ms = None;
            }
        }
        self.policy = policy;
    }

    /// Which service it calls, or called last.
    #[must_use]
    pub fn service(&self) -> Option<u64> {
        self.service
    }

    fn forget(&mut self) {
        self.history.clear();
        self.last_success = None;
        self.before_last = None;
        self.adapt = Adapt::default();
        self.breaker = Breaker::default();
        self.refused = false;
    }

    /// How many calls at once the limiter allows; `None`: only slots limit them.
    #[must_use]
    pub fn effective_limit(&self) -> Option<u32> {
        let policy = self.policy.as_ref()?;
        self.adapt
            .allowed(policy.adaptive.min_in_flight, policy.max_in_flight)
    }

    fn at_most(&self) -> u32 {
        self.effective_limit().unwrap_or(u32::MAX)
    }

    /// Until when its service is left alone; a time that is past says nothing.
    #[must_use]
    pub fn paused_until(&self) -> Option<Mono> {
        let policy = self.policy.as_ref()?;
        self.adapt.not_before().filter(|_| policy.adaptive.enabled)
    }

    /// Where the breaker stands.
    #[must_use]
    pub fn breaker(&self) -> State {
        self.breaker.state()
    }

    /// Whether it was opened because the service does not know us.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused && self.breaker.state() != State::Closed
    }

    /// How long a job waits that the service refused for our sake.
    #[must_use]
    pub fn next_probe_in(&self, now: Mono) -> Duration {
        let policy = self.policy.as_ref();
        policy.map_or(RECENT, |policy| {
            self.breaker.next_probe_in(&policy.breaker, now)
        })
    }

    /// Calls that run or may run.
    #[must_use]
    pub fn in_flight(&self, running: u32) -> u32 {
        running
            .saturating_add(self.reserved)
            .saturating_add(self.ghosts.count())
    }

    /// Time passed: an open breaker may begin to probe. True: it has.
    pub fn poll(&mut self, now: Mono) -> bool {
        let before = self.breaker.state();
        let patience = self
            .policy
            .as_ref()
            .map_or(RECENT, PoolPolicy::attempt_limit);
        self.breaker.poll(patience, now);
        self.breaker.state() != before
    }

    /// Whether a permit is free, and may be used now.
    #[must_use]
    pub fn has_permit(&self, running: u32, now: Mono) -> bool {
        let Some(policy) = &self.policy else {
            return false;
        };
        !policy.suspended
            && self.in_flight(running) < self.at_most()
            && self.breaker.allows(&policy.breaker)
            && may_begin(policy, &self.adapt, now)
    }

    /// Reserves a permit and a rate token for a claim.
    pub fn reserve(&mut self, job: Uid, now: Mono) -> bool {
        let Some(policy) = &self.policy else {
            return false;
        };
        let taken = self.bucket.take(policy, now);
        if taken {
            self.reserved = self.reserved.saturating_add(1);
            self.breaker.granted(job);
        }
        taken
    }

    /// Reserves a permit for a claim whose call starts later: its rate token is taken then.
    pub fn reserve_permit(&mut self, job: Uid) {
        self.reserved = self.reserved.saturating_add(1);
        self.breaker.granted(job);
    }

    /// Takes a rate token for the call of a claimed job that starts now, if one may. `begun`: claimed ones that have started;
    /// after an outage they are few at first, however many wait.
    pub fn take_token(&mut self, job: Uid, begun: u32, now: Mono) -> bool {
        let has_room = begun.saturating_add(self.ghosts.count()) < self.at_most();
        let Some(policy) = &self.policy else {
            return false;
        };
        !policy.suspended
            && has_room
            && may_begin(policy, &self.adapt, now)
            && self.breaker.lets_begin(job, &policy.breaker)
            && self.bucket.take(policy, now)
    }

    /// Calls that another leader started while this one leads.
    pub fn owe(&mut self, calls: u32, now: Mono) {
        if let Some(policy) = &self.policy {
            self.bucket.owe(calls, policy, now);
        }
    }

    /// The claim's write is settled: from now on the stored status counts, or nothing.
    pub fn settle(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// The token of a call that did not start.
    pub fn give_back_token(&mut self) {
        if let Some(policy) = &self.policy {
            self.bucket.give_back(policy);
        }
    }

    /// The claim of this job came to nothing: if it was a probe, another may take its place.
    pub fn withdraw(&mut self, job: Uid, now: Mono) {
        if let Some(policy) = &self.policy {
            self.breaker.ended(job, Sign::None, &policy.breaker, now);
        }
    }

    /// An attempt of this pool ended, for whatever reason. `call`: its duration; `retry_after`: what the service asked for;
    /// `running`: attempts stored as running before.
    pub fn ended(
        &mut self,
        job: Uid,
        class: Option<Class>,
        call: Option<Duration>,
        retry_after: Option<Duration>,
        running: u32,
        now: Mono,
    ) {
        self.follow(job, class, retry_after, running, now);
        match class {
            Some(Class::Succeeded) => self.note(job, true, call, now),
            Some(Class::Rejected | Class::Failed) => self.note(job, false, call, now),
            Some(
                Class::Throttled
                | Class::Unavailable
                | Class::Misconfigured
                | Class::Interrupted
                | Class::Lost
                | Class::Released,
            )
            | None => {}
        }
    }

    /// Limiter and breaker follow what the service did.
    fn follow(
        &mut self,
        job: Uid,
        class: Option<Class>,
        retry_after: Option<Duration>,
        running: u32,
        now: Mono,
    ) {
        let others = self.others_succeed(job, now);
        let in_flight = self.in_flight(running);
        let Some(policy) = &self.policy else {
            return;
        };
        let sign = match class {
            Some(Class::Succeeded | Class::Rejected | Class::Failed) => Sign::Up,
            Some(Class::Unavailable) => Sign::Down,
            // One odd job does not stop the others.
            Some(Class::Misconfigured) if others => Sign::Down,
            Some(Class::Misconfigured) => Sign::Refuses,
            Some(Class::Throttled | Class::Interrupted | Class::Lost | Class::Released) | None => {
                Sign::None
            }
        };
        let min = policy.adaptive.min_in_flight;
        if class == Some(Class::Throttled) && policy.adaptive.enabled {
            // Nor does what it is asked to wait hold back others that succeed: its quota may be its own.
            let asked = retry_after.filter(|_| !others);
            self.adapt
                .throttled(in_flight, min, policy.max_in_flight, asked, now);
        }
        if class == Some(Class::Succeeded) {
            self.adapt.succeeded(policy.max_in_flight);
        }
        if self.breaker.ended(job, sign, &policy.breaker, now) {
            self.adapt
                .restart(policy.breaker.probes, policy.max_in_flight);
        }
        match sign {
            Sign::Refuses => self.refused = true,
            Sign::Down => self.refused &= class == Some(Class::Misconfigured),
            Sign::Up => self.refused = false,
            Sign::None => {}
        }
    }

    /// Notes an outcome that came from the service.
    fn note(&mut self, job: Uid, succeeded: bool, call: Option<Duration>, now: Mono) {
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
