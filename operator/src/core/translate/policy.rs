//! Pool facts to the engine's policy.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use kinora_engine::policy::{Adaptive, BreakerPolicy, Fairness, TenantShare};
use kinora_engine::{PoolPolicy, Wall};

use super::names::Names;
use crate::ports::PoolFacts;

/// The same number as long as this process lives.
fn numbered(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What the engine must know of a pool.
pub(crate) fn policy(facts: &PoolFacts, names: &mut Names) -> PoolPolicy {
    let tenants = facts.tenants.iter().map(|share| TenantShare {
        tenant: names.intern(&share.name),
        weight: share.weight,
        max_in_flight: share.max_in_flight,
    });
    PoolPolicy {
        is_default: facts.is_default,
        created: Wall(facts.created_ms),
        suspended: facts.suspended,
        service: numbered(&facts.service),
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
        adaptive: Adaptive {
            enabled: facts.adaptive,
            min_in_flight: facts.min_in_flight,
        },
        breaker: BreakerPolicy {
            failure_ratio: facts.breaker_ratio,
            min_calls: facts.breaker_min_calls,
            open: Duration::from_millis(facts.breaker_open_ms),
            probes: facts.breaker_probes,
        },
        fairness: Fairness {
            default_weight: facts.default_weight,
            aging: Duration::from_millis(facts.aging_ms),
            tenants: tenants.collect(),
        },
    }
}
