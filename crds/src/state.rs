//! The words of `status.state`. An open string for people and field selectors; the truth is in the conditions.

/// Waits for a slot; also what the schema shows before anybody wrote status.
pub const QUEUED: &str = "Queued";
/// Claimed for one worker.
pub const RUNNING: &str = "Running";
/// Waits until `status.nextAttemptTime`.
pub const BACKOFF: &str = "Backoff";
/// `spec.suspend` is set and no attempt runs.
pub const SUSPENDED: &str = "Suspended";
/// Ended well; final.
pub const SUCCEEDED: &str = "Succeeded";
/// Rejected or out of budget; left only by a redrive.
pub const DEAD_LETTERED: &str = "DeadLettered";
/// Ended by request; final.
pub const CANCELLED: &str = "Cancelled";

/// Every state this version writes.
pub const ALL: [&str; 7] = [
    QUEUED,
    RUNNING,
    BACKOFF,
    SUSPENDED,
    SUCCEEDED,
    DEAD_LETTERED,
    CANCELLED,
];

/// Whether a job in this state is over. Unknown words (a newer operator's) are not.
#[must_use]
pub fn is_final(state: &str) -> bool {
    matches!(state, SUCCEEDED | DEAD_LETTERED | CANCELLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_states_are_final_and_an_unknown_word_is_not() {
        let finals: Vec<&str> = ALL.into_iter().filter(|s| is_final(s)).collect();
        assert_eq!(finals, [SUCCEEDED, DEAD_LETTERED, CANCELLED]);
        assert!(!is_final("Pondering"));
    }
}
