//! What a pool asks for, in the engine's terms.

use std::time::Duration;

use crate::time::Wall;

/// How much longer than the call's timeout the operator waits for an outcome before it ends the attempt itself.
pub const ATTEMPT_GRACE: Duration = Duration::from_secs(30);

/// Settings of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolPolicy {
    /// Acts for jobs that name no pool.
    pub is_default: bool,
    /// The oldest default pool of a namespace acts.
    pub created: Wall,
    /// No new claims.
    pub suspended: bool,
    /// Of one call.
    pub timeout: Duration,
    /// Calls a second; `None`: unlimited.
    pub rate_per_second: Option<f64>,
    /// Tokens that may gather.
    pub burst: u32,
    /// Calls at once; `None`: as many as there are slots.
    pub max_in_flight: Option<u32>,
    /// Failures until a job goes to the dead letters, when it has no number of its own.
    pub max_failures: u32,
    /// Interruptions until a job goes to the dead letters.
    pub interruption_limit: u32,
    /// First backoff window.
    pub backoff_base: Duration,
    /// Longest backoff window.
    pub backoff_cap: Duration,
    /// How long dead letters stay as VideoJobs.
    pub dead_letter_ttl: Duration,
    /// Write `status.progress`.
    pub report_progress: bool,
    /// A pod for each attempt, which must report within this time; `None`: long-lived workers.
    pub pod_start: Option<Duration>,
}

impl PoolPolicy {
    /// How long after its claim an attempt may still be calling, whatever happened to its worker.
    #[must_use]
    pub fn attempt_limit(&self) -> Duration {
        self.timeout.saturating_add(ATTEMPT_GRACE)
    }
}

impl Default for PoolPolicy {
    fn default() -> Self {
        PoolPolicy {
            is_default: false,
            created: Wall(0),
            suspended: false,
            timeout: Duration::from_secs(300),
            rate_per_second: None,
            burst: 1,
            max_in_flight: None,
            max_failures: 5,
            interruption_limit: 20,
            backoff_base: Duration::from_secs(10),
            backoff_cap: Duration::from_secs(600),
            dead_letter_ttl: Duration::from_secs(14 * 24 * 3600),
            report_progress: false,
            pod_start: None,
        }
    }
}
