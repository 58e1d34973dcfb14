//! The store's time, which tests move: the `Date` of answers and the Last-Modified of objects. Signatures of
//! any time are good, so that a store with a wrong clock still answers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Real time and an offset.
#[derive(Debug, Default)]
pub struct Clock(AtomicI64);

impl Clock {
    /// The time here.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_millis(self.0.load(Ordering::SeqCst));
        let real = Timestamp::now();
        real.checked_add(offset).unwrap_or(real)
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_add(by, Ordering::SeqCst);
    }

    /// Sets the clock to real time and so many seconds, which may be negative.
    pub fn skew(&self, seconds: i64) {
        self.0.store(seconds.saturating_mul(1000), Ordering::SeqCst);
    }

    /// The `Date` header.
    pub(crate) fn http_date(&self) -> String {
        self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// The time of a write; S3 tells whole seconds.
    pub(crate) fn second(&self) -> Timestamp {
        Timestamp::from_second(self.now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_when_told_to() {
        let clock = Clock::default();
        clock.skew(-3600);
        let before = clock.now();
        clock.advance(Duration::from_secs(7200));
        let moved = clock.now().duration_since(before).as_secs();
        assert!((7200..7260).contains(&moved), "{moved}");
        assert!(clock.http_date().ends_with(" GMT"));
    }
}
