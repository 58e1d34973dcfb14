//! The state object: the one document whose compare-and-swap decides everything about an
//! unfinished upload. Unknown fields survive a rewrite; a higher version is refused untouched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::Owner;
use crate::grid::Grid;

/// The version of the document this code writes.
pub const VERSION: u32 = 1;
/// Why an upload is dead, or its record says `failed`, whose confirmed bytes are gone.
pub const STORE_LOST: &str = "StoreLost";
/// Reason of the record that is left of an erased video.
pub const ERASED: &str = "Erased";
/// Spent slices that a state names.
const MOST_SPENT: usize = 256;
/// At this many slices the next flush writes one slice for all of them.
pub const MAX_SLICES: usize = 16;

/// Where an unfinished upload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A request is writing; its offset is not yet an answer.
    Open,
    /// Nobody writes; `offset` may be answered.
    Closed,
    /// All bytes are durable; only the finish sequence may follow.
    Finishing,
    /// Terminated, expired or refused; a marker for late requests.
    Dead,
}

/// Bytes `[from, to)` of part `part`, stored as one object by the writer of `epoch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The part, from 0.
    pub part: u32,
    /// Epoch of the writer, so that a zombie's slice never has the name of a live one.
    pub epoch: u64,
    /// First byte, absolute in the upload.
    pub from: u64,
    /// One past the last byte.
    pub to: u64,
}

/// Small PATCHes counted in the current minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallPatches {
    /// Minutes since the epoch.
    pub minute: u64,
    /// PATCHes of that minute.
    pub count: u32,
}

impl SmallPatches {
    /// The count of the minute in which `now_ms` lies.
    #[must_use]
    pub fn at(self, now_ms: u64) -> Self {
        let minute = now_ms / crate::open::MINUTE_MS;
        let count = if self.minute == minute { self.count } else { 0 };
        Self { minute, count }
    }
}

/// The state document of one upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Document version.
    pub v: u32,
    /// Upload id, `<cell>-<ulid>`.
    pub id: String,
    /// Who made the upload.
    pub owner: Owner,
    /// The maker's tenant.
    pub tenant: String,
    /// Name of the profile that gives limits and pool.
    pub profile: String,
    /// The client's own key and value pairs: data, never keys or names.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// `Upload-Metadata` as the client sent it, for the echo that tus asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_metadata: Option<String>,
    /// Bytes of the whole upload; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Bytes of a part.
    pub part_size: u64,
    /// Key of the finished object.
    pub key: String,
    /// Id of the multipart upload, from the first full part on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multipart: Option<String>,
    /// Rises with every writer; the fence.
    pub epoch: u64,
    /// Where the upload stands.
    pub phase: Phase,
    /// Durable bytes, as of the last close.
    pub offset: u64,
    /// The slices that hold the bytes from the last full part to `offset`, in order.
    #[serde(default)]
    pub tail: Vec<Slice>,
    /// Slices that no longer count; they are deleted with the state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<Slice>,
    /// CRC64NVME of `[0, offset)`; absent when a crash lost the running value.
    #[serde(default, with = "crc_hex", skip_serializing_if = "Option::is_none")]
    pub crc: Option<u64>,
    /// Chained over the ETags of the parts that count: whoever overwrites one of them later, a
    /// writer that was fenced off, is found out even when `crc` is lost. Absent: not known.
    #[serde(default, with = "crc_hex", skip_serializing_if = "Option::is_none")]
    pub pin: Option<u64>,
    /// Whether the request that writes carries a checksum that was not compared yet: until then
    /// `offset` stays where the request began, for every reader and after a crash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unverified: bool,
    /// From this part on a listing is not believed: a request whose checksum failed, or was never
    /// compared, may have stored parts there, and its late ones may still come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubted: Option<u32>,
    /// ETags of the parts that count, from `doubted` on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sure: BTreeMap<u32, String>,
    /// Of uploads whose end is said and not counted (the IETF draft, no length told): whether the
    /// last request said that it brings the end. Absent: an upload with all its bytes is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// Most bytes of an upload whose length was not known when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Digests that the whole must have, in hex by algorithm.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// CRC32C of `[0, offset)`, while `digests` asks for it and no crash lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<u32>,
    /// Whether the first bytes were seen to be a video (or the profile takes anything).
    #[serde(default)]
    pub sniffed: bool,
    /// Why the upload is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The small PATCHes of the current minute.
    #[serde(default)]
    pub small: SmallPatches,
    /// When the upload was made, store time in milliseconds.
    pub created_ms: u64,
    /// Random per write: a reader that finds its own nonce has won, whatever the answer was.
    pub nonce: String,
    /// Fields of later versions.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// A state document that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not the JSON of a state document.
    #[error("read the state of an upload: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by newer code.
    #[error(
        "the state of an upload has version {0}, this program knows {VERSION}: finish the upgrade of all replicas"
    )]
    Newer(u64),
}

impl State {
    /// Reads a stored document.
    ///
    /// # Errors
    /// When it is not a state document, or one of a later version.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let value: serde_json::Value = serde_json::from_slice(bytes)?;
        match value.get("v").and_then(serde_json::Value::as_u64) {
            Some(v) if v > u64::from(VERSION) => Err(DocumentError::Newer(v)),
            _ => Ok(serde_json::from_value(value)?),
        }
    }

    /// The document as it is stored.
    ///
    /// # Errors
    /// Never for values this code builds; serde's signature asks for it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DocumentError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The part arithmetic of this upload.
    #[must_use]
    pub fn grid(&self) -> Grid {
        Grid {
            part_size: self.part_size,
            length: self.length,
        }
    }

    /// How many parts of the multipart upload count.
    #[must_use]
    pub fn counted_parts(&self) -> u32 {
        let to = self.tail.first().map_or(self.offset, |slice| slice.from);
        self.grid().part_of(to)
    }

    /// Whether all bytes are durable and nothing more has to be said: the finish may follow.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.length == Some(self.offset) && self.complete != Some(false)
    }

    /// From here on a listing is not believed beyond what counts already.
    #[must_use]
    pub fn doubting(&self) -> Self {
        let from = self.counted_parts();
        Self {
            unverified: false,
            doubted: Some(self.doubted.map_or(from, |doubted| doubted.min(from))),
            ..self.clone()
        }
    }

    /// The next document: a writer holds the upload.
    #[must_use]
    pub fn opened(&self, nonce: &str) -> Self {
        Self {
            phase: Phase::Open,
            epoch: self.epoch + 1,
            nonce: nonce.into(),
            ..self.clone()
        }
    }

    /// The next document: terminated, expired or refused, and why.
    #[must_use]
    pub fn dead(&self, reason: &str, nonce: &str) -> Self {
        Self {
            phase: Phase::Dead,
            unverified: false,
            epoch: self.epoch + 1,
            reason: Some(reason.into()),
            nonce: nonce.into(),
            ..self.clone()
        }
    }

    /// The next document: all bytes are durable, the finish sequence may start.
    #[must_use]
    pub fn finishing(&self, nonce: &str) -> Self {
        Self {
            phase: Phase::Finishing,
            epoch: self.epoch + 1,
            nonce: nonce.into(),
            ..self.clone()
        }
    }

    /// The next document after the store has lost the multipart upload: without it, when no part
    /// of it was counted yet; else dead, as confirmed bytes are gone.
    #[must_use]
    pub fn without_parts(&self, nonce: &str) -> Self {
        if self.counted_parts() > 0 {
            return self.dead(STORE_LOST, nonce);
        }
        Self {
            phase: Phase::Closed,
            multipart: None,
            unverified: false,
            doubted: None,
            nonce: nonce.into(),
            ..self.clone()
        }
    }

    /// The slices of the tail count no more. Only the newest of those are named, so that the document stays small however
    /// often its client paused; the sweep finds the others when the state is gone.
    pub fn spend_tail(&mut self) {
        self.spent.append(&mut self.tail);
        let older = self.spent.len().saturating_sub(MOST_SPENT);
        self.spent.drain(..older);
    }

    /// Every slice this document names, live or spent.
    pub fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.tail.iter().chain(&self.spent)
    }
}

mod crc_hex {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "the signature serde asks for")]
    pub(super) fn serialize<S: Serializer>(crc: &Option<u64>, out: S) -> Result<S::Ok, S::Error> {
        match crc {
            Some(crc) => out.serialize_str(&format!("{crc:016x}")),
            None => out.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|hex| u64::from_str_radix(&hex, 16).map_err(serde::de::Error::custom))
            .transpose()
    }
}
