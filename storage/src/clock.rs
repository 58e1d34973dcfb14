//! The store's clock against ours, from the `Date` of every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_types::date_time::{DateTime, Format};
use jiff::Timestamp;

const UNKNOWN: i64 = i64::MIN;

/// Remembers the store's time of the last answer and lets it run on with the monotonic clock, so that a jump of the wall
/// clock shows at once, not with the next answer; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct StoreClock {
    started: Instant,
    /// The store's Unix time, in seconds, when `started` was.
    origin: Arc<AtomicI64>,
}

impl StoreClock {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            origin: Arc::new(AtomicI64::new(UNKNOWN)),
        }
    }

    /// Store minus local in seconds; None before the first answer.
    pub(crate) fn skew_seconds(&self) -> Option<i64> {
        self.skew_at(Timestamp::now(), self.elapsed())
    }

    fn skew_at(&self, local: Timestamp, elapsed: i64) -> Option<i64> {
        let origin =
            Some(self.origin.load(Ordering::Relaxed)).filter(|origin| *origin != UNKNOWN)?;
        Some(
            origin
                .saturating_add(elapsed)
                .saturating_sub(local.as_second()),
        )
    }

    fn observe(&self, date: &str, elapsed: i64) {
        if let Ok(date) = DateTime::from_str(date, Format::HttpDate) {
            let origin = date.secs().saturating_sub(elapsed);
            self.origin.store(origin, Ordering::Relaxed);
        }
    }

    /// Seconds since `started`.
    fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX)
    }
}

impl Intercept for StoreClock {
    fn name(&self) -> &'static str {
        "StoreClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.observe(date, self.elapsed());
        }
        Ok(())
    }
}

/// The SDK's time as ours; None if it is out of range.
pub(crate) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// As [`timestamp`], with the beginning of Unix time for what no store should send.
pub(crate) fn timestamp_or_epoch(time: Option<&DateTime>) -> Timestamp {
    time.and_then(timestamp).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_store_minus_local() {
        let local: Timestamp = "2026-03-04T05:06:07.9Z".parse().unwrap();
        let table = [
            ("the same second", "Wed, 04 Mar 2026 05:06:07 GMT", Some(0)),
            (
                "the store is ahead",
                "Wed, 04 Mar 2026 05:11:08 GMT",
                Some(301),
            ),
            (
                "the store is behind",
                "Wed, 04 Mar 2026 05:05:07 GMT",
                Some(-60),
            ),
            ("no date", "yesterday", None),
        ];
        for (name, date, want) in table {
            let clock = StoreClock::new();
            clock.observe(date, 40);
            assert_eq!(clock.skew_at(local, 40), want, "{name}");
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_shows_before_the_next_answer() {
        let local: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        let clock = StoreClock::new();
        clock.observe("Wed, 04 Mar 2026 05:06:07 GMT", 40);
        let table = [
            ("a minute later", 60, 60, 0),
            ("an hour ahead", 3600, 1, -3599),
            ("an hour back", -3600, 1, 3601),
        ];
        for (name, wall, elapsed, want) in table {
            let local = local + jiff::SignedDuration::from_secs(wall);
            assert_eq!(clock.skew_at(local, 40 + elapsed), Some(want), "{name}");
        }
    }
}
