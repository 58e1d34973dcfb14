//! How the core is started and what it publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Instant;

use kinora_protocol::dispatch::dispatch_server::DispatchServer;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::dispatch::DispatchService;
use super::seams::{AttemptPods, Authenticate, StoreWork};
use crate::ports::{
    Backlog, CoreCommand, ForeignDeletion, Leadership, PodEvent, PoolEvent, RedriveRequest,
};
use kinora_engine::event::History;

/// What the core is made of.
pub struct CoreConfig {
    /// Client of the API server.
    pub client: kube::Client,
    /// Only jobs of this namespace; `None`: of all.
    pub namespace: Option<String>,
    /// Checks workers' tokens.
    pub authenticate: Arc<dyn Authenticate>,
    /// Asks the store.
    pub store: Arc<dyn StoreWork>,
    /// Makes, finds and removes the pods of attempts.
    pub attempt_pods: Arc<dyn AttemptPods>,
    /// Ends and drains of pods.
    pub pods: mpsc::Receiver<PodEvent>,
    /// Pools.
    pub pools: mpsc::Receiver<PoolEvent>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// When the leader lease was last renewed.
    pub renewed: watch::Receiver<Instant>,
    /// Requests of the pools controller.
    pub commands: mpsc::Receiver<CoreCommand>,
    /// Dead letters to bring back.
    pub redrives: mpsc::Receiver<RedriveRequest>,
    /// What is known of the control plane's past.
    pub history: watch::Receiver<History>,
    /// Deletions that may be somebody's cancel.
    pub deletions: mpsc::Sender<ForeignDeletion>,
    /// Told when uploads' jobs are missing and nobody can say why: an audit should follow.
    pub losses: Arc<Notify>,
    /// No upload job is deleted earlier after its end.
    pub upload_ttl_floor_seconds: u32,
    /// Ends the core: streams are closed, nothing more is decided.
    pub stop: CancellationToken,
}

/// How many jobs count against the watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Non-final jobs of uploads. Declared ones are held by quotas of their namespaces: they must not take the uploads' places.
    pub live: u64,
}

/// Counts since start, for `/metrics`. Labels come from enums.
#[derive(Debug, Default)]
pub struct CoreCounters {
    /// Claims written.
    pub claims: AtomicU64,
    /// Leases pushed to workers.
    pub leases: AtomicU64,
    /// Jobs that ended Succeeded.
    pub succeeded: AtomicU64,
    /// Jobs that ended DeadLettered.
    pub dead_lettered: AtomicU64,
    /// Jobs that ended Cancelled.
    pub cancelled: AtomicU64,
    /// Attempts that ended Failed.
    pub failed: AtomicU64,
    /// Attempts that ended Rejected.
    pub rejected: AtomicU64,
    /// Attempts that ended Throttled.
    pub throttled: AtomicU64,
    /// Attempts that ended Unavailable.
    pub unavailable: AtomicU64,
    /// Attempts that ended Misconfigured.
    pub misconfigured: AtomicU64,
    /// Attempts that ended Interrupted.
    pub interrupted: AtomicU64,
    /// Attempts that were lost.
    pub lost: AtomicU64,
    /// Attempts that were given back.
    pub released: AtomicU64,
    /// Status writes that the API server confirmed.
    pub writes: AtomicU64,
    /// Status writes answered with 409.
    pub conflicts: AtomicU64,
    /// Status writes without a clear answer.
    pub unknown_writes: AtomicU64,
    /// Status writes refused for good (4xx).
    pub refused_writes: AtomicU64,
    /// Quorum reads.
    pub reads: AtomicU64,
    /// Quorum reads without an answer, which were tried again.
    pub read_retries: AtomicU64,
    /// VideoJobs that cannot be read and are set aside.
    pub unreadable_jobs: AtomicI64,
    /// Jobs that wait for a pool that does not exist.
    pub jobs_without_pool: AtomicU64,
    /// Writes that the table of transitions forbade.
    pub illegal_writes: AtomicU64,
    /// Final jobs whose archive is not known to be done; 0 unless this replica leads.
    pub archive_pending: AtomicU64,
    /// When the oldest of those ended of which it is known to be undone, Unix milliseconds; 0: there is none.
    pub archive_oldest_ms: AtomicI64,
    /// The store's clock minus ours.
    pub clock_skew_seconds: AtomicI64,
    /// Pods of attempts that are not known to be gone.
    pub attempt_pods: AtomicI64,
    /// Dead letters that were brought back.
    pub redriven: AtomicU64,
    /// VideoJobs deleted after their TTL.
    pub deletes: AtomicU64,
    /// Events that were posted.
    pub events_posted: AtomicU64,
    /// Events that were not posted, because there were too many.
    pub events_dropped: AtomicU64,
    /// Events that the API server did not take.
    pub events_failed: AtomicU64,
    /// Results of services that records lack, because too many waited for theirs.
    pub results_left_out: AtomicU64,
    /// Stale outcomes.
    pub stale_outcomes: AtomicU64,
    /// Open worker streams.
    pub streams: AtomicU64,
    /// Streams refused for a bad token or version, or closed for a flood.
    pub refused_streams: AtomicU64,
}

/// What the core publishes.
pub struct CoreHandle {
    /// Counts of every pool; changes at most a few times a second.
    pub backlog: watch::Receiver<Backlog>,
    /// For `/admission`.
    pub admission: watch::Receiver<Admission>,
    /// True once jobs and pools were listed completely.
    pub synced: watch::Receiver<bool>,
    /// For `/metrics`.
    pub counters: Arc<CoreCounters>,
    /// Serves `kinora.dispatch.v1.Dispatch`; to be mounted on a TLS listener with HTTP/2.
    pub dispatch: DispatchServer<DispatchService>,
    /// Cancelled when a read proved that the control plane went back in time: this process must start afresh.
    pub went_back: CancellationToken,
    /// Ends when the core has ended: only after `CoreConfig::stop`.
    pub task: JoinHandle<()>,
}
