//! The circuit breaker of one pool: opens when the service is away or refuses us, probes with few calls, closes when they
//! succeed.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::ids::Uid;
use crate::policy::BreakerPolicy;
use crate::time::Mono;

/// Outcomes that are remembered, and for how long.
const WINDOW: usize = 100;
const WINDOW_TIME: Duration = Duration::from_secs(60);
/// Each failed probing doubles the time it stays open, up to this.
const LONGEST: Duration = Duration::from_secs(300);

/// Where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls go through.
    #[default]
    Closed,
    /// None goes through.
    Open,
    /// A few go through as probes.
    HalfOpen,
}

/// What one ended call says about the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered.
    Up,
    /// It did not.
    Down,
    /// It does not know us, and nobody else had success lately.
    Refuses,
    /// Nothing.
    None,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Breaker {
    state: State,
    window: VecDeque<(Mono, bool)>,
    /// Of Open: when it probes. Of HalfOpen: when probes that never came back are given up.
    until: Mono,
    /// Jobs whose calls are let through to see and have not come back. A call from before the outage is none.
    probes: BTreeSet<Uid>,
    good: u32,
    /// Openings in a row.
    times: u32,
}

impl Breaker {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// How long until it probes again; if it is not open, how long it would stay open now.
    #[must_use]
    pub fn next_probe_in(&self, policy: &BreakerPolicy, now: Mono) -> Duration {
        match self.state {
            State::Open => self.until.since(now),
            State::Closed | State::HalfOpen => self.open_for(policy),
        }
    }

    fn open_for(&self, policy: &BreakerPolicy) -> Duration {
        let factor = 1u32.checked_shl(self.times.min(16)).unwrap_or(u32::MAX);
        let longest = LONGEST.max(policy.open);
        policy.open.saturating_mul(factor).min(longest)
    }

    /// Time passed. `patience`: when a probe must have come back.
    pub fn poll(&mut self, patience: Duration, now: Mono) {
        let due = self.until <= now;
        match self.state {
            State::Open if due => {
                self.state = State::HalfOpen;
                self.probes.clear();
                self.good = 0;
                self.until = now + patience;
            }
            State::HalfOpen if due => {
                self.probes.clear();
                self.until = now + patience;
            }
            State::Open | State::HalfOpen | State::Closed => {}
        }
    }

    /// Whether one more call may start.
    #[must_use]
    pub fn allows(&self, policy: &BreakerPolicy) -> bool {
        match self.state {
            State::Closed => true,
            State::Open => false,
            State::HalfOpen => {
                // Once fewer are asked for than were good it takes one more to close.
                let wanted = policy.probes.saturating_sub(self.good).max(1);
                self.probes.len() < count(wanted)
            }
        }
    }

    /// A call of this job was granted, though it may begin later.
    pub fn granted(&mut self, job: Uid) {
        if self.state == State::HalfOpen {
            self.probes.insert(job);
        }
    }

    /// Whether the call of a claimed job may begin. One that was claimed before the outage takes the place of a probe.
    pub fn lets_begin(&mut self, job: Uid, policy: &BreakerPolicy) -> bool {
        let is_probe = self.state == State::HalfOpen && self.probes.contains(&job);
        let allowed = is_probe || self.allows(policy);
        if allowed {
            self.granted(job);
        }
        allowed
    }

    /// A call of this job ended. True: it has just closed, calls begin again.
    pub fn ended(&mut self, job: Uid, sign: Sign, policy: &BreakerPolicy, now: Mono) -> bool {
        match self.state {
            State::Closed => {
                self.note(sign, policy, now);
                false
            }
            State::Open => false,
            State::HalfOpen => self.probed(job, sign, policy, now),
        }
    }

    fn note(&mut self, sign: Sign, policy: &BreakerPolicy, now: Mono) {
        let failed = match sign {
            Sign::Up => false,
            Sign::Down => true,
            Sign::Refuses => return self.open(policy, now),
            Sign::None => return,
        };
        self.window.push_back((now, failed));
        while self.window.len() > WINDOW.max(count(policy.min_calls))
            || self
                .window
                .front()
                .is_some_and(|(at, _)| now.since(*at) > WINDOW_TIME)
        {
            self.window.pop_front();
        }
        let failures = self.window.iter().filter(|(_, failed)| *failed).count();
        let share = ratio(failures, self.window.len());
        if failed && self.window.len() >= count(policy.min_calls) && share >= policy.failure_ratio {
            self.open(policy, now);
        }
    }

    fn probed(&mut self, job: Uid, sign: Sign, policy: &BreakerPolicy, now: Mono) -> bool {
        self.probes.remove(&job);
        match sign {
            Sign::Down | Sign::Refuses => self.open(policy, now),
            Sign::None => {}
            Sign::Up => {
                self.good = self.good.saturating_add(1);
                if self.good >= policy.probes.max(1) {
                    *self = Breaker::default();
                    return true;
                }
            }
        }
        false
    }

    fn open(&mut self, policy: &BreakerPolicy, now: Mono) {
        self.until = now + self.open_for(policy);
        self.times = self.times.saturating_add(1);
        self.state = State::Open;
        self.window.clear();
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number.max(1)).unwrap_or(usize::MAX)
}

// Windows hold at most thousands.
#[allow(clippy::cast_precision_loss)]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}
