//! What an absent field of a pool means. Kept out of the schema: a default there would be written into every object
//! and could never be changed.

use std::time::Duration;

use super::{Execution, Protocol, ScalingMode, VideoWorkerPoolSpec};

/// `retry.maxFailures`
pub const MAX_FAILURES: i32 = 5;
/// `retry.interruptionLimit`
pub const INTERRUPTION_LIMIT: i32 = 20;
/// `retry.baseSeconds`
pub const BACKOFF_BASE_SECONDS: i64 = 10;
/// `retry.maxSeconds`
pub const BACKOFF_MAX_SECONDS: i64 = 600;
/// `service.timeoutSeconds`
pub const TIMEOUT_SECONDS: i64 = 600;
/// `service.limits.burst`
pub const BURST: i32 = 1;
/// `service.limits.maxInFlight`
pub const MAX_IN_FLIGHT: i32 = 100;
/// `podStartDeadlineSeconds`
pub const POD_START_SECONDS: i64 = 600;
/// `expectedSeconds`
pub const EXPECTED_SECONDS: i64 = 60;
/// `slotsPerWorker`
pub const SLOTS_PER_WORKER: i32 = 1;
/// `scaling.minReplicas`
pub const MIN_REPLICAS: i32 = 0;
/// `scaling.maxReplicas`
pub const MAX_REPLICAS: i32 = 10;
/// `scaling.scaleDownStabilizationSeconds`
pub const SCALE_DOWN_STABILIZATION_SECONDS: i64 = 300;
/// `retention.deadLetterSeconds`: 14 days
pub const DEAD_LETTER_SECONDS: i64 = 1_209_600;
/// `service.adaptive.minInFlight`
pub const MIN_IN_FLIGHT: i32 = 1;
/// `service.breaker.failureRatio`
pub const BREAKER_FAILURE_RATIO: f64 = 0.5;
/// `service.breaker.minCalls`
pub const BREAKER_MIN_CALLS: i32 = 20;
/// `service.breaker.openSeconds`
pub const BREAKER_OPEN_SECONDS: i64 = 30;
/// `service.breaker.probes`
pub const BREAKER_PROBES: i32 = 3;
/// `fairness.defaultWeight`
pub const DEFAULT_WEIGHT: i32 = 1;
/// `fairness.agingSeconds`
pub const AGING_SECONDS: i64 = 900;
/// Schema default of `replicas`, the only one a pool has.
pub const REPLICAS: i32 = 1;
/// `service.tokenSecretRef.key`
pub const TOKEN_KEY: &str = "token";

fn seconds(value: Option<i64>, default: i64) -> Duration {
    Duration::from_secs(u64::try_from(value.unwrap_or(default)).unwrap_or(0))
}

impl VideoWorkerPoolSpec {
    /// Whether the pool asks to be its namespace's default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.default.unwrap_or(false)
    }

    /// How attempts run.
    #[must_use]
    pub fn execution(&self) -> Execution {
        self.execution.unwrap_or_default()
    }

    /// How the service is called.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.service.protocol.unwrap_or_default()
    }

    /// Failed attempts before the dead letters.
    #[must_use]
    pub fn max_failures(&self) -> i32 {
        self.retry
            .as_ref()
            .and_then(|r| r.max_failures)
            .unwrap_or(MAX_FAILURES)
    }

    /// Interruptions before a job counts as poison.
    #[must_use]
    pub fn interruption_limit(&self) -> i32 {
        self.retry
            .as_ref()
            .and_then(|r| r.interruption_limit)
            .unwrap_or(INTERRUPTION_LIMIT)
    }

    /// Upper bound of the first backoff.
    #[must_use]
    pub fn backoff_base(&self) -> Duration {
        seconds(
            self.retry.as_ref().and_then(|r| r.base_seconds),
            BACKOFF_BASE_SECONDS,
        )
    }

    /// Upper bound of every backoff.
    #[must_use]
    pub fn backoff_max(&self) -> Duration {
        seconds(
            self.retry.as_ref().and_then(|r| r.max_seconds),
            BACKOFF_MAX_SECONDS,
        )
    }

    /// Longest call.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        seconds(self.service.timeout_seconds, TIMEOUT_SECONDS)
    }

    /// Calls started per second; `None` is no limit.
    #[must_use]
    pub fn rate_per_second(&self) -> Option<f64> {
        self.service.limits.as_ref().and_then(|l| l.rate_per_second)
    }

    /// Calls that may start at once.
    #[must_use]
    pub fn burst(&self) -> i32 {
        self.service
            .limits
            .as_ref()
            .and_then(|l| l.burst)
            .unwrap_or(BURST)
    }

    /// Calls in flight at a time.
    #[must_use]
    pub fn max_in_flight(&self) -> i32 {
        self.service
            .limits
            .as_ref()
            .and_then(|l| l.max_in_flight)
            .unwrap_or(MAX_IN_FLIGHT)
    }

    /// Length of a call before one was measured.
    #[must_use]
    pub fn expected_call(&self) -> Duration {
        seconds(self.expected_seconds, EXPECTED_SECONDS)
    }

    /// Within which the pod of an attempt must report.
    #[must_use]
    pub fn pod_start_deadline(&self) -> Duration {
        seconds(self.pod_start_deadline_seconds, POD_START_SECONDS)
    }

    /// Calls a worker makes at a time.
    #[must_use]
    pub fn slots_per_worker(&self) -> i32 {
        self.slots_per_worker.unwrap_or(SLOTS_PER_WORKER)
    }

    /// Who decides the number of workers.
    #[must_use]
    pub fn scaling_mode(&self) -> ScalingMode {
        self.scaling
            .as_ref()
            .and_then(|s| s.mode)
            .unwrap_or_default()
    }

    /// Fewest workers.
    #[must_use]
    pub fn min_replicas(&self) -> i32 {
        self.scaling
            .as_ref()
            .and_then(|s| s.min_replicas)
            .unwrap_or(MIN_REPLICAS)
    }

    /// Most workers.
    #[must_use]
    pub fn max_replicas(&self) -> i32 {
        self.scaling
            .as_ref()
            .and_then(|s| s.max_replicas)
            .unwrap_or(MAX_REPLICAS)
    }

    /// For how long fewer workers must have been enough.
    #[must_use]
    pub fn scale_down_stabilization(&self) -> Duration {
        seconds(
            self.scaling
                .as_ref()
                .and_then(|s| s.scale_down_stabilization_seconds),
            SCALE_DOWN_STABILIZATION_SECONDS,
        )
    }

    /// How long a worker may go on with its calls once its pod is deleted.
    #[must_use]
    pub fn drain(&self) -> Duration {
        let drain = self.scaling.as_ref().and_then(|s| s.drain_seconds);
        drain.map_or_else(|| self.call_timeout(), |d| seconds(Some(d), 0))
    }

    /// How long a dead letter stays as an object.
    #[must_use]
    pub fn dead_letter_retention(&self) -> Duration {
        seconds(
            self.retention.as_ref().and_then(|r| r.dead_letter_seconds),
            DEAD_LETTER_SECONDS,
        )
    }

    /// Whether the limit of calls follows a service that throttles.
    #[must_use]
    pub fn is_adaptive(&self) -> bool {
        let adaptive = self.service.adaptive.as_ref();
        adaptive.and_then(|a| a.enabled).unwrap_or(true)
    }

    /// Calls at once that are allowed while it throttles.
    #[must_use]
    pub fn min_in_flight(&self) -> i32 {
        let adaptive = self.service.adaptive.as_ref();
        adaptive
            .and_then(|a| a.min_in_flight)
            .unwrap_or(MIN_IN_FLIGHT)
    }

    /// Share of failed calls that opens the breaker.
    #[must_use]
    pub fn breaker_failure_ratio(&self) -> f64 {
        let breaker = self.service.breaker.as_ref();
        breaker
            .and_then(|b| b.failure_ratio)
            .unwrap_or(BREAKER_FAILURE_RATIO)
    }

    /// Calls the breaker must have seen before it opens.
    #[must_use]
    pub fn breaker_min_calls(&self) -> i32 {
        let breaker = self.service.breaker.as_ref();
        breaker
            .and_then(|b| b.min_calls)
            .unwrap_or(BREAKER_MIN_CALLS)
    }

    /// How long the breaker stays open before it probes.
    #[must_use]
    pub fn breaker_open(&self) -> Duration {
        let breaker = self.service.breaker.as_ref();
        seconds(breaker.and_then(|b| b.open_seconds), BREAKER_OPEN_SECONDS)
    }

    /// Calls the breaker lets through as probes.
    #[must_use]
    pub fn breaker_probes(&self) -> i32 {
        let breaker = self.service.breaker.as_ref();
        breaker.and_then(|b| b.probes).unwrap_or(BREAKER_PROBES)
    }

    /// Weight of a tenant that is not listed.
    #[must_use]
    pub fn default_weight(&self) -> i32 {
        let fairness = self.fairness.as_ref();
        fairness
            .and_then(|f| f.default_weight)
            .unwrap_or(DEFAULT_WEIGHT)
    }

    /// After how long a waiting job joins the aged lane.
    #[must_use]
    pub fn aging(&self) -> Duration {
        let fairness = self.fairness.as_ref();
        seconds(fairness.and_then(|f| f.aging_seconds), AGING_SECONDS)
    }

    /// Whether no attempt may start.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspend.unwrap_or(false)
    }
}
