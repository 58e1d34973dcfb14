//! The facts of one job: what its author asked for, what is stored of its life.
//!
//! [`machine`] says which status follows which, [`decide`] what is to be done next, [`fence`] what a report about an attempt is
//! worth. None of them knows another job, a limit or a clock.

pub mod decide;
mod ends;
pub mod fence;
pub mod machine;

use std::time::Duration;

use crate::ids::{PoolName, Rv, Symbol, Uid};
use crate::time::Wall;

/// `status.state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Ready as soon as a slot is free.
    #[default]
    Queued,
    /// Claimed.
    Running,
    /// Ready when `next_attempt` is past.
    Backoff,
    /// Held by its author.
    Suspended,
    /// Done.
    Succeeded,
    /// Failed for good.
    DeadLettered,
    /// Given up by its author.
    Cancelled,
}

impl Phase {
    /// Left only by a redrive.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Phase::Succeeded | Phase::DeadLettered | Phase::Cancelled => true,
            Phase::Queued | Phase::Running | Phase::Backoff | Phase::Suspended => false,
        }
    }
}

/// Reason of the condition `Succeeded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Waiting for a slot.
    #[default]
    Queued,
    /// Claimed.
    Processing,
    /// Waiting for its next attempt.
    Backoff,
    /// Held by its author.
    Suspended,
    /// Its pool does not exist.
    PoolNotFound,
    /// Its source was not there when somebody looked.
    SourceUnavailable,
    /// Done.
    Completed,
    /// `failures` reached the maximum.
    FailuresExhausted,
    /// The service will never take it.
    Rejected,
    /// `interruptions` reached the maximum.
    Poison,
    /// Not started, or not done, in time.
    DeadlineExceeded,
    /// Its source is gone for good.
    InvalidSource,
    /// Given up by its author.
    Cancelled,
}

/// What the author asked for, and what never changes. Times are set by the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Namespace.
    pub namespace: Symbol,
    /// `poolRef.name`.
    pub pool: Option<Symbol>,
    /// For fair shares.
    pub tenant: Symbol,
    /// Higher goes first.
    pub priority: i32,
    /// Instead of the pool's.
    pub max_failures: Option<u32>,
    /// Not claimed after this long.
    pub start_deadline: Option<Duration>,
    /// Not running longer than this in all.
    pub active_deadline: Option<Duration>,
    /// How long it stays after Succeeded or Cancelled; the floor of upload jobs is already in it.
    pub ttl: Option<Duration>,
    /// No next claim.
    pub suspend: bool,
    /// Give up.
    pub cancel: bool,
    /// Made by a person or a pipeline: gets a first status write at once, keeps its dead letter unless it has a TTL.
    pub declared: bool,
    /// Made so long after its outbox entry that it may have come and gone before: its record is read before the first claim.
    pub late: bool,
    /// The source lies under `videos/`, where nothing comes back.
    pub own_source: bool,
    /// creationTimestamp.
    pub created: Wall,
}

/// What is stored of a job's life, as far as decisions need it. Times are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// observedGeneration; −1: never written.
    pub observed: i64,
    /// State.
    pub phase: Phase,
    /// Reason of the condition `Succeeded`.
    pub reason: Reason,
    /// The fence.
    pub attempt: u32,
    /// Pod that the current attempt is claimed for, or whose outcome was taken. `None` once the attempt is lost: late reports
    /// then meet no holder.
    pub worker: Option<Uid>,
    /// Pool of the last claim.
    pub pool: Option<Symbol>,
    /// Charged failures.
    pub failures: u32,
    /// Charged interruptions.
    pub interruptions: u32,
    /// Number of redrives.
    pub redrives: u32,
    /// Rejections that were not believed yet.
    pub rejections: u32,
    /// Uncharged ends in a row.
    pub uncharged: u32,
    /// Not claimed before.
    pub next_attempt: Option<Wall>,
    /// Claim of the current attempt.
    pub started: Option<Wall>,
    /// End of the job.
    pub finished: Option<Wall>,
    /// Running time of earlier attempts.
    pub active: Duration,
    /// Until when calls of ended attempts may still be running.
    pub ghosts: Vec<Wall>,
    /// When the condition `Succeeded` last changed its status.
    pub since: Option<Wall>,
    /// When `Reconciling` or `Suspended` last became True.
    pub mode_since: Option<Wall>,
    /// The VideoJobRedrive that brought it back last.
    pub redriven_by: Option<Uid>,
}

impl Default for Status {
    fn default() -> Self {
        Status {
            observed: -1,
            phase: Phase::Queued,
            reason: Reason::Queued,
            attempt: 0,
            worker: None,
            pool: None,
            failures: 0,
            interruptions: 0,
            redrives: 0,
            rejections: 0,
            uncharged: 0,
            next_attempt: None,
            started: None,
            finished: None,
            active: Duration::ZERO,
            ghosts: Vec::new(),
            since: None,
            mode_since: None,
            redriven_by: None,
        }
    }
}

impl Status {
    /// Whether anybody ever wrote it.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.since.is_some()
    }

    /// Whether the object shows `Suspended=True`.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.phase == Phase::Suspended
    }
}

/// One job as last read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Job {
    /// Uid.
    pub uid: Uid,
    /// resourceVersion these facts were read at.
    pub rv: Rv,
    /// metadata.generation.
    pub generation: i64,
    /// What was asked for.
    pub spec: Spec,
    /// What is stored.
    pub status: Status,
}

impl Job {
    /// The pool of the running or last attempt.
    #[must_use]
    pub fn claimed_pool(&self) -> Option<PoolName> {
        self.status.pool.map(|name| PoolName {
            namespace: self.spec.namespace,
            name,
        })
    }

    /// Whether an attempt is claimed whose holder, a pod made for it, has not reported yet.
    #[must_use]
    pub fn awaits_pod(&self) -> bool {
        self.status.phase == Phase::Running && self.status.worker.is_none()
    }

    /// Whether it runs `attempt` on `worker`.
    #[must_use]
    pub fn runs(&self, attempt: u32, worker: Uid) -> bool {
        self.status.phase == Phase::Running
            && self.status.attempt == attempt
            && self.status.worker == Some(worker)
    }
}
