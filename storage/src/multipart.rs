//! Multipart uploads: bytes that stay invisible until Complete.

use std::time::Duration;

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use crate::checksum::crc64_base64;
use crate::clock::timestamp;
use crate::error::{StoreError, StoreErrorKind};
use crate::observe::StoreCall;
use crate::payload::Payload;
use crate::read::unsigned;
use crate::retry;
use crate::store::Store;
use crate::types::{CompleteOutcome, Metadata, MultipartId, Part, PartRef};
use crate::write::hashed;

/// Rounds of abort-and-list before giving up: a part in flight may land after an abort.
const ABORT_ROUNDS: u32 = 10;

impl Store {
    /// Begins a multipart upload whose object will carry a full-object CRC64NVME.
    ///
    /// Tried once: a repeat after an unclear answer would leave a second, empty upload behind.
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names.
    pub async fn create_multipart(
        &self,
        key: &str,
        metadata: &Metadata,
        content_type: Option<&str>,
    ) -> Result<MultipartId, StoreError> {
        let action = StoreCall::CreateMultipart.on(format!("create multipart {key}"));
        let call = async {
            let request = self
                .client()
                .create_multipart_upload()
                .bucket(self.bucket())
                .key(key);
            let request = request
                .set_content_type(content_type.map(str::to_owned))
                .set_metadata(hashed(metadata));
            let request = request
                .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
                .checksum_type(ChecksumType::FullObject);
            request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))
        };
        let answer = self.once(&action, self.short(), call).await?;
        let none = || {
            StoreError::new(
                StoreErrorKind::Invalid,
                &action,
                "the store gave no upload id",
            )
        };
        answer
            .upload_id()
            .map(|id| MultipartId(id.to_owned()))
            .ok_or_else(none)
    }

    /// Uploads part `number` (from 1) and returns its ETag; the store verifies the bytes against their CRC64NVME.
    /// The same part may be uploaded again at any time before Complete.
    ///
    /// # Errors
    /// `NoSuchUpload` if it was completed or aborted, `BadDigest` if the bytes did not arrive as sent.
    pub async fn upload_part(
        &self,
        key: &str,
        id: &MultipartId,
        number: i32,
        body: Bytes,
    ) -> Result<String, StoreError> {
        let crc = crc64_base64(&body);
        self.upload_part_with_crc(key, id, number, body, &crc).await
    }

    /// As [`Store::upload_part`] with a checksum that the caller has already computed (base64).
    ///
    /// # Errors
    /// As [`Store::upload_part`].
    pub async fn upload_part_with_crc(
        &self,
        key: &str,
        id: &MultipartId,
        number: i32,
        body: impl Into<Payload>,
        crc64nvme: &str,
    ) -> Result<String, StoreError> {
        let body = body.into();
        let action = StoreCall::UploadPart.on(format!("upload part {number} of {key}"));
        let call = || async {
            let request = self
                .client()
                .upload_part()
                .bucket(self.bucket())
                .key(key)
                .upload_id(&id.0)
                .part_number(number);
            let request = request.body(body.stream()).checksum_crc64_nvme(crc64nvme);
            // Hashing every byte for the signature costs more than sending it; the signed CRC header protects it.
            let sent = request.customize().disable_payload_signing().send().await;
            sent.map_err(|error| self.classify(&action, error))
        };
        let answer = self.retrying(&action, self.long(), call).await?;
        Ok(answer.e_tag().unwrap_or_default().to_owned())
    }

    /// All parts, as the store lists them: an overwritten part may be there twice (see [`crate::parts::pick_parts`]).
    /// None if the store knows no such upload.
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names.
    pub async fn list_parts(
        &self,
        key: &str,
        id: &MultipartId,
    ) -> Result<Option<Vec<Part>>, StoreError> {
        let action = StoreCall::ListParts.on(format!("list parts of {key}"));
        let mut parts = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let call = || async {
                let request = self
                    .client()
                    .list_parts()
                    .bucket(self.bucket())
                    .key(key)
                    .upload_id(&id.0);
                let sent = request.set_part_number_marker(marker.clone()).send().await;
                sent.map_err(|error| self.classify(&action, error))
            };
            let page = match self.retrying(&action, self.short(), call).await {
                Ok(page) => page,
                Err(error) if error.kind == StoreErrorKind::NoSuchUpload => return Ok(None),
                Err(error) => return Err(error),
            };
            parts.extend(page.parts().iter().filter_map(part));
            let next = page.next_part_number_marker().map(str::to_owned);
            // A marker that does not move would loop for ever.
            if page.is_truncated() != Some(true) || next.is_none() || next == marker {
                return Ok(Some(parts));
            }
            marker = next;
        }
    }

    /// Makes the object visible; unconditional, because key and upload id are unique. `crc64nvme` (base64) is that of
    /// the whole file; without it the parts' own checksums are all that was verified.
    ///
    /// An error inside a 200 answer is an error here too. Some stores (MinIO) refuse parts that are named without the checksum
    /// they came with: those are named again, by what the store lists.
    ///
    /// # Errors
    /// With [`StoreError::is_unknown_outcome`]: it may be done already, or be done minutes later. HEAD tells.
    pub async fn complete(
        &self,
        key: &str,
        id: &MultipartId,
        parts: &[PartRef],
        crc64nvme: Option<&str>,
    ) -> Result<CompleteOutcome, StoreError> {
        let bare = parts.iter().map(|part| named(part, None)).collect();
        let done = self.complete_once(key, id, bare, crc64nvme).await?;
        if done != CompleteOutcome::InvalidPart {
            return Ok(done);
        }
        let Ok(Some(listed)) = self.list_parts(key, id).await else {
            return Ok(done);
        };
        match with_checksums(parts, &listed) {
            Some(parts) => self.complete_once(key, id, parts, crc64nvme).await,
            None => Ok(done),
        }
    }

    async fn complete_once(
        &self,
        key: &str,
        id: &MultipartId,
        parts: Vec<CompletedPart>,
        crc64nvme: Option<&str>,
    ) -> Result<CompleteOutcome, StoreError> {
        let action = StoreCall::Complete.on(format!("complete {key}"));
        let list = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let call = async {
            let request = self
                .client()
                .complete_multipart_upload()
                .bucket(self.bucket())
                .key(key)
                .upload_id(&id.0);
            let request = request
                .multipart_upload(list)
                .set_checksum_crc64_nvme(crc64nvme.map(str::to_owned));
            let request = request.set_checksum_type(crc64nvme.map(|_| ChecksumType::FullObject));
            request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))
        };
        match self.once(&action, self.long(), call).await {
            // The parser takes a body that broke off for a result without an ETag.
            Ok(done) => match done.e_tag().filter(|etag| !etag.is_empty()) {
                None => Err(StoreError::new(
                    StoreErrorKind::Unavailable,
                    &action,
                    "the store's answer broke off",
                )),
                Some(etag) => Ok(CompleteOutcome::Completed {
                    etag: etag.to_owned(),
                    crc64nvme: done.checksum_crc64_nvme().map(str::to_owned),
                }),
            },
            Err(error) if error.kind == StoreErrorKind::NoSuchUpload => {
                Ok(CompleteOutcome::NoSuchUpload)
            }
            Err(error) if error.kind == StoreErrorKind::InvalidPart => {
                Ok(CompleteOutcome::InvalidPart)
            }
            Err(error) if error.kind == StoreErrorKind::BadDigest => {
                Ok(CompleteOutcome::ChecksumMismatch)
            }
            Err(error) => Err(error),
        }
    }

    /// Drops an unfinished upload and its parts, again and again until the store knows it no more, because a part in
    /// flight survives an abort. Never call it once the object or a record exists: one store deletes the data then.
    ///
    /// # Errors
    /// `Conflict` if parts keep arriving; abort later again.
    pub async fn abort(&self, key: &str, id: &MultipartId) -> Result<(), StoreError> {
        let action = StoreCall::Abort.on(format!("abort multipart {key}"));
        for round in 0..ABORT_ROUNDS {
            let call = || async {
                let request = self
                    .client()
                    .abort_multipart_upload()
                    .bucket(self.bucket())
                    .key(key)
                    .upload_id(&id.0);
                request
                    .send()
                    .await
                    .map_err(|error| self.classify(&action, error))
            };
            match self.retrying(&action, self.short(), call).await {
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind,
                        StoreErrorKind::NoSuchUpload | StoreErrorKind::NotFound
                    ) => {}
                Err(error) => return Err(error),
            }
            if self.list_parts(key, id).await?.is_none() {
                return Ok(());
            }
            tokio::time::sleep(
                retry::delay(round + 1, rand::random()).max(Duration::from_millis(50)),
            )
            .await;
        }
        Err(StoreError::new(
            StoreErrorKind::Conflict,
            &action,
            "the store still lists the upload: abort it again later",
        ))
    }
}

fn named(part: &PartRef, crc64nvme: Option<String>) -> CompletedPart {
    CompletedPart::builder()
        .part_number(part.number)
        .e_tag(&part.etag)
        .set_checksum_crc64_nvme(crc64nvme)
        .build()
}

/// The parts with the checksums that the store lists of them; None unless it does of all.
fn with_checksums(parts: &[PartRef], listed: &[Part]) -> Option<Vec<CompletedPart>> {
    let listed = |part: &PartRef| {
        listed
            .iter()
            .find(|other| other.number == part.number && other.etag == part.etag)
    };
    parts
        .iter()
        .map(|part| Some(named(part, Some(listed(part)?.crc64nvme.clone()?))))
        .collect()
}

fn part(listed: &aws_sdk_s3::types::Part) -> Option<Part> {
    Some(Part {
        number: listed.part_number()?,
        size: unsigned(listed.size()),
        etag: listed.e_tag().unwrap_or_default().to_owned(),
        last_modified: listed.last_modified().and_then(timestamp),
        crc64nvme: listed.checksum_crc64_nvme().map(str::to_owned),
    })
}
