//! Pool facts to the engine's policy.

use std::time::Duration;

use kinora_engine::{PoolPolicy, Wall};

use crate::ports::PoolFacts;

/// What the engine must know of a pool.
pub(crate) fn policy(facts: &PoolFacts) -> PoolPolicy {
    PoolPolicy {
        is_default: facts.is_default,
        created: Wall(facts.created_ms),
        suspended: facts.suspended,
        timeout: Duration::from_millis(facts.timeout_ms),
        rate_per_second: facts.rate_per_second,
        burst: facts.burst,
        max_in_flight: facts.max_in_flight,
        max_failures: facts.max_failures,
        interruption_limit: facts.interruption_limit,
        backoff_base: Duration::from_millis(facts.backoff_base_ms),
        backoff_cap: Duration::from_millis(facts.backoff_cap_ms),
        dead_letter_ttl: Duration::from_millis(facts.dead_letter_ttl_ms),
        report_progress: facts.report_progress,
        pod_start: facts.pod_start_ms.map(Duration::from_millis),
    }
}
