//! Full jitter: a uniform draw from a window that doubles up to a cap.
//!
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>

use std::time::Duration;

use rand::{Rng, RngCore};

/// No service may send a job away for longer than this.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(3600);

/// `min(cap, base × 2^(nth − 1))`; `nth` counts from 1.
#[must_use]
pub fn window(nth: u32, base: Duration, cap: Duration) -> Duration {
    let factor = 1u32
        .checked_shl(nth.saturating_sub(1))
        .filter(|f| *f != 0)
        .unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(cap)
}

/// The wait before the next attempt after the `nth` end in a row: between zero and the window, but at least what the service
/// asked for (clamped to an hour).
pub fn delay(
    nth: u32,
    base: Duration,
    cap: Duration,
    retry_after: Option<Duration>,
    rng: &mut dyn RngCore,
) -> Duration {
    let window_ms = u64::try_from(window(nth, base, cap).as_millis()).unwrap_or(u64::MAX - 1);
    let drawn = Duration::from_millis(rng.random_range(0..=window_ms.min(u64::MAX - 1)));
    let least = retry_after.unwrap_or_default().min(RETRY_AFTER_CAP);
    drawn.max(least)
}
