//! Reasons of conditions, each used with the conditions its group names. [`ALL`] is what the runbook must explain.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $word;)+

        /// Every reason that is ever written.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

reasons! {
    /// Waits for a slot.
    QUEUED = "Queued";
    /// An attempt runs.
    PROCESSING = "Processing";
    /// Waits for its next attempt.
    BACKOFF = "Backoff";
    /// Suspended by its spec.
    SUSPENDED = "Suspended";
    /// Blocked: the pool does not exist.
    POOL_NOT_FOUND = "PoolNotFound";
    /// Blocked: the source cannot be read for now.
    SOURCE_UNAVAILABLE = "SourceUnavailable";
    /// Ended well.
    COMPLETED = "Completed";
    /// Out of `maxFailures`.
    FAILURES_EXHAUSTED = "FailuresExhausted";
    /// The service says that the input will never do.
    REJECTED = "Rejected";
    /// The job kept killing its workers.
    POISON = "Poison";
    /// `startDeadlineSeconds` or `activeDeadlineSeconds` ran out.
    DEADLINE_EXCEEDED = "DeadlineExceeded";
    /// The source is gone for good, or is a key this job may not name.
    INVALID_SOURCE = "InvalidSource";
    /// Cancelled by request.
    CANCELLED = "Cancelled";
    /// Pool: no work, no workers.
    SCALED_TO_ZERO = "ScaledToZero";
    /// Pool: enough workers are ready.
    WORKERS_READY = "WorkersReady";
    /// Pool: workers were asked for and are not ready yet.
    WORKERS_STARTING = "WorkersStarting";
    /// Pool: credentials, address or protocol of the service are wrong.
    SERVICE_MISCONFIGURED = "ServiceMisconfigured";
    /// Pool: the service cannot be reached.
    SERVICE_UNAVAILABLE = "ServiceUnavailable";
    /// Pool: the service answers.
    SERVICE_ANSWERS = "ServiceAnswers";
    /// Pool: another default pool of the namespace is older and acts.
    NOT_THE_DEFAULT = "AnotherDefaultPool";
    /// Pool, redrive: the spec cannot be served as it stands.
    INVALID_SPEC = "InvalidSpec";
    /// Pool: the workers' image cannot be pulled.
    IMAGE_PULL_FAILED = "ImagePullFailed";
    /// Pool: the API server refuses the workers' Deployment.
    WORKERS_REFUSED = "WorkersRefused";
    /// Pool: `maxReplicas` or the service's limits hold the number of workers down.
    AT_MAXIMUM = "AtMaximum";
}
