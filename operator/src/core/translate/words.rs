//! The API's words for the engine's phases, reasons and classes.

use kinora_crds::conditions::reason;
use kinora_crds::state;
use kinora_engine::outcome::Class;
use kinora_engine::{Phase, Reason};

pub(super) fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => state::QUEUED,
        Phase::Running => state::RUNNING,
        Phase::Backoff => state::BACKOFF,
        Phase::Suspended => state::SUSPENDED,
        Phase::Succeeded => state::SUCCEEDED,
        Phase::DeadLettered => state::DEAD_LETTERED,
        Phase::Cancelled => state::CANCELLED,
    }
}

/// `None`: a word of a newer operator, whose jobs are left alone.
pub(super) fn phase_of(word: &str) -> Option<Phase> {
    Some(match word {
        state::QUEUED | "" => Phase::Queued,
        state::RUNNING => Phase::Running,
        state::BACKOFF => Phase::Backoff,
        state::SUSPENDED => Phase::Suspended,
        state::SUCCEEDED => Phase::Succeeded,
        state::DEAD_LETTERED => Phase::DeadLettered,
        state::CANCELLED => Phase::Cancelled,
        _ => return None,
    })
}

const REASONS: [(Reason, &str); 13] = [
    (Reason::Queued, reason::QUEUED),
    (Reason::Processing, reason::PROCESSING),
    (Reason::Backoff, reason::BACKOFF),
    (Reason::Suspended, reason::SUSPENDED),
    (Reason::PoolNotFound, reason::POOL_NOT_FOUND),
    (Reason::SourceUnavailable, reason::SOURCE_UNAVAILABLE),
    (Reason::Completed, reason::COMPLETED),
    (Reason::FailuresExhausted, reason::FAILURES_EXHAUSTED),
    (Reason::Rejected, reason::REJECTED),
    (Reason::Poison, reason::POISON),
    (Reason::DeadlineExceeded, reason::DEADLINE_EXCEEDED),
    (Reason::InvalidSource, reason::INVALID_SOURCE),
    (Reason::Cancelled, reason::CANCELLED),
];

/// The reason as conditions name it.
pub(super) fn reason_word(wanted: Reason) -> &'static str {
    REASONS
        .iter()
        .find(|(known, _)| *known == wanted)
        .map_or(reason::QUEUED, |(_, word)| word)
}

/// The reason behind a word; without one, or with a newer operator's, what the phase says by itself.
pub(super) fn reason_of(word: Option<&str>, phase: Phase) -> Reason {
    let named = word.and_then(|word| REASONS.iter().find(|(_, known)| *known == word));
    named.map_or_else(|| plain_reason(phase), |(found, _)| *found)
}

fn plain_reason(phase: Phase) -> Reason {
    match phase {
        Phase::Queued => Reason::Queued,
        Phase::Running => Reason::Processing,
        Phase::Backoff => Reason::Backoff,
        Phase::Suspended => Reason::Suspended,
        Phase::Succeeded => Reason::Completed,
        Phase::DeadLettered => Reason::FailuresExhausted,
        Phase::Cancelled => Reason::Cancelled,
    }
}

/// The class as `lastFailure.class` names it.
pub(crate) fn class_word(class: Class) -> &'static str {
    match class {
        Class::Succeeded => "Succeeded",
        Class::Rejected => "Rejected",
        Class::Failed => "Failed",
        Class::Throttled => "Throttled",
        Class::Unavailable => "Unavailable",
        Class::Misconfigured => "Misconfigured",
        Class::Interrupted => "Interrupted",
        Class::Lost => "Lost",
        Class::Released => "Released",
    }
}
