//! Buckets, objects and multipart uploads: what is there, and what a write makes of it. No protocol, no time of its
//! own, no waiting; whoever holds the lock sees and changes all of it at once.

use std::collections::{BTreeMap, HashMap};

use bytes::{Bytes, BytesMut};
use crc_fast::CrcAlgorithm::Crc64Nvme;
use jiff::Timestamp;

use crate::behaviour::Behaviour;
use crate::bucket::{Bucket, Upload};
use crate::versions::Versions;

/// CRC64NVME as S3 means it.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Nvme, bytes)
}

/// An ETag by content: equal bytes have equal ones, as everywhere.
pub(crate) fn etag_of(crc: u64, length: u64) -> String {
    format!("{crc:016x}{length:016x}")
}

/// What is said of an object beside its bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) content_type: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// In pieces, as they came.
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) crc: u64,
    pub(crate) modified: Timestamp,
    pub(crate) about: About,
}

impl Object {
    /// Bytes `[from, to)` in pieces.
    pub(crate) fn range(&self, from: u64, to: u64) -> Vec<Bytes> {
        let (mut at, mut out) = (0u64, Vec::new());
        for piece in &self.pieces {
            let end = at + piece.len() as u64;
            let (cut, stop) = (from.max(at), to.min(end));
            if cut < stop {
                out.push(piece.slice(index(cut - at)..index(stop - at)));
            }
            at = end;
        }
        out
    }
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) number: i32,
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
    pub(crate) crc: u64,
    pub(crate) modified: Timestamp,
}

/// A condition of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    IfAbsent,
    IfMatch(String),
}

/// Why something was not done, in S3's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    InvalidPart,
    InvalidPartOrder,
    EntityTooSmall,
    BadDigest,
    AccessDenied,
    NotImplemented,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    behaviour: Behaviour,
    buckets: BTreeMap<String, Bucket>,
    minted: u64,
}

impl State {
    pub(crate) fn wants_part_checksums(&self) -> bool {
        self.behaviour.complete_wants_checksums
    }

    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            buckets: BTreeMap::new(),
            minted: 0,
        }
    }

    pub(crate) fn create_bucket(&mut self, name: &str) {
        let bucket = self.buckets.entry(name.to_owned()).or_default();
        if self.behaviour.keeps_versions && bucket.versions.is_none() {
            bucket.versions = Some(Versions::default());
        }
    }

    pub(crate) fn bucket(&self, name: &str) -> Result<&Bucket, Refusal> {
        self.buckets.get(name).ok_or(Refusal::NoSuchBucket)
    }

    pub(crate) fn bucket_mut(&mut self, name: &str) -> Result<&mut Bucket, Refusal> {
        self.buckets.get_mut(name).ok_or(Refusal::NoSuchBucket)
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> Result<&Object, Refusal> {
        self.bucket(bucket)?
            .objects
            .get(key)
            .ok_or(Refusal::NoSuchKey)
    }

    /// Whether a write under this condition may go on.
    pub(crate) fn check(
        &self,
        bucket: &str,
        key: &str,
        condition: &Condition,
    ) -> Result<(), Refusal> {
        match (condition, self.bucket(bucket)?.objects.get(key)) {
            (Condition::None, _) | (Condition::IfAbsent, None) => Ok(()),
            (Condition::IfMatch(etag), Some(stored)) if stored.etag == *etag => Ok(()),
            (Condition::IfMatch(_), None) if self.behaviour.missing_if_match == 404 => {
                Err(Refusal::NoSuchKey)
            }
            (Condition::IfAbsent | Condition::IfMatch(_), _) => Err(Refusal::PreconditionFailed),
        }
    }

    pub(crate) fn put(
        &mut self,
        (bucket, key): (&str, &str),
        bytes: Bytes,
        crc: u64,
        about: About,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let size = bytes.len() as u64;
        let object = Object {
            etag: etag_of(crc, size),
            pieces: vec![bytes],
            size,
            crc,
            modified: now,
            about,
        };
        let etag = object.etag.clone();
        self.bucket_mut(bucket)?.store(key, object);
        Ok(etag)
    }

    /// Removes an object, or a version of it; the id of the marker that this made.
    pub(crate) fn delete(
        &mut self,
        (bucket, key): (&str, &str),
        version: Option<&str>,
    ) -> Result<Option<String>, Refusal> {
        let bucket = self.bucket_mut(bucket)?;
        match version {
            Some(id) => bucket.remove_version(key, id).map(|()| None),
            None => Ok(bucket.remove(key)),
        }
    }

    /// Objects after `after` that begin with `prefix`, at most `max`, and whether there are more.
    pub(crate) fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> Result<(Vec<(String, Object)>, bool), Refusal> {
        let from = after.max(prefix).to_owned();
        let mut found = self
            .bucket(bucket)?
            .objects
            .range(from..)
            .filter(|(key, _)| key.as_str() > after)
            .take_while(|(key, _)| key.starts_with(prefix));
        let page: Vec<_> = found
            .by_ref()
            .take(max)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        Ok((page, found.next().is_some()))
    }

    pub(crate) fn begin_upload(
        &mut self,
        bucket: &str,
        key: &str,
        about: About,
    ) -> Result<String, Refusal> {
        self.minted += 1;
        let id = format!("upload-{:06}", self.minted);
        let upload = Upload {
            key: key.to_owned(),
            about,
            parts: Vec::new(),
        };
        self.bucket_mut(bucket)?.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    fn upload_mut(&mut self, bucket: &str, key: &str, id: &str) -> Result<&mut Upload, Refusal> {
        self.bucket_mut(bucket)?
            .uploads
            .get_mut(id)
            .filter(|upload| upload.key == key)
            .ok_or(Refusal::NoSuchUpload)
    }

    pub(crate) fn put_part(
        &mut self,
        (bucket, key, id): (&str, &str, &str),
        part: Part,
    ) -> Result<(), Refusal> {
        let keep = self.behaviour.lists_overwritten_parts;
        let upload = self.upload_mut(bucket, key, id)?;
        if !keep {
            upload.parts.retain(|there| there.number != part.number);
        }
        upload.parts.push(part);
        Ok(())
    }

    /// Parts by number, those of one number in order of arrival.
    pub(crate) fn parts(
        &mut self,
        (bucket, key, id): (&str, &str, &str),
    ) -> Result<Vec<Part>, Refusal> {
        let mut parts = self.upload_mut(bucket, key, id)?.parts.clone();
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    /// Makes the object of the named parts; its ETag and checksum.
    pub(crate) fn complete(
        &mut self,
        (bucket, key, id): (&str, &str, &str),
        named: &[(i32, String)],
        crc: Option<u64>,
        now: Timestamp,
    ) -> Result<(String, u64), Refusal> {
        let (again, least) = (self.behaviour.complete_again, self.behaviour.least_part);
        let there = self.bucket_mut(bucket)?;
        if again
            && there.completed.get(id).is_some_and(|done| done == key)
            && let Some(object) = there.objects.get(key)
        {
            return Ok((object.etag.clone(), object.crc));
        }
        let upload = there
            .uploads
            .get(id)
            .filter(|upload| upload.key == key)
            .ok_or(Refusal::NoSuchUpload)?;
        let chosen = choose(&upload.parts, named, least)?;
        let whole = chosen.iter().fold((0, 0), |(crc, size), part| {
            let length = part.bytes.len() as u64;
            let crc = crc_fast::checksum_combine(Crc64Nvme, crc, part.crc, length);
            (crc, size + length)
        });
        if crc.is_some_and(|crc| crc != whole.0) {
            return Err(Refusal::BadDigest);
        }
        let object = Object {
            pieces: chosen.iter().map(|part| part.bytes.clone()).collect(),
            size: whole.1,
            etag: format!("{}-{}", etag_of(whole.0, whole.1), chosen.len()),
            crc: whole.0,
            modified: now,
            about: upload.about.clone(),
        };
        let answer = (object.etag.clone(), object.crc);
        there.store(key, object);
        there.uploads.remove(id);
        there.completed.insert(id.to_owned(), key.to_owned());
        Ok(answer)
    }

    /// Drops an upload; with `survives` a part in flight keeps it alive once more.
    pub(crate) fn abort(
        &mut self,
        (bucket, key, id): (&str, &str, &str),
        survives: bool,
    ) -> Result<(), Refusal> {
        let destroys = self.behaviour.abort_destroys_completed;
        let there = self.bucket_mut(bucket)?;
        if destroys && there.completed.get(id).is_some_and(|done| done == key) {
            there.remove(key);
            return Ok(());
        }
        let upload = there.uploads.get_mut(id).filter(|upload| upload.key == key);
        let upload = upload.ok_or(Refusal::NoSuchUpload)?;
        if survives {
            let last = upload.parts.pop();
            upload.parts = last.into_iter().collect();
        } else {
            there.uploads.remove(id);
        }
        Ok(())
    }

    /// Aborts all uploads of a key behind everybody's back.
    pub(crate) fn abort_all(&mut self, bucket: &str, key: &str) {
        if let Ok(there) = self.bucket_mut(bucket) {
            there.uploads.retain(|_, upload| upload.key != key);
        }
    }

    pub(crate) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let keys = |bucket: &Bucket| {
            let all = bucket.objects.keys();
            all.filter(|key| key.starts_with(prefix)).cloned().collect()
        };
        self.bucket(bucket).map(keys).unwrap_or_default()
    }

    pub(crate) fn whole(&self, bucket: &str, key: &str) -> Option<Bytes> {
        let object = self.object(bucket, key).ok()?;
        let mut bytes = BytesMut::new();
        for piece in &object.pieces {
            bytes.extend_from_slice(piece);
        }
        Some(bytes.freeze())
    }

    pub(crate) fn open_uploads(&self, bucket: &str) -> Vec<(String, String)> {
        let open = |bucket: &Bucket| {
            let all = bucket.uploads.iter();
            all.map(|(id, upload)| (upload.key.clone(), id.clone()))
                .collect()
        };
        self.bucket(bucket).map(open).unwrap_or_default()
    }
}

/// The parts that a Complete names, each by number and ETag.
fn choose<'a>(
    parts: &'a [Part],
    named: &[(i32, String)],
    least: usize,
) -> Result<Vec<&'a Part>, Refusal> {
    if named.is_empty() {
        return Err(Refusal::InvalidPart);
    }
    if !named.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(Refusal::InvalidPartOrder);
    }
    let find = |(number, etag): &(i32, String)| {
        let mut of_it = parts.iter().rev();
        of_it
            .find(|part| part.number == *number && part.etag == *etag)
            .ok_or(Refusal::InvalidPart)
    };
    let chosen = named.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let (_, all_but_last) = chosen.split_last().ok_or(Refusal::InvalidPart)?;
    if all_but_last.iter().any(|part| part.bytes.len() < least) {
        return Err(Refusal::EntityTooSmall);
    }
    Ok(chosen)
}
