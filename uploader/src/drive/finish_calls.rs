//! The calls of the finish sequence, executed as they stand.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use kinora_crds::VideoJob;
use kinora_storage::documents::{self as stored, Active, Document, Pending, Record};
use kinora_storage::{
    CompleteOutcome, Condition, Metadata, MultipartId, PartRef, PutOptions, PutOutcome, checksum,
    keys,
};
use kinora_upload_engine::call::{CompleteAnswer, FinalRecord, JobAnswer, SeenVideo};
use kinora_upload_engine::finish::Facts;
use kinora_upload_engine::media::{MAX_READS, Piece, READ, Reason};
use kinora_upload_engine::{Answer, Call, Decision, Slice};

use super::bytes::gather;
use super::calls::{UPLOAD_ID, failed, is_unclear, put_answer};
use super::finish::Finisher;
use crate::documents;
use crate::janitor::Garbage;
use crate::jobs::SinkError;

/// Most bytes that a look into a large video reads.
const LOOK: u64 = READ * MAX_READS as u64;

impl Finisher {
    pub(super) async fn call(&mut self, call: Call, facts: &Facts) -> Answer {
        match call {
            Call::GetPending => self.get_pending().await,
            Call::PutPending => self.put_pending().await,
            Call::PutVideo { slices } => self.put_video(&slices, facts).await,
            Call::Complete {
                multipart,
                parts,
                crc,
            } => self.complete(multipart, &parts, crc).await,
            Call::HeadVideo => self.head_video().await,
            Call::ReadVideo { from, to } => self.read_video(from, to).await,
            Call::DigestVideo { algorithms } => self.digest_video(&algorithms, facts).await,
            Call::GetActive => self.get_active().await,
            Call::PutActive { decision } => self.put_active(&decision).await,
            Call::GetRecord => self.get_record().await,
            Call::PutRecord { rejected, reason } => {
                let record = self.final_record(rejected, &reason);
                self.put_absent(&keys::record_for_upload(&self.driver.id), &record)
                    .await
            }
            Call::DeleteVideo => self.delete(self.pending.key.clone()).await,
            Call::DeleteActive => self.delete(keys::active(&self.driver.id)).await,
            Call::CreateJob => self.create_job().await,
            Call::PutIndex => {
                let put = self.driver.app.store.put(
                    &self.pending.index_key,
                    Bytes::new(),
                    PutOptions::default(),
                );
                put_answer(put.await)
            }
            Call::CleanUp { slices, state } => self.clean_up(&slices, state),
            other => {
                self.driver
                    .call_for(other, &self.ram, &self.pending.key)
                    .await
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.driver.app.store.now()
    }

    async fn put_absent<T: Document>(&self, key: &str, document: &T) -> Answer {
        match stored::encode(document) {
            Ok(body) => {
                let options = PutOptions::json(Condition::IfAbsent);
                put_answer(
                    self.driver
                        .app
                        .store
                        .put(key, Bytes::from(body), options)
                        .await,
                )
            }
            Err(error) => failed(&error),
        }
    }

    async fn read<T: Document>(&self, key: &str) -> Result<Option<(T, Timestamp)>, Answer> {
        match self.driver.app.store.get_document(key).await {
            Ok(None) => Ok(None),
            Ok(Some(object)) => match stored::decode(&object.bytes) {
                Ok(document) => Ok(Some((document, object.last_modified))),
                Err(error) => Err(failed(&error)),
            },
            Err(error) => Err(failed(&error)),
        }
    }

    async fn get_pending(&mut self) -> Answer {
        match self.read::<Pending>(&keys::pending(&self.driver.id)).await {
            Ok(None) => Answer::Pending(false),
            Ok(Some((pending, since))) => {
                self.pending = pending;
                self.outbox_time = Some(since);
                Answer::Pending(true)
            }
            Err(answer) => answer,
        }
    }

    async fn put_pending(&mut self) -> Answer {
        // Taken before the write: earlier than Last-Modified makes the operator look twice, never too little.
        let before = self.now();
        let answer = self
            .put_absent(&keys::pending(&self.driver.id), &self.pending)
            .await;
        match answer {
            Answer::Put(kinora_upload_engine::PutAnswer::Lost) => match self.get_pending().await {
                Answer::Pending(true) => answer,
                Answer::Pending(false) => Answer::Put(kinora_upload_engine::PutAnswer::Unknown),
                other => other,
            },
            answer => {
                self.outbox_time = Some(before);
                answer
            }
        }
    }

    fn video_metadata(&self) -> Metadata {
        Metadata::from([(UPLOAD_ID.to_owned(), self.driver.id.to_string())])
    }

    async fn put_video(&mut self, slices: &[Slice], facts: &Facts) -> Answer {
        let _turn = self.driver.turn((0, facts.length), &self.ram).await;
        let store = &self.driver.app.store;
        let body = match gather(store, &self.driver.id, (0, facts.length), slices, &self.ram).await
        {
            Ok(body) => body,
            Err(error) => return error.answer(),
        };
        let options = PutOptions {
            condition: Condition::IfAbsent,
            content_type: Some("application/octet-stream".into()),
            metadata: self.video_metadata(),
            checksum: facts.crc.map(checksum::to_base64),
        };
        let result = store
            .put_payload(&self.pending.key, body.into(), options)
            .await;
        if let Ok(PutOutcome::Written { etag }) = &result {
            self.object.etag = Some(etag.clone());
            self.object.parts_only = false;
            let metrics = &self.driver.app.metrics;
            metrics.stored(crate::metrics::Written::Object, facts.length);
        }
        put_answer(result)
    }

    async fn complete(
        &mut self,
        multipart: String,
        parts: &BTreeMap<u32, String>,
        crc: Option<u64>,
    ) -> Answer {
        let parts: Vec<PartRef> = parts
            .iter()
            .filter_map(|(part, etag)| {
                Some(PartRef {
                    number: i32::try_from(part + 1).ok()?,
                    etag: etag.clone(),
                })
            })
            .collect();
        let crc = crc.map(checksum::to_base64);
        let store = &self.driver.app.store;
        let result = store
            .complete(
                &self.pending.key,
                &MultipartId(multipart),
                &parts,
                crc.as_deref(),
            )
            .await;
        Answer::Complete(match result {
            Ok(CompleteOutcome::Completed { etag, .. }) => {
                self.object.etag = Some(etag.clone());
                CompleteAnswer::Done(etag)
            }
            Ok(CompleteOutcome::NoSuchUpload) => CompleteAnswer::NoSuchUpload,
            Ok(CompleteOutcome::InvalidPart) => CompleteAnswer::InvalidPart,
            Ok(CompleteOutcome::ChecksumMismatch) => CompleteAnswer::ChecksumMismatch,
            Err(error) if is_unclear(&error) => {
                tracing::warn!(%error, "no clear answer to a Complete");
                CompleteAnswer::Unknown
            }
            Err(error) => return failed(&error),
        })
    }

    async fn head_video(&mut self) -> Answer {
        match self.driver.app.store.head(&self.pending.key).await {
            Ok(None) => Answer::Video(None),
            Ok(Some(head)) => {
                self.object.etag = Some(head.etag.clone());
                Answer::Video(Some(SeenVideo {
                    etag: head.etag,
                    size: head.size,
                    crc: head.crc64nvme.as_deref().and_then(checksum::from_base64),
                    upload_id: head.metadata.get(UPLOAD_ID).cloned(),
                }))
            }
            Err(error) => failed(&error),
        }
    }

    async fn read_video(&mut self, from: u64, to: u64) -> Answer {
        if let Some(bytes) = self.ram.range(from, to) {
            return Answer::Bytes(Piece::new(bytes.into_bytes()));
        }
        if self.look.is_none() {
            // For all that the look may read: looks that wait for more while they hold some would wait for each other.
            let most = (to - from).max(LOOK).min(self.pending.length);
            self.look = self.driver.app.object_turns.take(most).await;
        }
        let key = &self.pending.key;
        match self.driver.app.store.get_range(key, from..to).await {
            Ok(Some(object)) => Answer::Bytes(Piece::new(object.bytes)),
            Ok(None) => Answer::Failed(format!("get {key}: it is not there")),
            Err(error) => failed(&error),
        }
    }

    fn final_record(&self, rejected: bool, reason: &str) -> Record {
        let decided = self.active.as_ref().and_then(|active| active.duration);
        let max_seconds = self.max_seconds().unwrap_or_default();
        Record {
            duration: decided.or(self.seconds()),
            message: Reason::of(reason).map(|reason| reason.advice(max_seconds)),
            ..documents::record(&self.pending, rejected, reason, self.now())
        }
    }

    /// How long the video plays.
    fn seconds(&self) -> Option<f64> {
        self.duration_ms
            .map(|ms| std::time::Duration::from_millis(ms).as_secs_f64())
    }

    async fn get_active(&mut self) -> Answer {
        match self.read::<Active>(&keys::active(&self.driver.id)).await {
            Ok(None) => Answer::Active(None),
            Ok(Some((active, _))) => {
                let decision = match active.decision {
                    stored::Decision::Accepted => Decision::Accepted,
                    stored::Decision::Rejected => {
                        Decision::Rejected(active.reason.clone().unwrap_or_default())
                    }
                };
                self.active = Some(active);
                Answer::Active(Some(decision))
            }
            Err(answer) => answer,
        }
    }

    async fn put_active(&mut self, decision: &Decision) -> Answer {
        let rejected = match decision {
            Decision::Accepted => None,
            Decision::Rejected(reason) => Some(reason.as_str()),
        };
        let now = self.now();
        let outbox_time = self.outbox_time.unwrap_or(now);
        let active = Active {
            duration: self.seconds(),
            ..documents::active(&self.pending, rejected, &self.object, outbox_time, now)
        };
        let answer = self
            .put_absent(&keys::active(&self.driver.id), &active)
            .await;
        self.active = Some(active);
        answer
    }

    async fn get_record(&mut self) -> Answer {
        match self
            .read::<Record>(&keys::record_for_upload(&self.driver.id))
            .await
        {
            Ok(None) => Answer::Record(None),
            Ok(Some((record, _))) => {
                let state = match record.state {
                    stored::RecordState::Succeeded => "succeeded",
                    stored::RecordState::Failed => "failed",
                    // The operator's verdict on a job; the video stays for a redrive.
                    stored::RecordState::Rejected
                        if record.dead_lettered || record.job.is_some() =>
                    {
                        "failed"
                    }
                    stored::RecordState::Rejected => "rejected",
                    stored::RecordState::Cancelled => "cancelled",
                };
                Answer::Record(Some(FinalRecord {
                    state: state.into(),
                    reason: Some(record.reason),
                }))
            }
            Err(answer) => answer,
        }
    }

    async fn create_job(&mut self) -> Answer {
        if !self.driver.app.admission.is_open() {
            return Answer::Job(JobAnswer::Later);
        }
        let job = self
            .active
            .as_ref()
            .map_or(&self.pending.job, |active| &active.job);
        let job: VideoJob = match serde_json::from_value(job.clone()) {
            Ok(job) => job,
            Err(error) => {
                return Answer::Failed(format!(
                    "read the VideoJob of upload {}: {error}",
                    self.driver.id
                ));
            }
        };
        let app = &self.driver.app;
        // Nobody waits for the sweep.
        let created = match self.swept {
            true => app.jobs.create_patiently(&job).await,
            false => app.jobs.create(&job).await,
        };
        match created {
            Ok(()) => {
                app.admission.set_full(false);
                Answer::Job(JobAnswer::There)
            }
            Err(error) => {
                if matches!(error, SinkError::Full { .. }) {
                    app.admission.set_full(true);
                }
                if matches!(error, SinkError::Full { .. } | SinkError::Refused { .. }) {
                    tracing::error!(upload = %self.driver.id, %error, "a job waits until this is mended");
                }
                self.trouble = Some(error);
                Answer::Job(JobAnswer::Later)
            }
        }
    }

    async fn delete(&self, key: String) -> Answer {
        match self.driver.app.store.delete(&key).await {
            Ok(()) => Answer::Done,
            Err(error) => failed(&error),
        }
    }

    fn clean_up(&self, slices: &[Slice], state: bool) -> Answer {
        let mut first = vec![keys::pending(&self.driver.id)];
        first.extend(slices.iter().map(|slice| self.driver.slice_key(slice)));
        let last = if state {
            vec![keys::state(&self.driver.id)]
        } else {
            Vec::new()
        };
        self.driver.app.janitor.leave(Garbage { first, last });
        Answer::Done
    }
}
