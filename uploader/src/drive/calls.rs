//! The calls on an unfinished upload, executed as they stand: state object, parts, slices.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kinora_storage::{
    Condition, Metadata, MultipartId, Part, Payload, PutOptions, PutOutcome, StoreError,
    StoreErrorKind, checksum, keys,
};
use kinora_upload_engine::parts::SeenPart;
use kinora_upload_engine::{Answer, Call, Expect, PutAnswer, Slice, State};

use super::Driver;
use super::bytes::{Ram, gather};
use crate::metrics::{Wait, Written};

/// Largest state document that is read.
const MAX_STATE: u64 = 256 << 10;
/// Metadata of every video: the upload it belongs to.
pub(crate) const UPLOAD_ID: &str = "upload-id";

/// The end of a write in the engine's words.
pub(crate) fn put_answer(result: Result<PutOutcome, StoreError>) -> Answer {
    match result {
        Ok(PutOutcome::Written { etag }) => Answer::Put(PutAnswer::Written(etag)),
        Ok(PutOutcome::Lost) => Answer::Put(PutAnswer::Lost),
        Err(error) if error.is_unknown_outcome() => {
            tracing::warn!(%error, "no clear answer to a write");
            Answer::Put(PutAnswer::Unknown)
        }
        Err(error) => Answer::Failed(error.to_string()),
    }
}

pub(crate) fn failed(error: &impl std::fmt::Display) -> Answer {
    Answer::Failed(error.to_string())
}

impl Driver {
    /// Executes a call that concerns the bytes or the state of an unfinished upload.
    pub(crate) async fn call(&self, call: Call, ram: &Ram) -> Answer {
        // The store's client needs 16 KiB for a call: not in every future that may make one.
        Box::pin(self.call_for(call, ram, &keys::video(&self.id))).await
    }

    /// As `call`, with the final key.
    pub(crate) async fn call_for(&self, call: Call, ram: &Ram, key: &str) -> Answer {
        match call {
            Call::GetState => self.get_state().await,
            Call::PutState { doc, expect } => self.put_state(&doc, expect).await,
            Call::AskWriter => {
                let begun = Instant::now();
                let asked = self.app.writers.ask(&self.id).await;
                self.app.metrics.waited(Wait::Writer, begun.elapsed());
                Answer::Asked(asked)
            }
            Call::Wait { ms } => {
                let pause = Duration::from_millis(ms);
                tokio::time::sleep(pause).await;
                self.app.metrics.waited(Wait::Writer, pause);
                Answer::Waited
            }
            Call::ListParts { multipart } => self.list_parts(key, multipart).await,
            Call::CreateMultipart => self.create_multipart(key).await,
            Call::UploadPart {
                multipart,
                part,
                from,
                to,
                slices,
            } => {
                self.upload_part(key, multipart, part, (from, to), &slices, ram)
                    .await
            }
            Call::PutSlice { slice, merge } => self.put_slice(&slice, &merge, ram).await,
            Call::Abort { multipart } => {
                match self.app.store.abort(key, &MultipartId(multipart)).await {
                    Ok(()) => Answer::Done,
                    Err(error) => failed(&error),
                }
            }
            other => Answer::Failed(format!("{other:?} belongs to the finish sequence")),
        }
    }

    async fn get_state(&self) -> Answer {
        match self
            .app
            .store
            .get_bounded(&keys::state(&self.id), MAX_STATE)
            .await
        {
            Ok(None) => Answer::State(None),
            Ok(Some(object)) => match State::parse(&object.bytes) {
                Ok(doc) => {
                    self.touch(object.last_modified);
                    Answer::State(Some((Box::new(doc), object.etag)))
                }
                Err(error) => failed(&error),
            },
            Err(error) => failed(&error),
        }
    }

    async fn put_state(&self, doc: &State, expect: Expect) -> Answer {
        let condition = match expect {
            Expect::Absent => Condition::IfAbsent,
            Expect::Match(etag) => Condition::IfMatch(etag),
        };
        match doc.to_bytes() {
            Ok(body) => {
                let key = keys::state(&self.id);
                let options = PutOptions::json(condition);
                // Before the write: what is said of its expiry is never too late.
                self.touch(self.app.store.now());
                let answer = put_answer(self.app.store.put(&key, Bytes::from(body), options).await);
                if let Answer::Put(PutAnswer::Written(etag)) = &answer {
                    self.app.hints.stored(&self.id, doc, etag);
                }
                answer
            }
            Err(error) => failed(&error),
        }
    }

    async fn list_parts(&self, key: &str, multipart: String) -> Answer {
        match self
            .app
            .store
            .list_parts(key, &MultipartId(multipart))
            .await
        {
            Ok(parts) => Answer::Parts(parts.map(|parts| parts.iter().filter_map(seen).collect())),
            Err(error) => failed(&error),
        }
    }

    async fn create_multipart(&self, key: &str) -> Answer {
        let metadata = Metadata::from([(UPLOAD_ID.to_owned(), self.id.to_string())]);
        match self
            .app
            .store
            .create_multipart(key, &metadata, Some("application/octet-stream"))
            .await
        {
            Ok(id) => Answer::Multipart(id.0),
            Err(error) => failed(&error),
        }
    }

    async fn upload_part(
        &self,
        key: &str,
        multipart: String,
        part: u32,
        range: (u64, u64),
        slices: &[Slice],
        ram: &Ram,
    ) -> Answer {
        let _turn = self.turn(range, ram).await;
        let bytes = match gather(&self.app.store, &self.id, range, slices, ram).await {
            Ok(bytes) => bytes,
            Err(error) => return error.answer(),
        };
        let Ok(number) = i32::try_from(part + 1) else {
            return Answer::Failed(format!(
                "store part {part} of upload {}: too many parts",
                self.id
            ));
        };
        let (bytes, multipart) = (Payload::from(bytes), MultipartId(multipart));
        let crc = ram.crc_of(range.0, range.1);
        let crc = checksum::to_base64(crc.unwrap_or_else(|| bytes.crc64()));
        let store = &self.app.store;
        let stored = store.upload_part_with_crc(key, &multipart, number, bytes, &crc);
        match stored.await {
            Ok(etag) => {
                self.app.metrics.stored(Written::Part, range.1 - range.0);
                Answer::Part { part, etag }
            }
            Err(error) if error.kind == StoreErrorKind::NoSuchUpload => Answer::NoSuchUpload,
            Err(error) => failed(&error),
        }
    }

    async fn put_slice(&self, slice: &Slice, merge: &[Slice], ram: &Ram) -> Answer {
        let _turn = self.turn((slice.from, slice.to), ram).await;
        match gather(
            &self.app.store,
            &self.id,
            (slice.from, slice.to),
            merge,
            ram,
        )
        .await
        {
            // The name belongs to this writer's epoch alone, so the write may be repeated.
            Ok(bytes) => {
                let key = self.slice_key(slice);
                let size = slice.to - slice.from;
                let options = PutOptions {
                    checksum: ram.crc_of(slice.from, slice.to).map(checksum::to_base64),
                    ..PutOptions::default()
                };
                let put = self
                    .app
                    .store
                    .put_payload(&key, bytes.into(), options)
                    .await;
                if matches!(put, Ok(PutOutcome::Written { .. })) {
                    self.app.metrics.stored(Written::Slice, size);
                }
                put_answer(put)
            }
            Err(error) => error.answer(),
        }
    }
}

fn seen(part: &Part) -> Option<SeenPart> {
    Some(SeenPart {
        part: u32::try_from(part.number.checked_sub(1)?).ok()?,
        size: part.size,
        etag: part.etag.clone(),
        modified_ms: part
            .last_modified
            .and_then(|at| u64::try_from(at.as_millisecond()).ok())
            .unwrap_or(0),
        crc: part.crc64nvme.as_deref().and_then(checksum::from_base64),
    })
}

/// Whether a failed Complete is to be asked about, rather than believed.
pub(crate) fn is_unclear(error: &StoreError) -> bool {
    error.is_unknown_outcome() || error.kind == StoreErrorKind::Conflict
}
