//! How many calls at once a service is given: fewer at once when it throttles, more again slowly (AIMD); and after an outage
//! from few to many in steps.

use std::time::Duration;

use crate::time::Mono;

/// What a step down leaves.
const DOWN: f64 = 0.7;
/// Throttled calls that started before a step down say nothing new: no second step within this.
const COOL: Duration = Duration::from_secs(5);
/// What the limit grows by while a round of calls succeeds: a tenth, at least one.
const UP: f64 = 0.1;
/// The same after an outage.
const RAMP: f64 = 0.5;

/// See the module. Without a number yet, the pool's own limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Adapt {
    limit: Option<f64>,
    stepped: Option<Mono>,
    /// Grows quickly up to here.
    ramp_to: Option<f64>,
}

impl Adapt {
    /// Calls at once, between `min` and `max`; `None`: no limit.
    #[must_use]
    pub fn allowed(&self, min: u32, max: Option<u32>) -> Option<u32> {
        let own = self.limit.map(|limit| whole(limit).max(min.max(1)));
        match (own, max) {
            (Some(own), Some(max)) => Some(own.min(max.max(1))),
            (Some(own), None) => Some(own),
            (None, max) => max,
        }
    }

    /// The service throttled while so many calls ran.
    pub fn throttled(&mut self, in_flight: u32, min: u32, max: Option<u32>, now: Mono) {
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

    /// A call succeeded.
    pub fn succeeded(&mut self, max: Option<u32>) {
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
