use kinora_engine::Phase::{
    Backoff, Cancelled, DeadLettered, Queued, Running, Succeeded, Suspended,
};
use rstest::rstest;
use serde_json::json;

use super::*;

use Cause::{Ended, Reclaimed};
use EventReason as Told;

#[rstest]
#[case::success(Ended(Class::Succeeded), Succeeded, Reason::Completed, None)]
#[case::a_claim(Cause::Claimed, Running, Reason::Processing, None)]
#[case::a_first_look(Cause::Observed, Queued, Reason::Queued, None)]
#[case::a_later_look_at_a_blocked_job(Cause::Observed, Queued, Reason::PoolNotFound, None)]
#[case::held(Cause::Suspension, Suspended, Reason::Suspended, None)]
#[case::a_pod_that_came(Cause::Placed, Running, Reason::Processing, None)]
#[case::progress(Cause::Progress(50), Running, Reason::Processing, None)]
#[case::a_loss(Ended(Class::Lost), Queued, Reason::Queued, None)]
#[case::a_loss_leased_again(Reclaimed(Class::Lost), Running, Reason::Processing, None)]
#[case::a_pool_that_came_back(Cause::Blocked, Queued, Reason::Queued, None)]
#[case::a_failure(
    Ended(Class::Failed),
    Backoff,
    Reason::Backoff,
    Some(Told::AttemptFailed)
)]
#[case::a_failure_of_a_held_job(
    Ended(Class::Failed),
    Suspended,
    Reason::Suspended,
    Some(Told::AttemptFailed)
)]
#[case::a_rejection_not_believed_yet(
    Ended(Class::Rejected),
    Backoff,
    Reason::Backoff,
    Some(Told::AttemptFailed)
)]
#[case::the_last_failure(
    Ended(Class::Failed),
    DeadLettered,
    Reason::FailuresExhausted,
    Some(Told::DeadLettered)
)]
#[case::a_rejection(
    Ended(Class::Rejected),
    DeadLettered,
    Reason::Rejected,
    Some(Told::DeadLettered)
)]
#[case::the_last_interruption(
    Ended(Class::Interrupted),
    DeadLettered,
    Reason::Poison,
    Some(Told::DeadLettered)
)]
#[case::throttled(
    Ended(Class::Throttled),
    Backoff,
    Reason::Backoff,
    Some(Told::RetryScheduled)
)]
#[case::away(
    Ended(Class::Unavailable),
    Backoff,
    Reason::Backoff,
    Some(Told::RetryScheduled)
)]
#[case::misconfigured(
    Ended(Class::Misconfigured),
    Backoff,
    Reason::Backoff,
    Some(Told::RetryScheduled)
)]
#[case::the_third_loss_in_a_row(
    Ended(Class::Lost),
    Backoff,
    Reason::Backoff,
    Some(Told::RetryScheduled)
)]
#[case::throttled_and_held(Ended(Class::Throttled), Suspended, Reason::Suspended, None)]
#[case::a_missing_source(
    Ended(Class::Failed),
    Backoff,
    Reason::SourceUnavailable,
    Some(Told::SourceUnavailable)
)]
#[case::a_source_still_missing(
    Cause::SourceGone,
    Backoff,
    Reason::SourceUnavailable,
    Some(Told::SourceUnavailable)
)]
#[case::a_source_gone(
    Cause::SourceGone,
    DeadLettered,
    Reason::InvalidSource,
    Some(Told::DeadLettered)
)]
#[case::an_interruption(
    Ended(Class::Interrupted),
    Queued,
    Reason::Queued,
    Some(Told::Interrupted)
)]
#[case::an_interruption_leased_again(
    Reclaimed(Class::Interrupted),
    Running,
    Reason::Processing,
    Some(Told::Interrupted)
)]
#[case::no_pool(Cause::Blocked, Queued, Reason::PoolNotFound, Some(Told::PoolNotFound))]
#[case::cancelled(
    Cause::Cancelled,
    Cancelled,
    Reason::Cancelled,
    Some(Told::JobCancelled)
)]
#[case::too_late(
    Cause::Expired,
    DeadLettered,
    Reason::DeadlineExceeded,
    Some(Told::DeadlineExceeded)
)]
#[case::redriven(Cause::Redriven, Queued, Reason::Queued, Some(Told::Redriven))]
fn only_the_unhappy_path_is_told(
    #[case] cause: Cause,
    #[case] phase: Phase,
    #[case] reason: Reason,
    #[case] want: Option<EventReason>,
) {
    assert_eq!(worth_telling(cause, phase, reason), want);
}

fn job(message: &str, due: Option<&str>) -> VideoJob {
    serde_json::from_value(json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
        "metadata": {"name": "clip", "resourceVersion": "4711"},
        "spec": {"source": {"key": "imports/videos/clip"}},
        "status": {"state": "Backoff", "attempt": 2, "nextAttemptTime": due, "conditions": [{
            "type": "Succeeded", "status": "Unknown", "reason": "Backoff", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }))
    .unwrap()
}

#[test]
fn a_note_says_why_which_attempt_and_when_the_next_one_is() {
    let due = Some("2026-01-01T00:00:30Z");
    let table = [
        (
            job("Failed: ffmpeg fell over", due),
            Told::AttemptFailed,
            "Failed: ffmpeg fell over (attempt 2, next attempt after 2026-01-01T00:00:30Z)",
        ),
        (
            job("", None),
            Told::DeadLettered,
            "the job failed for good; a VideoJobRedrive brings it back (attempt 2)",
        ),
        (
            job("", None),
            Told::JobCancelled,
            "cancelled as spec.cancelRequested asks",
        ),
    ];
    for (job, reason, want) in table {
        assert_eq!(note(&job, reason), want);
    }
    let long = note(&job(&"ü".repeat(2000), due), Told::AttemptFailed);
    assert!(
        long.len() <= MAX_NOTE && long.ends_with("00:00:30Z)"),
        "{long}"
    );
}

#[test]
fn the_same_write_has_one_name_and_the_next_another() {
    let mut job = job("", None);
    assert_eq!(name_of(&job).as_deref(), Some("clip.1267"));
    job.metadata.resource_version = Some("4712".into());
    assert_eq!(name_of(&job).as_deref(), Some("clip.1268"));
}

#[test]
fn a_reason_is_one_word_and_there_once() {
    let mut words = EventReason::ALL.map(EventReason::word);
    words.sort_unstable();
    assert!(words.windows(2).all(|two| two[0] != two[1]), "{words:?}");
    for reason in EventReason::ALL {
        assert!(matches!(reason.kind(), "Normal" | "Warning"));
        assert!(!plain(reason).is_empty());
    }
}
