//! Reading: whole objects, ranges, HEAD, listings. All of it is idempotent and retried.

use std::collections::HashMap;
use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::ChecksumMode;
use bytes::BytesMut;

use crate::clock::timestamp_or_epoch;
use crate::error::{StoreError, StoreErrorKind};
use crate::observe::StoreCall;
use crate::store::Store;
use crate::types::{Entry, Head, Metadata, Object, Page};

/// Largest object `get` holds in memory, in bytes.
const MAX_GET: u64 = 64 << 20;
/// Largest document; those of this project have kilobytes.
pub(crate) const MAX_DOCUMENT: u64 = 1 << 20;
/// Entries on one page.
const PAGE: usize = 1000;

impl Store {
    /// A whole object of at most 64 MiB; None if there is none.
    ///
    /// # Errors
    /// `TooLarge`, or what [`StoreErrorKind`] names.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.get_bounded(key, MAX_GET).await
    }

    /// A document: whoever can write to the bucket cannot make its readers hold more than a megabyte.
    ///
    /// # Errors
    /// As [`Self::get_bounded`].
    pub async fn get_document(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.get_bounded(key, MAX_DOCUMENT).await
    }

    /// A whole object of at most `max` bytes; None if there is none.
    ///
    /// # Errors
    /// `TooLarge` before the excess is read.
    pub async fn get_bounded(&self, key: &str, max: u64) -> Result<Option<Object>, StoreError> {
        self.read(key, None, max).await
    }

    /// Bytes `range` (end exclusive, cut at the object's end); None if there is no object.
    ///
    /// # Errors
    /// `Invalid` if the range is empty or begins at or after the object's end.
    pub async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Option<Object>, StoreError> {
        if range.is_empty() {
            return Err(StoreError::new(
                StoreErrorKind::Invalid,
                format!("get {key}"),
                "the range is empty",
            ));
        }
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        self.read(key, Some(header), range.end - range.start).await
    }

    async fn read(
        &self,
        key: &str,
        range: Option<String>,
        max: u64,
    ) -> Result<Option<Object>, StoreError> {
        let action = StoreCall::Get.on(format!("get {key}"));
        let call = || async {
            let request = self
                .client()
                .get_object()
                .bucket(self.bucket())
                .key(key)
                .set_range(range.clone());
            let answer = request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))?;
            collect(&action, answer, max).await
        };
        absent_is_none(self.retrying(&action, self.long(), call).await)
    }

    /// Size, times, metadata and checksum; None if there is no object.
    ///
    /// A 404 to HEAD has no body that tells a missing key from a missing bucket, so it is confirmed by a GET:
    /// a mistyped or deleted bucket is never taken for "the video is gone".
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names.
    pub async fn head(&self, key: &str) -> Result<Option<Head>, StoreError> {
        let found = self.head_once(key).await?;
        if found.is_some() {
            return Ok(found);
        }
        match self.get_range(key, 0..1).await {
            Ok(None) => Ok(None),
            // It has just appeared, or it is empty and has no first byte.
            Ok(Some(_)) => self.head_once(key).await,
            Err(error) if error.status == Some(416) => self.head_once(key).await,
            Err(error) => Err(error),
        }
    }

    async fn head_once(&self, key: &str) -> Result<Option<Head>, StoreError> {
        let action = StoreCall::Head.on(format!("head {key}"));
        let call = || async {
            let request = self
                .client()
                .head_object()
                .bucket(self.bucket())
                .key(key)
                .checksum_mode(ChecksumMode::Enabled);
            request.send().await.map_err(|error| {
                let mut error = self.classify(&action, error);
                // It has no body that could tell more; whether it is to be believed is up to the GET.
                if error.status == Some(404) {
                    error.kind = StoreErrorKind::NotFound;
                }
                error
            })
        };
        let Some(found) = absent_is_none(self.retrying(&action, self.short(), call).await)? else {
            return Ok(None);
        };
        Ok(Some(Head {
            size: unsigned(found.content_length()),
            etag: found.e_tag().unwrap_or_default().to_owned(),
            last_modified: timestamp_or_epoch(found.last_modified()),
            metadata: sorted(found.metadata()),
            content_type: found.content_type().map(str::to_owned),
            crc64nvme: found.checksum_crc64_nvme().map(str::to_owned),
        }))
    }

    /// One page of keys that begin with `prefix`, in key order, after `start_after` (any key), at most `max` (≤ 1,000).
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names.
    pub async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Page, StoreError> {
        let action = StoreCall::List.on(format!("list {prefix}"));
        let max = i32::try_from(max.clamp(1, PAGE)).unwrap_or(1);
        let call = || async {
            let request = self
                .client()
                .list_objects_v2()
                .bucket(self.bucket())
                .prefix(prefix);
            let request = request
                .set_start_after(start_after.map(str::to_owned))
                .max_keys(max);
            request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))
        };
        let answer = self.retrying(&action, self.short(), call).await?;
        let entry = |object: &aws_sdk_s3::types::Object| {
            Some(Entry {
                key: object.key()?.to_owned(),
                size: unsigned(object.size()),
                last_modified: timestamp_or_epoch(object.last_modified()),
                etag: object.e_tag().unwrap_or_default().to_owned(),
            })
        };
        let entries: Vec<Entry> = answer.contents().iter().filter_map(entry).collect();
        let more = answer.is_truncated() == Some(true);
        let next = entries
            .last()
            .filter(|_| more)
            .map(|entry| entry.key.clone());
        Ok(Page { entries, next })
    }
}

async fn collect(action: &str, answer: GetObjectOutput, max: u64) -> Result<Object, StoreError> {
    let too_large = || {
        let message = format!("the object is larger than the {max} bytes this caller may hold");
        StoreError::new(StoreErrorKind::TooLarge, action, message)
    };
    let size = unsigned(answer.content_length());
    if size > max {
        return Err(too_large());
    }
    let etag = answer.e_tag().unwrap_or_default().to_owned();
    let last_modified = timestamp_or_epoch(answer.last_modified());
    let metadata = sorted(answer.metadata());
    let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
    let mut body = answer.body;
    while let Some(chunk) = body.next().await {
        let broken = |cause| {
            StoreError::new(
                StoreErrorKind::Unavailable,
                action,
                format!("the answer broke off: {cause}"),
            )
        };
        bytes.extend_from_slice(&chunk.map_err(broken)?);
        if bytes.len() as u64 > max {
            return Err(too_large());
        }
    }
    Ok(Object {
        bytes: bytes.freeze(),
        etag,
        last_modified,
        metadata,
    })
}

pub(crate) fn absent_is_none<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn unsigned(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

fn sorted(metadata: Option<&HashMap<String, String>>) -> Metadata {
    metadata
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.to_ascii_lowercase(), v.clone()))
        .collect()
}
