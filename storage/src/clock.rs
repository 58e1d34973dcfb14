//! The store's clock against ours, from the `Date` of every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_types::date_time::{DateTime, Format};
use jiff::Timestamp;

const UNKNOWN: i64 = i64::MIN;

/// Remembers the last difference seen; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct StoreClock(Arc<AtomicI64>);

impl StoreClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }

    /// Store minus local in seconds; None before the first answer.
    pub(crate) fn skew_seconds(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|skew| *skew != UNKNOWN)
    }

    fn observe(&self, date: &str, local: Timestamp) {
        if let Ok(date) = DateTime::from_str(date, Format::HttpDate) {
            self.0
                .store(date.secs() - local.as_second(), Ordering::Relaxed);
        }
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
            self.observe(date, Timestamp::now());
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
            clock.observe(date, local);
            assert_eq!(clock.skew_seconds(), want, "{name}");
        }
    }
}
