//! Which stored writes are worth an Event, and what it says. Pure.

use kinora_crds::conditions::{SUCCEEDED, cut, find};
use kinora_crds::events::EventReason;
use kinora_crds::{VideoJob, names};
use kinora_engine::action::Cause;
use kinora_engine::outcome::Class;
use kinora_engine::{Phase, Reason};

/// Bytes that the API server takes of a note.
const MAX_NOTE: usize = 1024;

/// The Event of a stored write, if it is one of the unhappy path.
pub(crate) fn worth_telling(cause: Cause, phase: Phase, reason: Reason) -> Option<EventReason> {
    match cause {
        Cause::Ended(_) | Cause::SourceGone if phase == Phase::DeadLettered => {
            Some(EventReason::DeadLettered)
        }
        Cause::Ended(class) | Cause::Reclaimed(class) => ended(class, phase, reason),
        Cause::SourceGone => {
            (reason == Reason::SourceUnavailable).then_some(EventReason::SourceUnavailable)
        }
        Cause::Cancelled => Some(EventReason::JobCancelled),
        Cause::Expired => Some(EventReason::DeadlineExceeded),
        Cause::Redriven => Some(EventReason::Redriven),
        Cause::Blocked => (reason == Reason::PoolNotFound).then_some(EventReason::PoolNotFound),
        Cause::Observed
        | Cause::Suspension
        | Cause::Placed
        | Cause::Progress(_)
        | Cause::Claimed => None,
    }
}

/// An attempt that was no success, while the job lives on.
fn ended(class: Class, phase: Phase, reason: Reason) -> Option<EventReason> {
    let waits = phase == Phase::Backoff;
    match class {
        Class::Succeeded => None,
        Class::Interrupted => Some(EventReason::Interrupted),
        Class::Failed if reason == Reason::SourceUnavailable => {
            Some(EventReason::SourceUnavailable)
        }
        Class::Failed | Class::Rejected => Some(EventReason::AttemptFailed),
        // Claimed again at once, or held by its author: nothing is scheduled.
        Class::Throttled
        | Class::Unavailable
        | Class::Misconfigured
        | Class::Lost
        | Class::Released => waits.then_some(EventReason::RetryScheduled),
    }
}

/// What the Event says: the condition's message, which attempt it is about, and when the next one is due.
pub(crate) fn note(job: &VideoJob, reason: EventReason) -> String {
    let status = job.status.as_ref();
    let conditions = status.map(|s| s.conditions.as_slice()).unwrap_or_default();
    let said = find(conditions, SUCCEEDED).map(|c| c.message.as_str());
    let mut note = said
        .filter(|said| !said.is_empty())
        .unwrap_or(plain(reason))
        .to_owned();
    let attempt = status.map_or(0, |s| s.attempt);
    let is_of_attempt = matches!(
        reason,
        EventReason::AttemptFailed | EventReason::RetryScheduled | EventReason::DeadLettered
    );
    let mut more = Vec::new();
    if is_of_attempt && attempt > 0 {
        more.push(format!("attempt {attempt}"));
    }
    let due = status.and_then(|s| s.next_attempt_time.as_ref());
    more.extend(due.map(|due| format!("next attempt after {}", due.0)));
    if !more.is_empty() {
        // What the service said gives way, not this.
        let more = format!(" ({})", more.join(", "));
        note = cut(&note, MAX_NOTE.saturating_sub(more.len())).to_owned() + &more;
    }
    cut(&note, MAX_NOTE).to_owned()
}

fn plain(reason: EventReason) -> &'static str {
    match reason {
        EventReason::AttemptFailed => "the attempt failed",
        EventReason::Interrupted => {
            "the worker's process ended during the attempt; the job is queued"
        }
        EventReason::RetryScheduled => "the attempt ended without a charge",
        EventReason::DeadLettered => "the job failed for good; a VideoJobRedrive brings it back",
        EventReason::DeadlineExceeded => "a deadline of the spec is past",
        EventReason::JobCancelled => "cancelled as spec.cancelRequested asks",
        EventReason::SourceUnavailable => "the source was not found; it is looked for again",
        EventReason::PoolNotFound => "the pool does not exist; the job waits for it",
        EventReason::Redriven => "brought back from the dead letters",
    }
}

/// The same for the same write, whoever posts it and how often: at most one Event a transition.
pub(crate) fn name_of(job: &VideoJob) -> Option<String> {
    let name = job.metadata.name.as_deref()?;
    let version: u64 = job.metadata.resource_version.as_deref()?.parse().ok()?;
    Some(format!("{name}.{version:x}"))
}

/// `reportingController` of every Event.
pub(crate) fn controller() -> String {
    format!("{}/operator", names::GROUP)
}

#[cfg(test)]
#[path = "telling_tests.rs"]
mod tests;
