//! What the parts of the operator tell each other: plain facts over channels, no behaviour.
//!
//! `observe` and `pools` send [`PodEvent`], [`PoolEvent`] and [`Leadership`] to the core (the shell around the engine);
//! the core publishes [`Backlog`] for the pools and takes [`CoreCommand`].

use std::collections::BTreeMap;
use std::sync::Arc;

pub use kinora_engine::action::Redrive;
use tokio::sync::oneshot;

/// `namespace/name` of a VideoWorkerPool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    /// Namespace of the pool, of its workers and of its jobs.
    pub namespace: String,
    /// Name of the VideoWorkerPool.
    pub name: String,
}

/// Who a worker proved to be: TokenReview, then the pod index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerIdentity {
    /// The pool at the end of the pod's owner chain.
    pub pool: PoolKey,
    /// Name of the pod.
    pub pod_name: String,
    /// Uid of the pod: the fence's second half.
    pub pod_uid: String,
    /// Node of the pod; empty when unknown.
    pub node_name: String,
    /// The attempt that the pod was made for; `None`: a long-lived worker.
    pub attempt: Option<AttemptKey>,
}

/// One attempt of one job, by the names of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptKey {
    /// Uid of the VideoJob.
    pub job_uid: String,
    /// From 1.
    pub attempt: u32,
}

/// Where a pod is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

/// What the pod index saw of a pool's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodEvent {
    /// A pod that says of itself to be made for one attempt is there.
    Attempt {
        /// The pod.
        pod: PodAddress,
        /// The attempt.
        of: AttemptKey,
    },
    /// The object of such a pod is gone; its [`PodEvent::Gone`] came before.
    AttemptDeleted {
        /// Uid of the pod.
        pod_uid: String,
    },
    /// deletionTimestamp or DisruptionTarget: no new leases, nothing lost yet.
    Draining {
        /// Uid of the pod.
        pod_uid: String,
    },
    /// The eviction that had begun did not come about, and the condition was taken back.
    Stays {
        /// Uid of the pod.
        pod_uid: String,
    },
    /// The pod object is gone, or its phase is Failed or Succeeded: every call in it has ended.
    Gone {
        /// Uid of the pod.
        pod_uid: String,
        /// True without deletionTimestamp or DisruptionTarget: proof of an interruption.
        by_itself: bool,
    },
    /// The worker container ended while the pod stays (it will be restarted).
    ContainerEnded {
        /// Uid of the pod.
        pod_uid: String,
        /// When it ended, Unix milliseconds: an attempt claimed later is not meant.
        finished_at_ms: i64,
        /// True without deletionTimestamp or DisruptionTarget: proof of an interruption.
        by_itself: bool,
    },
}

/// What the core must know of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolFacts {
    /// Where its calls go, and as whom.
    pub service: String,
    /// Acts for jobs that name no pool.
    pub is_default: bool,
    /// Creation time, Unix milliseconds: the oldest default pool of a namespace acts.
    pub created_ms: i64,
    /// No new claims.
    pub suspended: bool,
    /// Of one call.
    pub timeout_ms: u64,
    /// Calls that a worker makes at a time.
    pub slots: u32,
    /// Names of the outputs a lease offers URLs for.
    pub outputs: Vec<String>,
    /// Overrides `store.presignEndpoint`.
    pub store_endpoint: Option<String>,
    /// Calls a second over all workers; `None`: unlimited.
    pub rate_per_second: Option<f64>,
    /// Tokens that may gather.
    pub burst: u32,
    /// Calls at once over all workers; `None`: as many as slots.
    pub max_in_flight: Option<u32>,
    /// Failures until a job is dead-lettered, when it has no number of its own.
    pub max_failures: u32,
    /// Interruptions until a job is dead-lettered.
    pub interruption_limit: u32,
    /// Backoff base.
    pub backoff_base_ms: u64,
    /// Backoff cap.
    pub backoff_cap_ms: u64,
    /// How long dead letters stay as custom resources.
    pub dead_letter_ttl_ms: u64,
    /// Write `status.progress`.
    pub report_progress: bool,
    /// A pod for each attempt, which must report within this time; `None`: long-lived workers.
    pub pod_start_ms: Option<u64>,
    /// Fewer calls at once while the service throttles.
    pub adaptive: bool,
    /// Calls at once that are allowed all the same.
    pub min_in_flight: u32,
    /// Share of unanswered calls that opens the breaker.
    pub breaker_ratio: f64,
    /// Calls the breaker must have seen.
    pub breaker_min_calls: u32,
    /// How long it stays open at first.
    pub breaker_open_ms: u64,
    /// Calls it lets through as probes.
    pub breaker_probes: u32,
    /// Weight of a tenant that is not listed.
    pub default_weight: u32,
    /// After this wait a job joins the aged lane.
    pub aging_ms: u64,
    /// Tenants with a share of their own.
    pub tenants: Vec<TenantFacts>,
}

/// One tenant's share of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantFacts {
    /// The tenant.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// Calls at once at most.
    pub max_in_flight: Option<u32>,
}

/// Where a pool's circuit breaker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    #[default]
    Closed,
    /// The service is away: none goes through.
    Open,
    /// The service does not know us: none goes through.
    Refused,
    /// A few calls probe.
    HalfOpen,
}

/// Pools as the pools controller sees them.
#[derive(Clone, Debug, PartialEq)]
pub enum PoolEvent {
    /// New or changed.
    Changed(PoolKey, Box<PoolFacts>),
    /// Deleted.
    Gone(PoolKey),
    /// The first listing is complete: a pool not named by now does not exist.
    Synced,
}

/// Who leads, as this replica knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Another replica leads, or none.
    Standby {
        /// `ip:port` of the leader's dispatch port.
        leader_address: Option<String>,
    },
    /// This replica leads and its lease is renewed in time.
    Leader,
    /// This replica led, the lease could not be renewed in time, no other holder was seen: no claims, no expiry, streams stay.
    Doubtful,
    /// That for so long that another may lead unseen: workers are let go, so that they find it.
    CutOff,
}

/// Counts of one pool, published by the core for the pools controller and `/metrics`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolBacklog {
    /// Queued, Backoff (any due time), not suspended.
    pub queued: u32,
    /// Queued, or due within 30 s, neither job nor pool suspended: what scaling looks at.
    pub claimable: u32,
    /// Running.
    pub running: u32,
    /// Non-final and not suspended: while above zero at least one worker stays.
    pub unfinished: u32,
    /// Creation time of the oldest claimable job, Unix milliseconds.
    pub oldest_queued_ms: Option<i64>,
    /// Mean seconds of a call, once measured.
    pub call_seconds: Option<f64>,
    /// What the limiter allows in flight now.
    pub effective_limit: Option<u32>,
    /// The service throttles the fewest calls and is left alone for now.
    pub paused: bool,
    /// The circuit breaker.
    pub breaker: BreakerState,
    /// Connected workers by pod uid.
    pub workers: BTreeMap<String, WorkerLoad>,
}

/// What one connected worker carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerLoad {
    /// Name of the pod.
    pub pod_name: String,
    /// Slots it said it has.
    pub slots: u32,
    /// Leases held, unacknowledged outcomes included.
    pub busy: u32,
    /// No new leases go there (draining or cordoned).
    pub cordoned: bool,
}

/// One snapshot of every pool; sent through a `tokio::sync::watch`.
pub type Backlog = Arc<BTreeMap<PoolKey, PoolBacklog>>;

/// What the rest of the operator asks of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreCommand {
    /// No new leases to this pod (scale-down picked it); it shows as `cordoned` in the next backlog.
    Cordon {
        /// Uid of the pod.
        pod_uid: String,
    },
    /// Its pod goes next: it is told to take no more leases. Lifted by `Uncordon`.
    Drain {
        /// Uid of the pod.
        pod_uid: String,
    },
    /// Leases may go there again.
    Uncordon {
        /// Uid of the pod.
        pod_uid: String,
    },
}

/// A dead letter that a VideoJobRedrive wants back.
#[derive(Debug)]
pub struct RedriveRequest {
    /// Uid of the VideoJob.
    pub job_uid: String,
    /// Uid of the VideoJobRedrive.
    pub by: String,
    /// What became of it; dropped when this replica stops leading.
    pub reply: oneshot::Sender<Redrive>,
}

/// A VideoJob of an upload that somebody else deleted before it had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignDeletion {
    /// Namespace of the job.
    pub namespace: String,
    /// Name of the job.
    pub name: String,
    /// Its uid, in the keys of its outputs.
    pub uid: String,
    /// When it was made; a namespace or definition that is younger is not the one it went with.
    pub created_ms: i64,
    /// Its attempts.
    pub attempts: u32,
    /// Its redrives.
    pub redrives: u32,
}
