//! The store's part of a job: leases signed, outputs and sources looked for, records written and read back.

use std::sync::Arc;
use std::time::Duration;

use kinora_crds::VideoJob;
use kinora_engine::{Token, Uid};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{Actor, Address, Outcome, STORE_TIMEOUT};
use crate::core::seams::{AttemptOf, LeaseRequest, SourceState, StoreWorkError};

/// One thing to do in the store.
#[derive(Clone, Debug)]
pub(crate) enum StoreTask {
    /// Sign the URLs of a lease.
    Lease {
        /// The attempt.
        attempt: u32,
        /// Pod.
        pod_uid: String,
        /// Names of outputs.
        outputs: Vec<String>,
        /// Of the call.
        timeout: Duration,
        /// Instead of the operator's presign endpoint.
        store_endpoint: Option<String>,
    },
    /// Look for outputs.
    Outputs {
        /// The attempt.
        attempt: u32,
        /// Pod.
        pod_uid: String,
        /// Names of outputs.
        names: Vec<String>,
    },
    /// Look for the source.
    Source,
    /// Read the final record.
    ReadRecord,
    /// Write the final record, with what the service returned beside the outputs.
    WriteRecord(Option<String>),
    /// Remove what the record makes superfluous.
    Clean,
    /// Write the `active/` entry of a life with so many redrives.
    Reactivate(u32),
    /// Take that entry back.
    TakeBack(u32),
}

impl Actor {
    /// Does one thing in the store. `known`: the object, if it is at hand in the state that was decided about. The permit is
    /// given back before the call is done.
    pub(crate) fn store(
        &self,
        (job, token): (Uid, Token),
        address: Address,
        known: Option<Arc<VideoJob>>,
        task: StoreTask,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let actor = self.clone();
        self.spawn(job, token, async move {
            let _permit = permit;
            let question = task.question();
            let found = match known {
                Some(known) => Some(known),
                None => match actor.read_once(&actor.api(&address), &address).await {
                    Some(Some(found)) => Some(Arc::new(found)),
                    Some(None) | None => None,
                },
            };
            let Some(found) = found else {
                return Outcome::Away;
            };
            match timeout(STORE_TIMEOUT, actor.run(found, task)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => failed(&address, &error, question),
                Err(_) => {
                    tracing::warn!(job = %address.name, uid = %address.uid, "the store did not answer in time");
                    Outcome::Away
                }
            }
        });
    }

    async fn run(&self, job: Arc<VideoJob>, task: StoreTask) -> Result<Outcome, StoreWorkError> {
        let store = &self.store;
        Ok(match task {
            StoreTask::Lease {
                attempt,
                pod_uid,
                outputs,
                timeout,
                store_endpoint,
            } => {
                let request = LeaseRequest {
                    attempt: AttemptOf {
                        job,
                        attempt,
                        pod_uid,
                    },
                    outputs,
                    timeout,
                    store_endpoint,
                };
                Outcome::Urls(attempt, Box::new(store.lease_urls(request).await?))
            }
            StoreTask::Outputs {
                attempt,
                pod_uid,
                names,
            } => {
                let of = AttemptOf {
                    job,
                    attempt,
                    pod_uid,
                };
                let found = store.check_outputs(of, names.clone()).await?;
                let complete = names.iter().all(|n| found.iter().any(|f| f.name == *n));
                Outcome::Outputs(attempt, found, complete)
            }
            StoreTask::Source => match store.source_state(job).await? {
                SourceState::Present => Outcome::Yes,
                SourceState::Missing => Outcome::No,
            },
            StoreTask::ReadRecord => match store.final_record_for(job).await? {
                Some(record) => Outcome::Record(record.redrives),
                None => Outcome::No,
            },
            StoreTask::WriteRecord(result) => {
                store.write_final_record(job, result).await?;
                Outcome::Yes
            }
            StoreTask::Clean => {
                store.finish_cleanup(job).await?;
                Outcome::Yes
            }
            StoreTask::Reactivate(redrives) => {
                store.reactivate(job, redrives).await?;
                Outcome::Yes
            }
            StoreTask::TakeBack(redrives) => {
                store.take_back(job, redrives).await?;
                Outcome::Yes
            }
        })
    }
}

/// Of what kind a task is, as far as a refusal goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Lease,
    Write,
    Record,
    Other,
}

impl StoreTask {
    fn question(&self) -> Question {
        match self {
            StoreTask::Lease { .. } => Question::Lease,
            StoreTask::WriteRecord(_)
            | StoreTask::Clean
            | StoreTask::Reactivate(_)
            | StoreTask::TakeBack(_) => Question::Write,
            StoreTask::ReadRecord => Question::Record,
            StoreTask::Outputs { .. } | StoreTask::Source => Question::Other,
        }
    }
}

/// A refusal is an answer only to what was asked: a foreign key to a lease, a document that is not ours to touch to a write, one
/// that cannot be read to a look at it.
fn failed(address: &Address, error: &StoreWorkError, question: Question) -> Outcome {
    tracing::warn!(job = %address.name, uid = %address.uid, error = %error, "the store's part of a job failed");
    match (error, question) {
        (StoreWorkError::ForeignKey { .. }, Question::Lease)
        | (StoreWorkError::Unusable(_), Question::Write) => Outcome::No,
        (StoreWorkError::Unusable(_), Question::Record) => Outcome::Refused,
        (
            StoreWorkError::Unavailable(_)
            | StoreWorkError::ForeignKey { .. }
            | StoreWorkError::Unusable(_),
            _,
        ) => Outcome::Away,
    }
}
