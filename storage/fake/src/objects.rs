//! Objects: the protocol's inputs and outputs around the state.

use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures::stream;
use s3s::dto::{
    ChecksumMode, ChecksumType, DeleteMarkerEntry, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, Error,
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectVersionsInput,
    ListObjectVersionsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectVersion,
    PutObjectInput, PutObjectOutput, Range, StreamingBlob, Timestamp,
};
use s3s::{S3Result, s3_error};

use crate::service::{Shared, gather};
use crate::state::{About, Condition, Refusal, crc64};

/// How long a store without atomic conditions takes between its look and its write.
const NOT_ATOMIC: Duration = Duration::from_millis(5);
const MAX_KEYS: usize = 1000;

pub(crate) fn base64(crc: u64) -> String {
    BASE64_STANDARD.encode(crc.to_be_bytes())
}

pub(crate) fn from_base64(text: &str) -> S3Result<u64> {
    let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
    let bytes: [u8; 8] = bytes
        .try_into()
        .map_err(|_| s3_error!(InvalidRequest, "no CRC64NVME"))?;
    Ok(u64::from_be_bytes(bytes))
}

pub(crate) fn time(at: jiff::Timestamp) -> Timestamp {
    SystemTime::from(at).into()
}

pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

pub(crate) fn full_object() -> ChecksumType {
    ChecksumType::from_static(ChecksumType::FULL_OBJECT)
}

/// Checks the bytes against the checksum that came with them; their CRC64NVME.
pub(crate) fn verified(bytes: &[u8], said: Option<&str>) -> S3Result<u64> {
    let crc = crc64(bytes);
    match said.map(from_base64).transpose()? {
        Some(said) if said != crc => Err(s3_error!(BadDigest)),
        _ => Ok(crc),
    }
}

fn condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::None),
        (None, Some(ETagCondition::Any)) => Ok(Condition::IfAbsent),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::IfMatch(etag.into_value())),
        _ => Err(s3_error!(NotImplemented, "this condition")),
    }
}

impl Shared {
    pub(crate) async fn put_object(&self, input: PutObjectInput) -> S3Result<PutObjectOutput> {
        let others = [
            &input.checksum_crc32,
            &input.checksum_crc32c,
            &input.checksum_sha1,
            &input.checksum_sha256,
        ];
        if others.iter().any(|checksum| checksum.is_some()) {
            return Err(s3_error!(NotImplemented, "only CRC64NVME is verified here"));
        }
        let bytes = gather(input.body).await?;
        let crc = verified(&bytes, input.checksum_crc64nvme.as_deref())?;
        let condition = condition(input.if_match, input.if_none_match.as_ref())?;
        let about = About {
            metadata: input.metadata.unwrap_or_default(),
            content_type: input.content_type,
        };
        let (bucket, key) = (input.bucket.as_str(), input.key.as_str());
        let _turn = self.turn(key, &condition).await;
        if !self.behaviour.atomic {
            self.state().check(bucket, key, &condition)?;
            tokio::time::sleep(NOT_ATOMIC).await;
        }
        let now = self.clock.second();
        let mut state = self.state();
        if self.behaviour.atomic {
            state.check(bucket, key, &condition)?;
        }
        let etag = state.put((bucket, key), bytes, crc, about, now)?;
        Ok(PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            checksum_crc64nvme: Some(base64(crc)),
            checksum_type: Some(full_object()),
            ..PutObjectOutput::default()
        })
    }

    pub(crate) fn get_object(&self, input: &GetObjectInput) -> S3Result<GetObjectOutput> {
        let state = self.state();
        let object = state.object(&input.bucket, &input.key)?;
        let range = match &input.range {
            Some(range) => Some(cut(range, object.size)?),
            None => None,
        };
        let (from, to) = range.unwrap_or((0, object.size));
        let pieces = object.range(from, to).into_iter();
        let body = stream::iter(pieces.map(Ok::<Bytes, std::io::Error>));
        Ok(GetObjectOutput {
            body: Some(StreamingBlob::wrap(body)),
            content_length: Some(signed(to - from)),
            content_range: range
                .map(|(from, to)| format!("bytes {from}-{}/{}", to - 1, object.size)),
            content_type: object.about.content_type.clone(),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(time(object.modified)),
            metadata: Some(object.about.metadata.clone()),
            ..GetObjectOutput::default()
        })
    }

    pub(crate) fn head_object(&self, input: &HeadObjectInput) -> S3Result<HeadObjectOutput> {
        let state = self.state();
        // HEAD has no body that could tell which of them is missing.
        let object = state
            .object(&input.bucket, &input.key)
            .map_err(|_| s3_error!(NoSuchKey))?;
        let enabled = ChecksumMode::from_static(ChecksumMode::ENABLED);
        let checksum = (input.checksum_mode.as_ref() == Some(&enabled)).then(|| base64(object.crc));
        Ok(HeadObjectOutput {
            checksum_type: checksum.as_ref().map(|_| full_object()),
            checksum_crc64nvme: checksum,
            content_length: Some(signed(object.size)),
            content_type: object.about.content_type.clone(),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(time(object.modified)),
            metadata: Some(object.about.metadata.clone()),
            ..HeadObjectOutput::default()
        })
    }

    pub(crate) fn delete_object(&self, input: &DeleteObjectInput) -> S3Result<DeleteObjectOutput> {
        let of = (input.bucket.as_str(), input.key.as_str());
        let marker = self.state().delete(of, input.version_id.as_deref())?;
        Ok(DeleteObjectOutput {
            delete_marker: marker.as_ref().map(|_| true),
            version_id: marker,
            ..DeleteObjectOutput::default()
        })
    }

    pub(crate) fn delete_objects(
        &self,
        input: &DeleteObjectsInput,
    ) -> S3Result<DeleteObjectsOutput> {
        if input.delete.objects.len() > MAX_KEYS {
            return Err(s3_error!(MalformedXML));
        }
        let mut state = self.state();
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in &input.delete.objects {
            let of = (input.bucket.as_str(), object.key.as_str());
            let key = Some(object.key.clone());
            let version_id = object.version_id.clone();
            match state.delete(of, version_id.as_deref()) {
                Ok(_) => deleted.push(DeletedObject {
                    key,
                    version_id,
                    ..DeletedObject::default()
                }),
                // Of one, while the others go.
                Err(Refusal::AccessDenied) => errors.push(Error {
                    code: Some("AccessDenied".to_owned()),
                    key,
                    version_id,
                    ..Error::default()
                }),
                Err(refusal) => return Err(refusal.into()),
            }
        }
        let quiet = input.delete.quiet == Some(true);
        Ok(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        })
    }

    pub(crate) fn list_versions(
        &self,
        input: &ListObjectVersionsInput,
    ) -> S3Result<ListObjectVersionsOutput> {
        let state = self.state();
        let versions = state.bucket(&input.bucket)?.versions.as_ref();
        let versions = versions.ok_or(Refusal::NotImplemented)?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let after = (&input.key_marker, &input.version_id_marker);
        let after = after.0.as_deref().zip(after.1.as_deref());
        let mut page = versions.list(prefix, after);
        let more = page.len() > self.behaviour.versions_page;
        page.truncate(self.behaviour.versions_page);
        let last = page.last().filter(|_| more);
        let (next_key_marker, next_version_id_marker) = last
            .map(|(key, version, _)| (key.clone(), version.id()))
            .unzip();
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        for (key, version, latest) in page {
            match &version.object {
                Some(object) => versions.push(ObjectVersion {
                    key: Some(key),
                    version_id: Some(version.id()),
                    is_latest: Some(latest),
                    last_modified: Some(time(object.modified)),
                    size: Some(signed(object.size)),
                    ..ObjectVersion::default()
                }),
                None => markers.push(DeleteMarkerEntry {
                    key: Some(key),
                    version_id: Some(version.id()),
                    is_latest: Some(latest),
                    ..DeleteMarkerEntry::default()
                }),
            }
        }
        Ok(ListObjectVersionsOutput {
            versions: Some(versions),
            delete_markers: Some(markers),
            is_truncated: Some(more),
            next_key_marker,
            next_version_id_marker,
            ..ListObjectVersionsOutput::default()
        })
    }

    pub(crate) fn list_objects(&self, input: &ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
        if input.delimiter.is_some() {
            return Err(s3_error!(NotImplemented, "delimiter"));
        }
        let asked = input.max_keys.unwrap_or(1000);
        let max = usize::try_from(asked).unwrap_or(0).min(MAX_KEYS);
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let after = [&input.continuation_token, &input.start_after];
        let after = after.into_iter().flatten().max();
        let after = after.map(String::as_str).unwrap_or_default();
        let (page, more) = self.state().list(&input.bucket, prefix, after, max)?;
        let last = page.last().map(|(key, _)| key.clone());
        let contents: Vec<Object> = page
            .into_iter()
            .map(|(key, object)| Object {
                key: Some(key),
                size: Some(signed(object.size)),
                e_tag: Some(ETag::Strong(object.etag)),
                last_modified: Some(time(object.modified)),
                ..Object::default()
            })
            .collect();
        Ok(ListObjectsV2Output {
            name: Some(input.bucket.clone()),
            prefix: input.prefix.clone(),
            max_keys: Some(asked),
            key_count: i32::try_from(contents.len()).ok(),
            contents: Some(contents),
            is_truncated: Some(more),
            next_continuation_token: last.filter(|_| more),
            start_after: input.start_after.clone(),
            ..ListObjectsV2Output::default()
        })
    }
}

/// The bytes that a range names, end exclusive.
fn cut(range: &Range, size: u64) -> S3Result<(u64, u64)> {
    let found = range.check(size).map_err(|_| s3_error!(InvalidRange))?;
    Ok((found.start, found.end))
}
