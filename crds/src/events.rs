//! Events about VideoJobs: only on the unhappy path, only of jobs that people declare, at most one a transition.

/// Why an Event was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventReason {
    /// An attempt ended as Failed or Rejected, and there is another.
    AttemptFailed,
    /// An attempt took its worker down with it.
    Interrupted,
    /// An attempt ended without a charge, and the next one waits.
    RetryScheduled,
    /// The job failed for good.
    DeadLettered,
    /// A deadline of the job's spec ran out, which ends it.
    DeadlineExceeded,
    /// The job was cancelled.
    JobCancelled,
    /// The source was not there when it was looked for.
    SourceUnavailable,
    /// There is no such pool.
    PoolNotFound,
    /// The job was brought back from the dead letters.
    Redriven,
}

impl EventReason {
    /// Every reason that is ever written.
    pub const ALL: [Self; 9] = [
        Self::AttemptFailed,
        Self::Interrupted,
        Self::RetryScheduled,
        Self::DeadLettered,
        Self::DeadlineExceeded,
        Self::JobCancelled,
        Self::SourceUnavailable,
        Self::PoolNotFound,
        Self::Redriven,
    ];

    /// As the Event names it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AttemptFailed => "AttemptFailed",
            Self::Interrupted => "Interrupted",
            Self::RetryScheduled => "RetryScheduled",
            Self::DeadLettered => "DeadLettered",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::JobCancelled => "JobCancelled",
            Self::SourceUnavailable => "SourceUnavailable",
            Self::PoolNotFound => "PoolNotFound",
            Self::Redriven => "Redriven",
        }
    }

    /// `Warning`, or `Normal` where somebody wanted it or nothing is wrong with the job.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::RetryScheduled | Self::JobCancelled | Self::Redriven => "Normal",
            Self::AttemptFailed
            | Self::Interrupted
            | Self::DeadLettered
            | Self::DeadlineExceeded
            | Self::SourceUnavailable
            | Self::PoolNotFound => "Warning",
        }
    }
}
