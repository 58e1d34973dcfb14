//! Whether this process may judge others: a leader that was asleep, or whose own writes fail, expires nobody.

use std::time::Duration;

use crate::time::Mono;

/// A longer gap between two ticks is our own fault.
pub const TICK_GAP: Duration = Duration::from_secs(1);
/// Longer without a successful write of our own is our own fault.
pub const WRITE_GAP: Duration = Duration::from_secs(3);

/// Signs of our own health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Health {
    last_tick: Mono,
    last_write: Mono,
}

impl Health {
    /// Healthy from now on.
    pub fn reset(&mut self, now: Mono) {
        self.last_tick = now;
        self.last_write = now;
    }

    /// A write of ours succeeded.
    pub fn wrote(&mut self, now: Mono) {
        self.last_write = self.last_write.max(now);
    }

    /// Notes a tick; true when what was missed since may be our own fault.
    pub fn tick(&mut self, now: Mono) -> bool {
        let slept = now.since(self.last_tick) > TICK_GAP;
        self.last_tick = self.last_tick.max(now);
        slept || now.since(self.last_write) > WRITE_GAP
    }
}
