//! What the core needs from the rest of the operator, as traits: tokens checked, the store asked.
//!
//! The implementations do the I/O, with a timeout on every call; the core decides when and what an answer means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kinora_crds::VideoJob;

use crate::ports::{PoolKey, WorkerIdentity};

/// Checks the bearer token of a worker's stream.
pub trait Authenticate: Send + Sync + 'static {
    /// Who sent `bearer_token` (without the `Bearer ` prefix): TokenReview, then the pod index and the pod's owner chain.
    fn authenticate<'a>(
        &'a self,
        bearer_token: &'a str,
    ) -> BoxFuture<'a, Result<WorkerIdentity, AuthError>>;
}

/// Why a token was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token is no good for this: the worker should not try again with it.
    #[error("refuse worker token: {0}")]
    Refused(String),
    /// The token could not be judged now (API server away, pod not in the index yet): the worker should try again.
    #[error("judge worker token: {0}")]
    Unavailable(String),
}

/// One attempt, as its pod's name and marks need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptPod {
    /// Namespace of job and pod.
    pub namespace: String,
    /// Name of the VideoJob.
    pub job_name: String,
    /// Uid of the VideoJob.
    pub job_uid: String,
    /// From 1.
    pub attempt: u32,
}

/// How it went with the pod of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// It is there, and ours.
    Yes,
    /// It is missing, or cannot be made; why.
    No(String),
    /// No clear answer.
    Unknown,
    /// Nothing was sent.
    NotSent,
}

/// What a request to delete a pod led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is on its way; the watch shows its end.
    Asked,
    /// No pod has this uid any more.
    Missing,
    /// No clear answer.
    Unknown,
}

/// The pods of attempts at the API server.
pub trait AttemptPods: Send + Sync + 'static {
    /// Makes one. A pod of that name that is ours is success.
    fn make(&self, of: AttemptPod, pool: PoolKey) -> BoxFuture<'_, Made>;

    /// Looks for one with a quorum read.
    fn find(&self, of: AttemptPod) -> BoxFuture<'_, Made>;

    /// Deletes a pod, if it still has this uid.
    fn remove(&self, namespace: String, name: String, uid: String) -> BoxFuture<'_, Removed>;
}

/// One attempt of one job, as the keys of its outputs need it.
#[derive(Clone, Debug)]
pub struct AttemptOf {
    /// The job as the API server last returned it; metadata and spec are what counts.
    pub job: Arc<VideoJob>,
    /// Number of the attempt.
    pub attempt: u32,
    /// Uid of the worker's pod that the attempt is claimed for.
    pub pod_uid: String,
}

/// What a lease needs from the store.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// The attempt.
    pub attempt: AttemptOf,
    /// Names of the outputs to offer URLs for.
    pub outputs: Vec<String>,
    /// Of the call; URLs are valid for it plus 300 s.
    pub timeout: Duration,
    /// The pool's `service.storeEndpoint`, instead of the operator's presign endpoint.
    pub store_endpoint: Option<String>,
}

/// Presigned URLs of one attempt. Never logged, never stored.
#[derive(Clone)]
pub struct LeaseUrls {
    /// A GET of the source.
    pub source_url: String,
    /// One PUT for each output.
    pub outputs: Vec<OutputUrl>,
}

/// A presigned PUT.
#[derive(Clone)]
pub struct OutputUrl {
    /// Name of the output.
    pub name: String,
    /// The URL.
    pub put_url: String,
    /// Signed into it.
    pub headers: BTreeMap<String, String>,
}

/// An output that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundOutput {
    /// Name of the output.
    pub name: String,
    /// `s3://<bucket>/<key>`.
    pub uri: String,
    /// Bytes.
    pub size_bytes: i64,
    /// `<algorithm>:<value>`, when the store has one.
    pub checksum: Option<String>,
}

/// Whether a job's source is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// HEAD found it.
    Present,
    /// The store answered 404.
    Missing,
}

/// What the final record of a job says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFacts {
    /// Number of redrives the record covers.
    pub redrives: u32,
    /// Record state: `succeeded`, `failed`, `rejected`, `cancelled`.
    pub state: String,
}

/// Why the store's part could not be done.
#[derive(Debug, thiserror::Error)]
pub enum StoreWorkError {
    /// Try again later; nothing is known about the answer.
    #[error("{0}")]
    Unavailable(String),
    /// The job names a key that its namespace may not use: no URL will ever be signed for it.
    #[error("refuse key {key} to namespace {namespace}")]
    ForeignKey {
        /// The key.
        key: String,
        /// Namespace of the job.
        namespace: String,
    },
    /// The document in the store cannot be dealt with (newer `v`, not ours): an operator is needed.
    #[error("{0}")]
    Unusable(String),
}

/// The store, as far as jobs go.
pub trait StoreWork: Send + Sync + 'static {
    /// Signs the URLs of a lease. Signing is local: no call to the store. Refuses foreign keys.
    fn lease_urls(&self, request: LeaseRequest)
    -> BoxFuture<'_, Result<LeaseUrls, StoreWorkError>>;

    /// HEADs the attempt's outputs; the answer holds those that exist, in the order of `names`.
    fn check_outputs(
        &self,
        attempt: AttemptOf,
        names: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<FoundOutput>, StoreWorkError>>;

    /// HEADs the job's source.
    fn source_state(
        &self,
        job: Arc<VideoJob>,
    ) -> BoxFuture<'_, Result<SourceState, StoreWorkError>>;

    /// Writes the final record of a job in an end state, unless one of the same or a later redrive is there.
    /// `result_json`: what the service returned beside the outputs, when this process still has it.
    fn write_final_record(
        &self,
        job: Arc<VideoJob>,
        result_json: Option<String>,
    ) -> BoxFuture<'_, Result<(), StoreWorkError>>;

    /// Reads the final record of a job, from the store, not from memory. `None`: there is none.
    fn final_record_for(
        &self,
        job: Arc<VideoJob>,
    ) -> BoxFuture<'_, Result<Option<RecordFacts>, StoreWorkError>>;

    /// After the record: removes the job's `active/` entry and the output prefixes of attempts that lost. Idempotent.
    fn finish_cleanup(&self, job: Arc<VideoJob>) -> BoxFuture<'_, Result<(), StoreWorkError>>;

    /// Before a dead letter is brought back: its `active/` entry says so, so that a lost control plane cannot forget it.
    /// Idempotent; an entry of the same or a later life stays.
    fn reactivate(
        &self,
        job: Arc<VideoJob>,
        redrives: u32,
    ) -> BoxFuture<'_, Result<(), StoreWorkError>>;

    /// The life with so many redrives was refused: its `active/` entry goes, where the record is there. Idempotent; an entry of
    /// another life stays.
    fn take_back(
        &self,
        job: Arc<VideoJob>,
        redrives: u32,
    ) -> BoxFuture<'_, Result<(), StoreWorkError>>;

    /// The store's clock minus ours in seconds, by its last answer.
    fn clock_skew_seconds(&self) -> Option<i64>;
}
