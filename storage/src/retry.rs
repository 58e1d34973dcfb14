//! Retries of idempotent, unconditional calls: full jitter under a cap, few attempts, and a budget that all calls of
//! a process share, so that a store in trouble is not asked three times as often. covers: F11

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Calls of one action, the first included.
pub(crate) const ATTEMPTS: u32 = 4;
const BASE: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(2);
const BUDGET: i64 = 200;
const COST: i64 = 5;

/// What the process may still spend on retries. A success earns a fifth of what a retry costs.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicI64);

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self(AtomicI64::new(BUDGET))
    }

    /// Takes the price of one retry; false if there is not enough left.
    pub(crate) fn spend(&self) -> bool {
        let take = |left: i64| (left >= COST).then_some(left - COST);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// A call succeeded.
    pub(crate) fn earn(&self) {
        let add = |left: i64| (left < BUDGET).then_some(left + 1);
        // Full already is fine.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// How long to wait before retry `retry` (from 1); `draw` is uniform in 0..1.
pub(crate) fn delay(retry: u32, draw: f64) -> Duration {
    let window = BASE.saturating_mul(1 << retry.min(10)).min(CAP);
    window.mul_f64(draw.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_budget_ends_and_successes_refill_it() {
        let budget = RetryBudget::new();
        let spent = (0..1000).filter(|_| budget.spend()).count();
        assert_eq!(spent, 40);
        (0..4).for_each(|_| budget.earn());
        assert!(!budget.spend(), "four successes do not pay one retry");
        budget.earn();
        assert!(budget.spend());
    }

    proptest! {
        /// covers: T18
        #[test]
        fn delays_are_bounded_for_any_retry(retry: u32, draw in 0.0..1.0f64) {
            prop_assert!(delay(retry, draw) <= CAP);
        }
    }
}
