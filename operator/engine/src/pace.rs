//! At most so many a second, evenly: for work that must not crowd out what people wait for.

use std::time::Duration;

use crate::time::Mono;

/// Gives out turns, one every `1 / per_second`; unused ones are not saved up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    per_second: f64,
    /// Milliseconds on the monotonic clock.
    next: f64,
}

impl Pace {
    /// So many a second; less than one in a thousand seconds is taken for that.
    #[must_use]
    pub fn new(per_second: f64) -> Pace {
        Pace {
            per_second: per_second.max(0.001),
            next: 0.0,
        }
    }

    /// Takes the next turn and says how long to wait for it.
    // Milliseconds of a process's life fit a float exactly, and what is rounded below a millisecond does not matter.
    #[allow(clippy::cast_precision_loss)]
    pub fn turn(&mut self, now: Mono) -> Duration {
        let now = now.0 as f64;
        let at = self.next.max(now);
        self.next = at + 1000.0 / self.per_second;
        Duration::from_secs_f64((at - now) / 1000.0)
    }
}
