//! The store's part of a job's life: URLs for a lease, proof of outputs, the final record, and what may go afterwards.
//!
//! Reads and writes the bucket through kinora-storage, under the keys of [`keys`]; decides nothing about a job.

mod clean;
pub mod keys;
pub mod record;
pub mod revive;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use kinora_crds::VideoJob;
use kinora_storage::documents::{Active, Document, DocumentError, Record, decode, encode};
use kinora_storage::{CasOutcome, Condition, PutOptions, Store, StoreError, StoreErrorKind};

use self::keys::{Filed, KeyPolicy, filed};
use self::record::{Known, Precedence, build, precedence};
use crate::core::seams::{
    AttemptOf, FoundOutput, LeaseRequest, LeaseUrls, OutputUrl, RecordFacts, SourceState,
    StoreWork, StoreWorkError,
};

/// URLs outlive the call by this: for the upload of its outputs and clocks that differ.
const URL_EXTRA: Duration = Duration::from_secs(300);
/// Writers of one record at a time are a leader and its successor; more rounds than this are no race any more.
const ROUNDS: usize = 4;

type Result<T> = std::result::Result<T, StoreWorkError>;

/// See the module.
pub struct Archive {
    store: Store,
    policy: KeyPolicy,
    /// Presigning clients by the endpoint that a pool asked for.
    endpoints: Mutex<HashMap<String, Store>>,
}

impl Archive {
    /// Over this store, under this policy.
    pub fn new(store: Store, policy: KeyPolicy) -> Self {
        Self {
            store,
            policy,
            endpoints: Mutex::default(),
        }
    }

    fn signer(&self, endpoint: Option<&str>) -> Result<Store> {
        let Some(endpoint) = endpoint else {
            return Ok(self.store.clone());
        };
        let mut endpoints = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = endpoints.get(endpoint) {
            return Ok(store.clone());
        }
        let store = self
            .store
            .with_presign_endpoint(endpoint)
            .map_err(unavailable)?;
        endpoints.insert(endpoint.to_owned(), store.clone());
        Ok(store)
    }

    fn sign(&self, request: LeaseRequest) -> Result<LeaseUrls> {
        let LeaseRequest {
            attempt,
            outputs,
            timeout,
            store_endpoint,
        } = request;
        let source = self.policy.source(&attempt.job)?;
        let signer = self.signer(store_endpoint.as_deref())?;
        let valid = timeout.saturating_add(URL_EXTRA);
        let prefix = filed(&attempt.job)?.outputs(attempt.attempt, &attempt.pod_uid);
        let source_url = signer.presign_get(source, valid).map_err(unavailable)?;
        let signed = outputs.into_iter().map(|name| {
            let put = signer
                .presign_put(&format!("{prefix}{name}"), valid, None)
                .map_err(unavailable)?;
            Ok(OutputUrl {
                name,
                put_url: put.url,
                headers: put.headers,
            })
        });
        Ok(LeaseUrls {
            source_url,
            outputs: signed.collect::<Result<_>>()?,
        })
    }

    async fn find(&self, attempt: AttemptOf, names: Vec<String>) -> Result<Vec<FoundOutput>> {
        let prefix = filed(&attempt.job)?.outputs(attempt.attempt, &attempt.pod_uid);
        let heads = names.into_iter().map(async |name| {
            let key = format!("{prefix}{name}");
            let head = self.store.head(&key).await.map_err(unavailable)?;
            Ok::<_, StoreWorkError>(head.map(|head| FoundOutput {
                name,
                uri: format!("s3://{}/{key}", self.store.bucket()),
                size_bytes: i64::try_from(head.size).unwrap_or(i64::MAX),
                checksum: head.crc64nvme.map(|crc| format!("crc64nvme:{crc}")),
            }))
        });
        Ok(try_join_all(heads).await?.into_iter().flatten().collect())
    }

    async fn look(&self, job: Arc<VideoJob>) -> Result<SourceState> {
        let key = self.policy.source(&job)?;
        let head = self.store.head(key).await.map_err(unavailable)?;
        Ok(if head.is_some() {
            SourceState::Present
        } else {
            SourceState::Missing
        })
    }

    async fn document<T: Document>(&self, key: &str) -> Result<Option<(T, String)>> {
        let object = self.store.get_document(key).await;
        object
            .map_err(|error| trouble(key, error))?
            .map(|object| {
                Ok((
                    decode(&object.bytes).map_err(|e| unusable(key, &e))?,
                    object.etag,
                ))
            })
            .transpose()
    }

    /// Write, and where another record is, judge which of the two stays.
    async fn record(&self, job: Arc<VideoJob>, result_json: Option<String>) -> Result<()> {
        let filed = filed(&job)?;
        let active = match filed.active() {
            Some(key) => self
                .document::<Active>(&key)
                .await?
                .map(|(active, _)| active),
            None => None,
        };
        let result = result_json.and_then(|json| serde_json::from_str(&json).ok());
        let mut stored: Option<(Record, String)> = None;
        for _ in 0..ROUNDS {
            let known = Known {
                active: active.clone(),
                stored: stored.as_ref().map(|(record, _)| record.clone()),
                result: result.clone(),
                bucket: self.store.bucket().to_owned(),
            };
            let Some(record) = build(&job, &filed, known) else {
                return Err(StoreWorkError::Unusable(format!(
                    "write the record of {}: the job has not ended",
                    filed.id
                )));
            };
            if stored
                .as_ref()
                .is_some_and(|(stored, _)| precedence(stored, &record) == Precedence::Keep)
            {
                return self.mark(&filed, &record, true).await;
            }
            self.mark(&filed, &record, false).await?;
            let condition = stored
                .take()
                .map_or(Condition::IfAbsent, |(_, etag)| Condition::IfMatch(etag));
            match self.put(&filed, &record, condition).await? {
                CasOutcome::Won { .. } => return self.mark(&filed, &record, true).await,
                CasOutcome::Lost(other) => {
                    let key = filed.record();
                    stored = Some((
                        decode(&other.bytes).map_err(|e| unusable(&key, &e))?,
                        other.etag,
                    ));
                }
                CasOutcome::Gone => {}
            }
        }
        Err(StoreWorkError::Unavailable(format!(
            "write the record of {}: others keep writing it",
            filed.id
        )))
    }

    async fn put(
        &self,
        filed: &Filed,
        record: &Record,
        condition: Condition,
    ) -> Result<CasOutcome> {
        let key = filed.record();
        let body = encode(record).map_err(|error| unusable(&key, &error))?;
        self.store
            .cas(&key, body.into(), PutOptions::json(condition))
            .await
            .map_err(|error| trouble(&key, error))
    }

    /// The dead letter's marker: there before its record is, gone after the record of a later, better end.
    async fn mark(&self, filed: &Filed, record: &Record, written: bool) -> Result<()> {
        let key = filed.dead();
        if record.dead_lettered {
            if !written {
                self.store
                    .put(&key, Vec::new().into(), PutOptions::default())
                    .await
                    .map_err(unavailable)?;
            }
        } else if written && record.redrives > 0 {
            self.store.delete(&key).await.map_err(unavailable)?;
        }
        Ok(())
    }

    async fn revive(&self, job: Arc<VideoJob>, redrives: u32) -> Result<()> {
        let filed = filed(&job)?;
        let (Some(upload), Some(key)) = (filed.upload.clone(), filed.active()) else {
            return Ok(());
        };
        let manifest = revive::manifest(&job);
        let (entry, condition) = match self.document::<Active>(&key).await? {
            Some((known, _)) if known.redrives >= i64::from(redrives) => return Ok(()),
            Some((known, etag)) => {
                let redrives = redrives.into();
                (Active { redrives, ..known }, Condition::IfMatch(etag))
            }
            None => {
                let record = self.document::<Record>(&filed.record()).await?;
                let Some((record, _)) = record else {
                    return Err(StoreWorkError::Unavailable(format!(
                        "bring {} back: it has no record yet",
                        filed.id
                    )));
                };
                if record.ends(redrives.into()) {
                    return Err(StoreWorkError::Unusable(format!(
                        "bring {} back: its video was erased, or a later life has ended",
                        filed.id
                    )));
                }
                let entry = revive::decision(upload, &record, manifest, redrives);
                (entry, Condition::IfAbsent)
            }
        };
        let body = encode(&entry).map_err(|error| unusable(&key, &error))?;
        let put = self
            .store
            .cas(&key, body.into(), PutOptions::json(condition));
        match put.await.map_err(unavailable)? {
            CasOutcome::Won { .. } => Ok(()),
            CasOutcome::Lost(_) | CasOutcome::Gone => Err(StoreWorkError::Unavailable(format!(
                "bring {} back: its decision changed meanwhile",
                filed.id
            ))),
        }
    }

    async fn recorded(&self, job: Arc<VideoJob>) -> Result<Option<RecordFacts>> {
        let stored = self.document::<Record>(&filed(&job)?.record()).await?;
        Ok(stored.map(|(record, _)| {
            let state = serde_json::to_value(record.state).ok();
            RecordFacts {
                redrives: u32::try_from(record.redrives).unwrap_or(0),
                state: state
                    .and_then(|state| state.as_str().map(str::to_owned))
                    .unwrap_or_default(),
            }
        }))
    }
}

impl StoreWork for Archive {
    fn lease_urls(&self, request: LeaseRequest) -> BoxFuture<'_, Result<LeaseUrls>> {
        std::future::ready(self.sign(request)).boxed()
    }

    fn check_outputs(
        &self,
        attempt: AttemptOf,
        names: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<FoundOutput>>> {
        self.find(attempt, names).boxed()
    }

    fn source_state(&self, job: Arc<VideoJob>) -> BoxFuture<'_, Result<SourceState>> {
        self.look(job).boxed()
    }

    fn write_final_record(
        &self,
        job: Arc<VideoJob>,
        result_json: Option<String>,
    ) -> BoxFuture<'_, Result<()>> {
        self.record(job, result_json).boxed()
    }

    fn final_record_for(&self, job: Arc<VideoJob>) -> BoxFuture<'_, Result<Option<RecordFacts>>> {
        self.recorded(job).boxed()
    }

    fn finish_cleanup(&self, job: Arc<VideoJob>) -> BoxFuture<'_, Result<()>> {
        self.clean(job).boxed()
    }

    fn reactivate(&self, job: Arc<VideoJob>, redrives: u32) -> BoxFuture<'_, Result<()>> {
        self.revive(job, redrives).boxed()
    }

    fn take_back(&self, job: Arc<VideoJob>, redrives: u32) -> BoxFuture<'_, Result<()>> {
        self.unrevive(job, redrives).boxed()
    }

    fn clock_skew_seconds(&self) -> Option<i64> {
        self.store.store_time()
    }
}

/// Whatever the store's trouble is, the job is not to blame, and a later try may find it mended.
// By value, to be named in `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn unavailable(error: StoreError) -> StoreWorkError {
    StoreWorkError::Unavailable(error.to_string())
}

/// As [`unavailable`], but what is too large for a document is none of ours.
fn trouble(key: &str, error: StoreError) -> StoreWorkError {
    if error.kind == StoreErrorKind::TooLarge {
        return StoreWorkError::Unusable(format!("{key}: {error}"));
    }
    unavailable(error)
}

fn unusable(key: &str, error: &DocumentError) -> StoreWorkError {
    StoreWorkError::Unusable(format!("{key}: {error}"))
}
