//! What goes into the store's calls and what comes back.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

/// User metadata of an object; keys are lower case.
pub type Metadata = BTreeMap<String, String>;

/// When a write may happen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// Always: idempotent writes of the same bytes only.
    #[default]
    None,
    /// Only if the key is free (`If-None-Match: *`).
    IfAbsent,
    /// Only if the object still has this ETag (`If-Match`).
    IfMatch(String),
}

/// Everything about a write but key and bytes.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// When the write may happen.
    pub condition: Condition,
    /// Content type, as data.
    pub content_type: Option<String>,
    /// User metadata.
    pub metadata: Metadata,
    /// CRC64NVME of the bytes, base64 of 8 big-endian bytes; computed when absent. The store verifies it either way.
    pub checksum: Option<String>,
}

impl PutOptions {
    /// A JSON document written under a condition.
    #[must_use]
    pub fn json(condition: Condition) -> Self {
        Self {
            condition,
            content_type: Some("application/json".into()),
            ..Self::default()
        }
    }
}

/// A write that got a clear answer. Timeouts and 5xx are errors with [`is_unknown_outcome`](crate::StoreError::is_unknown_outcome).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// Stored by this call.
    Written {
        /// ETag of what was stored, quotes included, as `Condition::IfMatch` wants it.
        etag: String,
    },
    /// The condition did not hold (412, 409, or 404 for `IfMatch`). An earlier attempt of ours may still have won:
    /// read and compare the nonce.
    Lost,
}

/// How a compare-and-swap ended after every unclear answer was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CasOutcome {
    /// The store holds our bytes.
    Won {
        /// ETag to swap against next.
        etag: String,
    },
    /// The store holds somebody else's.
    Lost(Object),
    /// The store holds nothing at this key any more.
    Gone,
}

/// A whole object, or a range of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The bytes.
    pub bytes: Bytes,
    /// ETag, quotes included.
    pub etag: String,
    /// The store's time of the write; resolution 1 s on some stores.
    pub last_modified: Timestamp,
    /// User metadata.
    pub metadata: Metadata,
}

/// What HEAD says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes.
    pub size: u64,
    /// ETag, quotes included.
    pub etag: String,
    /// The store's time of the write.
    pub last_modified: Timestamp,
    /// User metadata.
    pub metadata: Metadata,
    /// Content type as written.
    pub content_type: Option<String>,
    /// CRC64NVME of the full object, base64, where the store keeps one.
    pub crc64nvme: Option<String>,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Full key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The store's time of the write.
    pub last_modified: Timestamp,
    /// ETag, quotes included.
    pub etag: String,
}

/// One page of a listing, in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Pass as `start_after` for the next page; None at the end.
    pub next: Option<String>,
}

/// The store's name for a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MultipartId(pub String);

impl fmt::Display for MultipartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One part as listed. A part that was overwritten may be listed twice: see [`pick_parts`](crate::parts::pick_parts).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// S3 part number, from 1.
    pub number: i32,
    /// Bytes.
    pub size: u64,
    /// ETag, quotes included.
    pub etag: String,
    /// The store's time of the write, where given.
    pub last_modified: Option<Timestamp>,
    /// CRC64NVME, base64, where the store lists it.
    pub crc64nvme: Option<String>,
}

/// One part as named in Complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRef {
    /// S3 part number, from 1.
    pub number: i32,
    /// ETag that `upload_part` returned or the list shows.
    pub etag: String,
}

/// How Complete ended, if it got a clear answer. Timeouts and 5xx (also inside a 200) are errors with an unknown outcome:
/// HEAD the object and compare id, size and CRC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompleteOutcome {
    /// The object is visible.
    Completed {
        /// ETag of the object.
        etag: String,
        /// CRC64NVME of the full object, base64, where the store says.
        crc64nvme: Option<String>,
    },
    /// The store knows no such upload. Completed before, aborted, or lost: only HEAD of the object tells.
    NoSuchUpload,
    /// A named part is not (or no longer) what the store holds: list again.
    InvalidPart,
    /// The full-object checksum given is not that of the parts.
    ChecksumMismatch,
}

/// A presigned PUT: the caller must send exactly these headers. Debug hides the query, which is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedPut {
    /// The URL, signature included.
    pub url: String,
    /// Headers that are signed and must be sent, `If-None-Match: *` among them; names are lower case.
    pub headers: BTreeMap<String, String>,
}

impl fmt::Debug for PresignedPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.keys().collect();
        f.debug_struct("PresignedPut")
            .field("url", &redact(&self.url))
            .field("headers", &names)
            .finish()
    }
}

/// A URL without its query, fit for logs.
#[must_use]
pub fn redact(url: &str) -> String {
    match url.split_once('?') {
        Some((plain, _)) => format!("{plain}?…"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: T27, S6
    #[test]
    fn debug_of_a_presigned_put_shows_no_signature() {
        let put = PresignedPut {
            url: "http://s/b/k?X-Amz-Signature=feed&X-Amz-Security-Token=t".into(),
            headers: BTreeMap::new(),
        };
        let shown = format!("{put:?}");
        assert!(shown.contains("http://s/b/k?…"), "{shown}");
        assert!(
            !shown.contains("feed") && !shown.contains("Token"),
            "{shown}"
        );
    }
}
