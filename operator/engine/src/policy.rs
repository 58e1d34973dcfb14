//! What a pool asks for, in the engine's terms.

use std::time::Duration;

use crate::ids::Symbol;
use crate::time::Wall;

/// How much longer than the call's timeout the operator waits for an outcome before it ends the attempt itself.
pub const ATTEMPT_GRACE: Duration = Duration::from_secs(30);

/// The longest timeout that a pool can have.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Settings of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolPolicy {
    /// Acts for jobs that name no pool.
    pub is_default: bool,
    /// The oldest default pool of a namespace acts.
    pub created: Wall,
    /// No new claims.
    pub suspended: bool,
    /// Which service is called: what is known of one says nothing of another.
    pub service: u64,
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
    /// Follow a service that throttles.
    pub adaptive: Adaptive,
    /// Stop calling a service that is away.
    pub breaker: BreakerPolicy,
    /// Shares of tenants.
    pub fairness: Fairness,
}

/// Whether and how far the limit of calls follows a service that throttles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// It does.
    pub enabled: bool,
    /// Calls at once that are always allowed.
    pub min_in_flight: u32,
}

/// When to stop calling a service that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Share of calls without an answer that opens it.
    pub failure_ratio: f64,
    /// Calls it must have seen before.
    pub min_calls: u32,
    /// How long it stays open at first.
    pub open: Duration,
    /// Calls it lets through to see.
    pub probes: u32,
}

/// How tenants share a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fairness {
    /// Weight of a tenant that is not listed.
    pub default_weight: u32,
    /// A job that waits longer joins the aged lane.
    pub aging: Duration,
    /// Tenants with a share of their own.
    pub tenants: Vec<TenantShare>,
}

/// One tenant's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantShare {
    /// The tenant.
    pub tenant: Symbol,
    /// Its weight.
    pub weight: u32,
    /// Calls at once at most.
    pub max_in_flight: Option<u32>,
}

impl Fairness {
    fn share(&self, tenant: Symbol) -> Option<&TenantShare> {
        self.tenants.iter().find(|share| share.tenant == tenant)
    }

    /// The tenant's weight.
    #[must_use]
    pub fn weight(&self, tenant: Symbol) -> u32 {
        self.share(tenant)
            .map_or(self.default_weight, |share| share.weight)
    }

    /// Calls at once that the tenant may have.
    #[must_use]
    pub fn cap(&self, tenant: Symbol) -> u32 {
        let cap = self.share(tenant).and_then(|share| share.max_in_flight);
        cap.unwrap_or(u32::MAX)
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Adaptive {
            enabled: true,
            min_in_flight: 1,
        }
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        BreakerPolicy {
            failure_ratio: 0.5,
            min_calls: 20,
            open: Duration::from_secs(30),
            probes: 3,
        }
    }
}

impl Default for Fairness {
    fn default() -> Self {
        Fairness {
            default_weight: 1,
            aging: Duration::from_secs(900),
            tenants: Vec::new(),
        }
    }
}

impl PoolPolicy {
    /// Of a pool that is gone: its calls may have been as long as any.
    #[must_use]
    pub fn unknown() -> PoolPolicy {
        PoolPolicy {
            timeout: LONGEST_TIMEOUT,
            ..PoolPolicy::default()
        }
    }

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
            service: 0,
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
            adaptive: Adaptive::default(),
            breaker: BreakerPolicy::default(),
            fairness: Fairness::default(),
        }
    }
}
