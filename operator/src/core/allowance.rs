//! A token bucket: so many at once, so many a second on average. Pure; time is an argument.

use std::time::{Duration, Instant};

/// What may still be done.
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Allowance {
    /// Full.
    pub(crate) fn new(rate: f64, burst: f64, now: Instant) -> Allowance {
        Allowance {
            rate,
            burst,
            tokens: burst,
            at: now,
        }
    }

    /// So many more; false once it is too many. What is refused counts too: who goes on regardless gets nothing.
    pub(crate) fn take(&mut self, count: u32, now: Instant) -> bool {
        self.gather(now);
        self.tokens -= f64::from(count);
        self.tokens >= 0.0
    }

    /// Whether it is as good as a new one.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.gather(now);
        self.tokens >= self.burst
    }

    /// One more, if there is one; what is refused costs nothing.
    pub(crate) fn take_if_any(&mut self, now: Instant) -> bool {
        self.gather(now);
        let any = self.tokens >= 1.0;
        if any {
            self.tokens -= 1.0;
        }
        any
    }

    fn gather(&mut self, now: Instant) {
        let elapsed: Duration = now.saturating_duration_since(self.at);
        self.at = now;
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.rate).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_only_what_has_gathered() {
        let start = Instant::now();
        let mut all = Allowance::new(2.0, 10.0, start);
        let allowed = (0..1000).filter(|_| all.take_if_any(start)).count();
        assert_eq!(allowed, 10);
        let later = start + Duration::from_secs(3);
        let allowed = (0..1000).filter(|_| all.take_if_any(later)).count();
        assert_eq!(allowed, 6);
    }
}
