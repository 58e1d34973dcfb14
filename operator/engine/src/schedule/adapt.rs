//! How many calls at once a service is given: fewer at once when it throttles, more again slowly (AIMD); and after an outage
//! from few to many in steps. One that throttles the fewest calls is left alone for a while.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::backoff::{self, RETRY_AFTER_CAP};
use crate::time::Mono;

/// What a step down leaves.
const DOWN: f64 = 0.7;
/// Throttled calls that started before a step down say nothing new: no second step within this.
const COOL: Duration = Duration::from_secs(5);
/// What the limit grows by while a round of calls succeeds: a tenth, at least one.
const UP: f64 = 0.1;
/// The same after an outage.
const RAMP: f64 = 0.5;
/// First and longest pause at the fewest calls, when the service names no longer one.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// See the module. Without a number yet, the pool's own limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Adapt {
    limit: Option<f64>,
    stepped: Option<Mono>,
    /// Grows quickly up to here.
    ramp_to: Option<f64>,
    /// No call begins before.
    not_before: Option<Mono>,
    /// Pauses in a row.
    pauses: u32,
}

impl Hash for Adapt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Adapt {
            limit,
            stepped,
            ramp_to,
            not_before,
            pauses,
        } = self;
        (limit.map(f64::to_bits), ramp_to.map(f64::to_bits)).hash(state);
        (stepped, not_before, pauses).hash(state);
    }
}

impl Adapt {
    /// Calls at once, between `min` and `max`; `None`: no limit.
    #[must_use]
    pub fn allowed(&self, min: u32, max: Option<u32>) -> Option<u32> {
        let own = self.limit.map(|limit| whole(limit).max(min.max(1)));
        match (own, max) {
            (Some(own), Some(max)) => Some(own.min(max)),
            (Some(own), None) => Some(own),
            (None, max) => max,
        }
    }

    /// Whether a call may begin now.
    #[must_use]
    pub fn may_begin(&self, now: Mono) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// When the next call may begin, once one had to wait.
    #[must_use]
    pub fn not_before(&self) -> Option<Mono> {
        self.not_before
    }

    /// The service throttled while so many calls ran, and may have asked to be left alone for so long.
    pub fn throttled(
        &mut self,
        in_flight: u32,
        min: u32,
        max: Option<u32>,
        retry_after: Option<Duration>,
        now: Mono,
    ) {
        if self
            .allowed(min, max)
            .is_some_and(|allowed| allowed <= min.max(1))
        {
            self.pause(retry_after, now);
        }
        if self.stepped.is_some_and(|at| now.since(at) < COOL) {
            return;
        }
        self.stepped = Some(now);
        self.ramp_to = None;
        let allowed = self.allowed(min, max).unwrap_or(u32::MAX);
        // A limit that was never reached is no measure.
        let base = f64::from(allowed.min(in_flight.max(1)));
        self.limit = Some((base * DOWN).max(f64::from(min.max(1))));
    }

    /// Fewer calls at once there cannot be. One that began before the pause makes the next no longer.
    fn pause(&mut self, retry_after: Option<Duration>, now: Mono) {
        if self.may_begin(now) {
            self.pauses = self.pauses.saturating_add(1);
        }
        let (first, longest) = PAUSE;
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_CAP);
        let wait = backoff::window(self.pauses, first, longest).max(asked);
        self.not_before = self.not_before.max(Some(now + wait));
    }

    /// A call succeeded.
    pub fn succeeded(&mut self, max: Option<u32>) {
        self.not_before = None;
        self.pauses = 0;
        let Some(limit) = &mut self.limit else {
            return;
        };
        let growth = if self.ramp_to.is_some_and(|to| *limit < to) {
            RAMP
        } else {
            UP
        };
        // Of a whole round of `limit` calls each adds its part.
        *limit += growth.max(1.0 / limit.max(1.0));
        if max.is_some_and(|max| *limit >= f64::from(max)) {
            *self = Adapt::default();
        }
    }

    /// The service is back: begin with few.
    pub fn restart(&mut self, few: u32, max: Option<u32>) {
        // Away again before it was back where it had been: that is the goal still.
        let before = self
            .limit
            .zip(self.ramp_to)
            .filter(|(limit, to)| limit < to);
        let goal = before.map(|(_, to)| to).or(self.limit);
        let goal = goal.or(max.map(f64::from));
        self.ramp_to = Some(goal.unwrap_or(f64::INFINITY));
        self.limit = Some(f64::from(few.max(1)));
    }
}

// Never negative, and far below what a u32 holds; a cast from a float saturates anyway.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(limit: f64) -> u32 {
    limit.floor() as u32
}
