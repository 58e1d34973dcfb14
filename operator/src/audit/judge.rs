//! Deleted VideoJobs: a person's cancel becomes a record, anything else is a loss that the audit mends.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinora_crds::conditions::reason;
use kinora_crds::{VideoJob, names};
use kinora_engine::Mono;
use kinora_engine::deletions::{Deletions, Verdict};
use kinora_storage::documents::{
    Active, JobRef, Record, RecordState, Times, VERSION, decode, encode,
};
use kinora_storage::{CasOutcome, Condition, PutOptions, Store, UploadId, keys};
use kube::{Api, Client};
use tokio::sync::{Notify, mpsc, watch};

use super::{AuditError, call};
use crate::metrics::{Judged, Upkeep};
use crate::ports::{ForeignDeletion, Leadership};

const TICK: Duration = Duration::from_secs(1);

/// Names of deleted jobs that wait for their verdict; the audit makes none of them again before.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<HashSet<String>>>);

impl Waiting {
    /// Whether a verdict on this one is still to come.
    #[must_use]
    pub fn has(&self, job: &str) -> bool {
        self.names().contains(job)
    }

    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that never goes back.
pub type Clock = Arc<dyn Fn() -> Mono + Send + Sync>;

/// The clock of this process.
#[must_use]
pub fn clock() -> Clock {
    let began = Instant::now();
    Arc::new(move || Mono(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))
}

/// See the module.
pub struct Judge {
    /// Client of the API server.
    pub client: Client,
    /// The store.
    pub store: Store,
    /// Jobs that wait for their verdict.
    pub waiting: Waiting,
    /// Time as it passes.
    pub clock: Clock,
    /// Verdicts are counted here.
    pub upkeep: Upkeep,
    /// Told of each deletion that was no cancel, or could not be judged: an audit should follow.
    pub losses: Arc<Notify>,
}

impl Judge {
    /// Judges until nobody sends any more.
    pub async fn run(
        self,
        mut deletions: mpsc::Receiver<ForeignDeletion>,
        leadership: watch::Receiver<Leadership>,
    ) {
        let now = self.clock.clone();
        let mut waiting = Deletions::default();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                next = deletions.recv() => match next {
                    Some(deletion) => {
                        let name = deletion.name.clone();
                        if waiting.observed(deletion, now()) {
                            self.waiting.names().insert(name);
                        } else {
                            self.lost(&name);
                        }
                    }
                    None => return,
                },
                _ = tick.tick() => {
                    if *leadership.borrow() != Leadership::Leader {
                        waiting.clear();
                        self.waiting.names().clear();
                    }
                    for (deletion, verdict) in waiting.due(now()) {
                        self.judged(&deletion, verdict).await;
                        self.waiting.names().remove(&deletion.name);
                    }
                }
            }
        }
    }

    async fn judged(&self, deletion: &ForeignDeletion, verdict: Verdict) {
        let job = deletion.name.as_str();
        if verdict == Verdict::Lost {
            self.lost(job);
            return;
        }
        match self.cancelled(deletion).await {
            Ok(true) => {
                self.upkeep.judged(Judged::Cancel);
                tracing::info!(job, "its deletion is its cancel: recorded");
            }
            Ok(false) => {
                self.upkeep.judged(Judged::Nothing);
                self.losses.notify_one();
                tracing::warn!(job, "deleted, but that is no cancel");
            }
            Err(error) => {
                self.upkeep.judged(Judged::Unknown);
                self.losses.notify_one();
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    job,
                    error,
                    "its deletion could not be judged: the audit makes it again"
                );
            }
        }
    }

    fn lost(&self, job: &str) {
        self.upkeep.judged(Judged::Loss);
        self.losses.notify_one();
        tracing::error!(
            job,
            "deleted with many others: no cancel, the audit makes it again"
        );
    }

    /// Records the cancel of an upload whose job a person deleted. False: it was none.
    ///
    /// # Errors
    /// When something that must be known is not; then nothing was written.
    pub async fn cancelled(&self, deletion: &ForeignDeletion) -> Result<bool, AuditError> {
        let id = deletion.name.strip_prefix(names::JOB_NAME_PREFIX);
        let Some(id) = id.and_then(|id| id.parse::<UploadId>().ok()) else {
            return Ok(false);
        };
        if self.is_torn_down(deletion).await? || self.is_back(deletion).await? {
            return Ok(false);
        }
        let key = keys::active(&id);
        let Some(object) = self.store.get_document(&key).await? else {
            return Ok(false);
        };
        let unusable =
            |error: &dyn std::fmt::Display| AuditError::Unusable(format!("{key}: {error}"));
        let active: Active = decode(&object.bytes).map_err(|error| unusable(&error))?;
        // A later life is not what was deleted.
        if active.redrives > i64::from(deletion.redrives) {
            return Ok(false);
        }
        let is_redriven = active.redrives > 0;
        if !self.record(&id, record(active, deletion)).await? {
            return Ok(false);
        }
        if is_redriven {
            // Of the life before: its record was written over.
            let marker = keys::dead(id.day(), id.as_str());
            self.store.delete(&marker).await?;
        }
        self.store.delete(&key).await?;
        Ok(true)
    }

    /// The namespace or the definition goes and takes its jobs along, or has gone and was made anew since.
    async fn is_torn_down(&self, deletion: &ForeignDeletion) -> Result<bool, AuditError> {
        let namespace = deletion.namespace.as_str();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let found = call(
            || format!("read namespace {namespace}"),
            namespaces.get(namespace),
        )
        .await?;
        if !found.is_some_and(|found| held(&found.metadata, deletion)) {
            return Ok(true);
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = format!("videojobs.{}", names::GROUP);
        let found = call(|| format!("read definition {name}"), definitions.get(&name)).await?;
        Ok(!found.is_some_and(|found| held(&found.metadata, deletion)))
    }

    async fn is_back(&self, deletion: &ForeignDeletion) -> Result<bool, AuditError> {
        let jobs: Api<VideoJob> = Api::namespaced(self.client.clone(), &deletion.namespace);
        let name = deletion.name.as_str();
        let found = call(|| format!("read videojob {name}"), jobs.get_metadata(name)).await?;
        Ok(found.is_some())
    }

    /// False: it has ended otherwise.
    async fn record(&self, id: &UploadId, record: Record) -> Result<bool, AuditError> {
        let key = keys::record_for_upload(id);
        let unusable =
            |error: &dyn std::fmt::Display| AuditError::Unusable(format!("{key}: {error}"));
        let condition = match self.store.get_document(&key).await? {
            None => Condition::IfAbsent,
            Some(object) => {
                let stored: Record = decode(&object.bytes).map_err(|error| unusable(&error))?;
                if stored.ends(record.redrives) {
                    return Ok(false);
                }
                Condition::IfMatch(object.etag)
            }
        };
        let body = encode(&record).map_err(|error| unusable(&error))?;
        let put = self
            .store
            .cas(&key, body.into(), PutOptions::json(condition));
        match put.await? {
            CasOutcome::Won { .. } => Ok(true),
            CasOutcome::Lost(_) | CasOutcome::Gone => Ok(false),
        }
    }
}

/// It stays, and is the one that the job was made in.
fn held(owner: &ObjectMeta, deletion: &ForeignDeletion) -> bool {
    let made = owner.creation_timestamp.as_ref();
    let is_older = made.is_none_or(|made| made.0.as_millisecond() <= deletion.created_ms);
    owner.deletion_timestamp.is_none() && is_older
}

fn record(active: Active, deletion: &ForeignDeletion) -> Record {
    Record {
        v: VERSION,
        id: active.id.to_string(),
        owner: Some(active.owner),
        tenant: active.tenant,
        state: RecordState::Cancelled,
        dead_lettered: false,
        job: Some(JobRef {
            namespace: deletion.namespace.clone(),
            name: deletion.name.clone(),
            uid: deletion.uid.clone(),
        }),
        reason: reason::CANCELLED.to_owned(),
        message: Some("its VideoJob was deleted".to_owned()),
        key: active.key,
        size: Some(active.size),
        checksum: active.checksum,
        duration: active.duration,
        attempts: deletion.attempts.into(),
        redrives: active.redrives,
        outputs: Vec::new(),
        result: None,
        index_key: Some(active.index_key),
        times: Times {
            finished: Some(Timestamp::now()),
            ..active.times
        },
        extra: active.extra,
    }
}
