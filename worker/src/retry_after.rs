//! How long the service asks to wait: `google.rpc.RetryInfo` or `retry-after` metadata. Pure; the wall clock is an argument.

use std::time::Duration;

use jiff::Timestamp;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic_types::StatusExt;

/// Larger values are cut to this. The operator clamps further; this only keeps nonsense off the wire.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a status asks for; the larger when it asks twice. `None`: it named nothing intelligible.
#[must_use]
pub fn of_status(status: &Status, now: Timestamp) -> Option<Duration> {
    let detail = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
        .map(|delay| delay.min(MAX_RETRY_AFTER));
    detail.max(of_metadata(status.metadata(), now))
}

fn of_metadata(metadata: &MetadataMap, now: Timestamp) -> Option<Duration> {
    parse(metadata.get("retry-after")?.to_str().ok()?, now)
}

/// A `Retry-After` value (RFC 9110, 10.2.3): seconds, or an HTTP date. The past and negative numbers mean "now".
#[must_use]
pub fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        // NaN fails both comparisons and is refused; infinity is clamped.
        return if seconds > 0.0 {
            Some(Duration::from_secs_f64(
                seconds.min(MAX_RETRY_AFTER.as_secs_f64()),
            ))
        } else {
            (seconds <= 0.0).then_some(Duration::ZERO)
        };
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let wait = at.duration_since(now);
    Some(
        Duration::try_from(wait)
            .unwrap_or(Duration::ZERO)
            .min(MAX_RETRY_AFTER),
    )
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    fn now() -> Timestamp {
        "2026-05-09T07:28:00Z".parse().unwrap()
    }

    /// covers: F45
    #[rstest::rstest]
    #[case::seconds("120", Some(120_000))]
    #[case::blanks_around(" 7 ", Some(7_000))]
    #[case::fractions("0.5", Some(500))]
    #[case::zero("0", Some(0))]
    #[case::negative_means_now("-5", Some(0))]
    #[case::huge_is_clamped("99999999999999999999999999", Some(86_400_000))]
    #[case::infinite_is_clamped("inf", Some(86_400_000))]
    #[case::not_a_number("NaN", None)]
    #[case::an_http_date("Sat, 09 May 2026 07:28:30 GMT", Some(30_000))]
    #[case::a_date_in_the_past("Sun, 06 Nov 1994 08:49:37 GMT", Some(0))]
    #[case::a_date_in_a_century("Sat, 09 May 2126 07:28:30 GMT", None)]
    #[case::text("soon", None)]
    #[case::empty("", None)]
    fn values(#[case] value: &str, #[case] want_ms: Option<u64>) {
        let got = parse(value, now());
        // The weekday of a far date need not be right: what counts is that nothing above the clamp comes out.
        if value.contains("2126") {
            assert!(got.is_none_or(|wait| wait == MAX_RETRY_AFTER));
        } else {
            assert_eq!(got, want_ms.map(Duration::from_millis));
        }
    }

    #[test]
    fn retry_info_and_header_together_give_the_larger() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let mut status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        assert_eq!(of_status(&status, now()), Some(Duration::from_secs(3)));
        status
            .metadata_mut()
            .insert("retry-after", "9".parse().unwrap());
        assert_eq!(of_status(&status, now()), Some(Duration::from_secs(9)));
        assert_eq!(of_status(&Status::internal("x"), now()), None);
    }
}
