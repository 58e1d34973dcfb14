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
    pub fn turn(&mut self, now: Mono) -> Duration {
        self.turns(1, now)
    }

    /// Takes so many turns together, all at the time of the first, and says how long to wait for that.
    pub fn turns(&mut self, count: u32, now: Mono) -> Duration {
        let wait = self.wait(now);
        self.next = self.next.max(ms(now)) + f64::from(count) * 1000.0 / self.per_second;
        wait
    }

    /// How long it is until the next turn, which stays to be taken.
    #[must_use]
    pub fn wait(&self, now: Mono) -> Duration {
        Duration::from_secs_f64((self.next - ms(now)).max(0.0) / 1000.0)
    }
}

// Milliseconds of a process's life fit a float exactly, and what is rounded below a millisecond does not matter.
#[allow(clippy::cast_precision_loss)]
fn ms(now: Mono) -> f64 {
    now.0 as f64
}

/// A pace for batches that are looked through first. A look takes from the pause before its batch, and ends when that does, as
/// far as the look before it tells: what it saw is fresh then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batches {
    pace: Pace,
    look: Duration,
}

impl Batches {
    /// So many a second, as for [`Pace::new`].
    #[must_use]
    pub fn new(per_second: f64) -> Batches {
        Batches {
            pace: Pace::new(per_second),
            look: Duration::ZERO,
        }
    }

    /// How long to wait before the next batch is looked through.
    #[must_use]
    pub fn before_look(&self, now: Mono) -> Duration {
        self.pace.wait(now).saturating_sub(self.look)
    }

    /// A look is over and took so long.
    pub fn looked(&mut self, took: Duration) {
        self.look = took;
    }

    /// Takes the turns of a batch and says how long to wait before all of it.
    pub fn turns(&mut self, count: u32, now: Mono) -> Duration {
        self.pace.turns(count, now)
    }
}
