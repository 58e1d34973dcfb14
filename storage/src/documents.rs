//! The JSON documents that outlive a process: outbox, decision, final record, idempotency answer.
//! Each carries `"v": 1`; fields this version does not know survive a rewrite; a higher version is left untouched.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::UploadId;

/// The version this code writes and the highest it rewrites.
pub const VERSION: u32 = 1;

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Written by newer code: nothing may be concluded from it, and it must not be overwritten.
    #[error(
        "{what} has version {found}, this program knows up to {VERSION}: upgrade it before it touches this object"
    )]
    Newer {
        /// Kind of document.
        what: &'static str,
        /// Its version.
        found: u64,
    },
    /// Not JSON, or a field is missing or of another type.
    #[error("{what} cannot be read: {cause}")]
    Unreadable {
        /// Kind of document.
        what: &'static str,
        /// What serde says.
        #[source]
        cause: serde_json::Error,
    },
}

/// A kind of document.
pub trait Document: Serialize + DeserializeOwned {
    /// Name for messages.
    const WHAT: &'static str;
}

/// Reads a document, version first: a newer one may lack the fields of ours.
///
/// # Errors
/// `Newer` if its version is higher than [`VERSION`], `Unreadable` if it is not such a document.
pub fn decode<T: Document>(bytes: &[u8]) -> Result<T, DocumentError> {
    let unreadable = |cause| DocumentError::Unreadable {
        what: T::WHAT,
        cause,
    };
    let value: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    match value.get("v").and_then(Value::as_u64) {
        Some(found) if found > u64::from(VERSION) => Err(DocumentError::Newer {
            what: T::WHAT,
            found,
        }),
        _ => serde_json::from_value(value).map_err(unreadable),
    }
}

/// Writes a document as JSON.
///
/// # Errors
/// `Unreadable` if a value cannot be expressed in JSON.
pub fn encode<T: Document>(document: &T) -> Result<Vec<u8>, DocumentError> {
    serde_json::to_vec(document).map_err(|cause| DocumentError::Unreadable {
        what: T::WHAT,
        cause,
    })
}

/// Who a video belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Issuer: `apikey`, or that of a token.
    pub iss: String,
    /// Subject: key id, or that of a token.
    pub sub: String,
}

impl Owner {
    /// The hash that keys carry.
    #[must_use]
    pub fn hash(&self) -> String {
        crate::keys::owner_hash(&self.iss, &self.sub)
    }
}

/// What is known of the bytes' checksums. All absent when nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checksums {
    /// CRC64NVME of the file, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc64nvme: Option<String>,
    /// SHA-256 of the file, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// `parts-only` if each part was verified but the whole was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc: Option<String>,
}

/// Moments of a video's life; absent until they happen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// The upload or the declared job was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// All bytes were there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<Timestamp>,
    /// Accepted or rejected by the uploader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<Timestamp>,
    /// Claim of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// The end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
}

/// `pending/<hh>/<id>`: all that is needed to finish an upload and to create its VideoJob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Version.
    pub v: u32,
    /// Upload id.
    pub id: UploadId,
    /// Owner.
    pub owner: Owner,
    /// Tenant.
    pub tenant: String,
    /// Profile name.
    pub profile: String,
    /// Bytes of the video.
    pub length: u64,
    /// Part grid, bytes.
    pub part_size: u64,
    /// Final key.
    pub key: String,
    /// The store's multipart upload on the final key; absent when length ≤ part size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multipart: Option<String>,
    /// CRC64NVME of the whole file, base64; absent if a crash lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc: Option<String>,
    /// Content type the client named: data, never trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Key of the owner's index entry.
    pub index_key: String,
    /// The whole VideoJob to POST: namespace, labels, annotations, spec.
    pub job: Value,
    /// Moments so far.
    #[serde(default)]
    pub times: Times,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The uploader's verdict on a finished upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// A VideoJob follows.
    Accepted,
    /// A final record follows.
    Rejected,
}

/// `active/<hh>/<id>`: decided and not final; the control plane can be rebuilt from these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Active {
    /// Version.
    pub v: u32,
    /// Upload id.
    pub id: UploadId,
    /// The verdict.
    pub decision: Decision,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Redrives of the job this entry stands for.
    #[serde(default)]
    pub redrives: i64,
    /// Owner.
    pub owner: Owner,
    /// Tenant.
    pub tenant: String,
    /// Profile name.
    pub profile: String,
    /// Key of the video.
    pub key: String,
    /// Bytes of the video.
    pub size: u64,
    /// Checksums of the video.
    #[serde(default)]
    pub checksum: Checksums,
    /// Length of the video in seconds, where the container was walked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// Key of the owner's index entry.
    pub index_key: String,
    /// The whole VideoJob to POST.
    pub job: Value,
    /// Moments so far.
    #[serde(default)]
    pub times: Times,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How a video ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordState {
    /// Outputs are there.
    Succeeded,
    /// Out of budget, or its bytes were lost.
    Failed,
    /// No video, by the uploader's or the service's verdict.
    Rejected,
    /// By its owner.
    Cancelled,
}

/// The VideoJob a record ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

/// One output of a succeeded job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Name, as the pool lists it.
    pub name: String,
    /// Key in the bucket, or the service's own URI.
    pub uri: String,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// As the service or the store says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// `records/<day>/<hh>/<id>`: final; what the status API reads for five years.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Version.
    pub v: u32,
    /// Upload id, or the uid of a declared job.
    pub id: String,
    /// Owner; absent for declared jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Tenant.
    pub tenant: String,
    /// How it ended.
    pub state: RecordState,
    /// Out of budget or rejected, and can be redriven.
    #[serde(default)]
    pub dead_lettered: bool,
    /// The VideoJob; absent if there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRef>,
    /// Reason of the Succeeded condition, or the uploader's.
    pub reason: String,
    /// What a person can read about the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Key of the video.
    pub key: String,
    /// Bytes of the video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Checksums of the video.
    #[serde(default)]
    pub checksum: Checksums,
    /// Length of the video in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// `status.attempt` at the end.
    #[serde(default)]
    pub attempts: i64,
    /// `status.redrives` at the end.
    #[serde(default)]
    pub redrives: i64,
    /// Outputs of the accepted attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// The service's JSON, ≤ 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Key of the owner's index entry, so that the cleaner finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_key: Option<String>,
    /// Moments.
    #[serde(default)]
    pub times: Times,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Field of a record that makes it a tombstone: when the video was erased.
pub const ERASED: &str = "erased";
/// Reason of a record that says `failed` because the video's confirmed bytes were gone.
pub const STORE_LOST: &str = "StoreLost";

impl Record {
    /// Whether the video was erased on demand.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.extra.contains_key(ERASED)
    }

    /// A record is replaced only by a later one: (redrives, attempts) never falls.
    #[must_use]
    pub fn may_follow(&self, stored: &Self) -> bool {
        (self.redrives, self.attempts) >= (stored.redrives, stored.attempts)
    }

    /// Whether this record ends a job or an `active/` entry with so many redrives.
    #[must_use]
    pub fn ends(&self, redrives: i64) -> bool {
        self.redrives >= redrives
    }
}

/// `idem/<hh>/<hash>`: the first answer to an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Idempotency {
    /// Version.
    pub v: u32,
    /// The id the first create got.
    pub id: UploadId,
    /// Hash of the create request; another one under the same key is refused.
    pub request_hash: String,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Document for Pending {
    const WHAT: &'static str = "outbox entry";
}

impl Document for Active {
    const WHAT: &'static str = "decision";
}

impl Document for Record {
    const WHAT: &'static str = "final record";
}

impl Document for Idempotency {
    const WHAT: &'static str = "idempotency answer";
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
