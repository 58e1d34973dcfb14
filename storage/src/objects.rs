//! Objects: read, conditional write, compare-and-swap, list, delete.

use std::collections::HashMap;
use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, Delete, ObjectIdentifier};
use bytes::{Bytes, BytesMut};

use crate::checksum::crc64_base64;
use crate::clock::timestamp_or_epoch;
use crate::error::{StoreError, StoreErrorKind};
use crate::store::Store;
use crate::types::{
    CasOutcome, Condition, Entry, Head, Metadata, Object, Page, PutOptions, PutOutcome,
};

/// Largest object `get` holds in memory, in bytes.
const MAX_GET: u64 = 64 << 20;
/// Above this many bytes a payload is not hashed for its signature: the signed CRC header protects it.
const SIGN_PAYLOAD_BELOW: usize = 64 << 10;
/// Keys in one call of DeleteObjects, and entries on one page.
const BATCH: usize = 1000;

impl Store {
    /// A whole object of at most 64 MiB; None if there is none.
    ///
    /// # Errors
    /// `TooLarge`, or what [`StoreErrorKind`] names.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.get_bounded(key, MAX_GET).await
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
        let action = format!("get {key}");
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
        let action = format!("head {key}");
        let call = || async {
            let request = self
                .client()
                .head_object()
                .bucket(self.bucket())
                .key(key)
                .checksum_mode(ChecksumMode::Enabled);
            request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))
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

    /// Writes an object under a condition; the store verifies the bytes against their CRC64NVME.
    ///
    /// Without a condition the call is repeated after unclear answers, with one it never is: after `Lost` and after an
    /// error with [`StoreError::is_unknown_outcome`] read the object and compare, or use [`Store::cas`].
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names.
    pub async fn put(
        &self,
        key: &str,
        body: Bytes,
        options: PutOptions,
    ) -> Result<PutOutcome, StoreError> {
        let PutOptions {
            condition,
            content_type,
            metadata,
            checksum,
        } = options;
        let action = format!("put {key}");
        let checksum = checksum.unwrap_or_else(|| crc64_base64(&body));
        let unhashed = self.is_tls() || body.len() > SIGN_PAYLOAD_BELOW;
        let call = || async {
            let mut request = self.client().put_object().bucket(self.bucket()).key(key);
            request = request
                .body(ByteStream::from(body.clone()))
                .checksum_crc64_nvme(&checksum);
            request = request
                .set_content_type(content_type.clone())
                .set_metadata(hashed(&metadata));
            request = match &condition {
                Condition::None => request,
                Condition::IfAbsent => request.if_none_match("*"),
                Condition::IfMatch(etag) => request.if_match(etag),
            };
            let mut request = request.customize();
            if unhashed {
                request = request.disable_payload_signing();
            }
            request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))
        };
        let answer = if condition == Condition::None {
            self.retrying(&action, self.long(), call).await
        } else {
            self.once(&action, self.long(), call()).await
        };
        match answer {
            Ok(done) => Ok(PutOutcome::Written {
                etag: done.e_tag().unwrap_or_default().to_owned(),
            }),
            Err(error) if is_lost(&condition, error.kind) => Ok(PutOutcome::Lost),
            Err(error) => Err(error),
        }
    }

    /// Compare-and-swap that settles unclear answers: after 412, 409, a timeout or a 5xx the object is read, and our
    /// own bytes there count as won. So the body must be unique to this write (a nonce), or be such that whoever wrote
    /// the same bytes did the same (a decision).
    ///
    /// # Errors
    /// With [`StoreError::is_unknown_outcome`] if reading back did not settle it: the write may still land. Read the
    /// object again before deciding anything; swapping again against the same ETag is safe.
    pub async fn cas(
        &self,
        key: &str,
        body: Bytes,
        options: PutOptions,
    ) -> Result<CasOutcome, StoreError> {
        let condition = options.condition.clone();
        let unclear = match self.put(key, body.clone(), options).await {
            Ok(PutOutcome::Written { etag }) => return Ok(CasOutcome::Won { etag }),
            Ok(PutOutcome::Lost) => None,
            Err(error) if error.is_unknown_outcome() => Some(error),
            Err(error) => return Err(error),
        };
        let stored = self
            .get_bounded(key, MAX_GET.max(body.len() as u64))
            .await?;
        settle(stored, &body, &condition, unclear)
    }

    /// Removes an object; one that is not there is success.
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let action = format!("delete {key}");
        let call = || async {
            let request = self.client().delete_object().bucket(self.bucket()).key(key);
            request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))
        };
        absent_is_none(self.retrying(&action, self.short(), call).await).map(|_| ())
    }

    /// Removes many objects, 1,000 a call; those that are not there are success.
    ///
    /// # Errors
    /// The first failure; keys of earlier calls are gone then, and repeating all is safe.
    pub async fn delete_many(&self, keys: &[String]) -> Result<(), StoreError> {
        for batch in keys.chunks(BATCH) {
            let action = format!("delete {} objects from {}", batch.len(), batch[0]);
            let invalid = |cause: String| StoreError::new(StoreErrorKind::Invalid, &action, cause);
            let named = batch
                .iter()
                .map(|key| ObjectIdentifier::builder().key(key).build());
            let named = named
                .collect::<Result<Vec<_>, _>>()
                .map_err(|cause| invalid(cause.to_string()))?;
            let list = Delete::builder()
                .set_objects(Some(named))
                .quiet(true)
                .build();
            let list = list.map_err(|cause| invalid(cause.to_string()))?;
            let call = || async {
                let request = self
                    .client()
                    .delete_objects()
                    .bucket(self.bucket())
                    .delete(list.clone());
                request
                    .send()
                    .await
                    .map_err(|error| self.classify(&action, error))
            };
            let answer = self.retrying(&action, self.long(), call).await?;
            let failed = answer
                .errors()
                .iter()
                .find(|error| error.code() != Some("NoSuchKey"));
            if let Some(error) = failed {
                let (key, code) = (error.key().unwrap_or("?"), error.code().unwrap_or("?"));
                let message = format!(
                    "{} of them failed, {key} with {code}",
                    answer.errors().len()
                );
                return Err(StoreError::new(
                    StoreErrorKind::Unavailable,
                    &action,
                    message,
                ));
            }
        }
        Ok(())
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
        let action = format!("list {prefix}");
        let max = i32::try_from(max.clamp(1, BATCH)).unwrap_or(1);
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

/// Decides a compare-and-swap from what the store holds now; `unclear` is the error of a write without an answer.
fn settle(
    stored: Option<Object>,
    ours: &Bytes,
    condition: &Condition,
    unclear: Option<StoreError>,
) -> Result<CasOutcome, StoreError> {
    match (stored, unclear) {
        (Some(stored), _) if stored.bytes == *ours => Ok(CasOutcome::Won { etag: stored.etag }),
        // The write has not landed, but it may yet: nothing was lost.
        (Some(stored), Some(error)) if *condition == Condition::IfMatch(stored.etag.clone()) => {
            Err(error)
        }
        (None, Some(error)) if *condition == Condition::IfAbsent => Err(error),
        (Some(stored), _) => Ok(CasOutcome::Lost(stored)),
        (None, _) => Ok(CasOutcome::Gone),
    }
}

/// Whether an answer means that the condition did not hold.
fn is_lost(condition: &Condition, kind: StoreErrorKind) -> bool {
    match condition {
        Condition::None => false,
        Condition::IfAbsent => kind == StoreErrorKind::Conflict,
        // AWS answers 404 where the object is gone, others 412.
        Condition::IfMatch(_) => {
            matches!(kind, StoreErrorKind::Conflict | StoreErrorKind::NotFound)
        }
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

fn absent_is_none<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn unsigned(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

/// The SDK wants a hash map, and nothing rather than an empty one.
pub(crate) fn hashed(metadata: &Metadata) -> Option<HashMap<String, String>> {
    (!metadata.is_empty()).then(|| {
        metadata
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    })
}

fn sorted(metadata: Option<&HashMap<String, String>>) -> Metadata {
    metadata
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.to_ascii_lowercase(), v.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bytes: &'static str, etag: &str) -> Option<Object> {
        let last_modified = jiff::Timestamp::UNIX_EPOCH;
        Some(Object {
            bytes: Bytes::from(bytes),
            etag: etag.into(),
            last_modified,
            metadata: Metadata::new(),
        })
    }

    #[test]
    fn an_unclear_swap_is_settled_by_what_is_stored() {
        let swap = Condition::IfMatch("old".into());
        let unclear = || Some(StoreError::new(StoreErrorKind::Timeout, "put", ""));
        let table = [
            (
                "refused, but an earlier attempt of ours is there",
                object("ours", "new"),
                &swap,
                None,
                "won",
            ),
            (
                "timed out and landed",
                object("ours", "new"),
                &swap,
                unclear(),
                "won",
            ),
            (
                "timed out and has not landed yet",
                object("former", "old"),
                &swap,
                unclear(),
                "unknown",
            ),
            (
                "timed out and somebody else was first",
                object("theirs", "other"),
                &swap,
                unclear(),
                "lost",
            ),
            (
                "refused by another's write",
                object("theirs", "other"),
                &swap,
                None,
                "lost",
            ),
            ("refused because it is gone", None, &swap, None, "gone"),
            ("timed out, and it is gone", None, &swap, unclear(), "gone"),
            (
                "a create timed out and has not landed yet",
                None,
                &Condition::IfAbsent,
                unclear(),
                "unknown",
            ),
            (
                "a create refused by another's",
                object("theirs", "x"),
                &Condition::IfAbsent,
                None,
                "lost",
            ),
            (
                "a create refused by one deleted since",
                None,
                &Condition::IfAbsent,
                None,
                "gone",
            ),
        ];
        for (name, stored, condition, error, want) in table {
            let got = match settle(stored, &Bytes::from("ours"), condition, error) {
                Ok(CasOutcome::Won { etag }) => {
                    if etag == "new" {
                        "won"
                    } else {
                        "another etag"
                    }
                }
                Ok(CasOutcome::Lost(_)) => "lost",
                Ok(CasOutcome::Gone) => "gone",
                Err(error) if error.is_unknown_outcome() => "unknown",
                Err(_) => "error",
            };
            assert_eq!(got, want, "{name}");
        }
    }
}
