//! Executes what the engine decided: status writes, quorum reads, deletes, and the store's part. Each call has a timeout; each
//! ends in one [`Done`] that goes back to the core.

mod events;
mod jobs;
mod pods;
mod stored;
mod telling;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use kinora_crds::VideoJob;
use kinora_engine::{Token, Uid};
use kube::{Api, Client};
use tokio::sync::{Semaphore, mpsc, watch};

pub(crate) use jobs::Kind;
pub(crate) use stored::StoreTask;

use super::handle::CoreCounters;
use super::seams::{AttemptPods, FoundOutput, LeaseUrls, StoreWork};

/// How many reads run at once, with the pauses after those that failed.
const READS: usize = 64;

/// A claim must be settled before anybody else could hold the leader lease.
pub(crate) const CLAIM_TIMEOUT: Duration = Duration::from_millis(1500);
/// Any other write.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A read.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// One question to the store, whatever it consists of.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_secs(30);
/// A claim is not started when the leader lease was last renewed longer ago.
pub(crate) const RENEW_DEADLINE: Duration = Duration::from_secs(4);

/// How a call ended. Not to be printed: it may hold presigned URLs.
pub(crate) enum Outcome {
    /// A write was confirmed with this object.
    Written(Box<VideoJob>),
    /// A read found this object.
    Found(Box<VideoJob>),
    /// The object is not there (any more).
    Gone,
    /// Nobody knows whether a write or delete happened.
    Unknown,
    /// A write was refused for good.
    Refused,
    /// A write was not sent.
    NotSent,
    /// Done, or everything is there.
    Yes,
    /// Not possible, or something is missing.
    No,
    /// The store could not be asked.
    Away,
    /// There is a final record.
    Record(u32),
    /// The URLs of this attempt's lease.
    Urls(u32, Box<LeaseUrls>),
    /// The outputs of this attempt that are there, and whether those are all.
    Outputs(u32, Vec<FoundOutput>, bool),
}

/// One finished call.
pub(crate) enum Done {
    /// What an action about a job led to.
    Action {
        /// The job.
        job: Uid,
        /// Of the action.
        token: Token,
        /// How it ended.
        outcome: Outcome,
    },
    /// A pod was to be removed.
    PodRemoval {
        /// The pod.
        pod_uid: String,
        /// It is not there.
        missing: bool,
    },
}

/// Where a job is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Namespace.
    pub(crate) namespace: Arc<str>,
    /// Name.
    pub(crate) name: Box<str>,
    /// Uid, as the API server writes it.
    pub(crate) uid: Box<str>,
}

/// Starts calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Actor {
    client: Client,
    store: Arc<dyn StoreWork>,
    pods: Arc<dyn AttemptPods>,
    renewed: watch::Receiver<Instant>,
    reads: Arc<Semaphore>,
    events: events::Events,
    /// Writes in a row that the API server failed.
    failing: Arc<AtomicU32>,
    /// And reads.
    failing_reads: Arc<AtomicU32>,
    counters: Arc<CoreCounters>,
    done: mpsc::UnboundedSender<Done>,
}

impl Actor {
    /// An actor that reports to `done`.
    pub(crate) fn new(
        client: Client,
        (store, pods): (Arc<dyn StoreWork>, Arc<dyn AttemptPods>),
        renewed: watch::Receiver<Instant>,
        counters: Arc<CoreCounters>,
        done: mpsc::UnboundedSender<Done>,
    ) -> Actor {
        Actor {
            client,
            store,
            pods,
            renewed,
            reads: Arc::new(Semaphore::new(READS)),
            events: events::Events::new(),
            failing: Arc::default(),
            failing_reads: Arc::default(),
            counters,
            done,
        }
    }

    /// The store's clock minus ours, by its last answer.
    pub(crate) fn clock_skew_seconds(&self) -> Option<i64> {
        self.store.clock_skew_seconds()
    }

    fn api(&self, address: &Address) -> Api<VideoJob> {
        Api::namespaced(self.client.clone(), &address.namespace)
    }

    /// Runs a call and reports how it ended. Nobody listens any more: the process ends.
    fn spawn<F>(&self, job: Uid, token: Token, call: F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let done = self.done.clone();
        tokio::spawn(async move {
            let outcome = call.await;
            let _ = done.send(Done::Action {
                job,
                token,
                outcome,
            });
        });
    }
}
