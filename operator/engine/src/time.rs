//! The two clocks, as values: a monotonic one for durations inside this process, the wall for what is stored.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds of this process's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Unix milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// Both clocks, read at the same moment by the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Now {
    /// For durations.
    pub mono: Mono,
    /// For what is stored.
    pub wall: Wall,
}

/// The wall clock, and whether it can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Clock {
    /// What it shows.
    pub wall: Wall,
    /// It is known to be wrong: nothing is measured by it.
    pub off: bool,
}

impl From<Wall> for Clock {
    fn from(wall: Wall) -> Clock {
        Clock { wall, off: false }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Mono {
    /// How long `earlier` is past; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, rhs: Duration) -> Mono {
        Mono(self.0.saturating_add(millis(rhs)))
    }
}

impl Wall {
    /// Cut to the second, which is all that a stored time keeps.
    #[must_use]
    pub fn floor_second(self) -> Wall {
        Wall(self.0.div_euclid(1000).saturating_mul(1000))
    }

    /// Up to the next full second: a due time is never stored early.
    #[must_use]
    pub fn ceil_second(self) -> Wall {
        Wall(self.0.saturating_add(999)).floor_second()
    }
}

impl Add<Duration> for Wall {
    type Output = Wall;
    fn add(self, rhs: Duration) -> Wall {
        Wall(
            self.0
                .saturating_add(i64::try_from(millis(rhs)).unwrap_or(i64::MAX)),
        )
    }
}

impl Sub for Wall {
    type Output = Duration;
    /// Zero when `rhs` is later.
    fn sub(self, rhs: Wall) -> Duration {
        let difference = self.0.saturating_sub(rhs.0).max(0);
        Duration::from_millis(u64::try_from(difference).unwrap_or(0))
    }
}

impl Now {
    /// The same moment, `duration` later on both clocks.
    #[must_use]
    pub fn after(self, duration: Duration) -> Now {
        Now {
            mono: self.mono + duration,
            wall: self.wall + duration,
        }
    }
}
