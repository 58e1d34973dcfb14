//! Bytes of an upload by their place in it, wherever they are now: memory or tail slices.

use bytes::Bytes;
use kinora_storage::{Store, StoreError, UploadId, keys};
use kinora_upload_engine::{Answer, Slice};
use tokio::sync::OwnedSemaphorePermit;

use super::calls::failed;
use super::pieces::Pieces;
use crate::budget::Held;

/// Bytes in memory, from `from` on, and the part of the budget they take.
#[derive(Debug, Default)]
pub struct Ram {
    /// Place of the first byte.
    pub from: u64,
    /// The bytes.
    pub bytes: Pieces,
    /// CRC64NVME of all of them, where it was taken as they came.
    pub crc: Option<u64>,
    /// Given back when the bytes go.
    pub held: Held,
}

impl Ram {
    /// Bytes `[from, to)`, when all of them are here.
    pub(crate) fn range(&self, from: u64, to: u64) -> Option<Pieces> {
        self.has(from, to).then(|| {
            self.bytes
                .slice(index(from - self.from), index(to - self.from))
        })
    }

    /// Whether all bytes `[from, to)` are here.
    fn has(&self, from: u64, to: u64) -> bool {
        from >= self.from && to <= self.from + self.bytes.len() as u64
    }

    /// CRC64NVME of bytes `[from, to)`, when they are exactly what is here and it is known.
    pub(crate) fn crc_of(&self, from: u64, to: u64) -> Option<u64> {
        let all = from == self.from && to == self.from + self.bytes.len() as u64;
        self.crc.filter(|_| all)
    }
}

/// Bytes that a document promises and the store does not have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatherError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("read a slice of an upload: {0} is not there")]
    Gone(String),
    #[error("read bytes {from}-{to} of upload {id}: no slice holds byte {at}")]
    Missing {
        id: UploadId,
        from: u64,
        to: u64,
        at: u64,
    },
}

impl GatherError {
    /// The same in the engine's words.
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::Gone(key) => {
                tracing::warn!(key, "a slice is not there");
                Answer::SliceGone
            }
            Self::Store(_) | Self::Missing { .. } => failed(self),
        }
    }
}

fn slice_key(id: &UploadId, slice: &Slice) -> String {
    keys::tail(id, u64::from(slice.part), slice.epoch, slice.from, slice.to)
}

impl super::Driver {
    /// Waits until bytes `[from, to)` may be read back, where memory does not have them all.
    pub(super) async fn turn(
        &self,
        (from, to): (u64, u64),
        ram: &Ram,
    ) -> Option<OwnedSemaphorePermit> {
        if ram.has(from, to) {
            return None;
        }
        self.app.turns.take(to - from).await
    }

    /// Key of a slice of this upload.
    pub(crate) fn slice_key(&self, slice: &Slice) -> String {
        slice_key(&self.id, slice)
    }
}

/// Bytes `[from, to)`: from memory where it has them, else from the slices.
pub(crate) async fn gather(
    store: &Store,
    id: &UploadId,
    range: (u64, u64),
    slices: &[Slice],
    ram: &Ram,
) -> Result<Pieces, GatherError> {
    let (from, to) = range;
    if let Some(bytes) = ram.range(from, to) {
        return Ok(bytes);
    }
    let ram_end = ram.from + ram.bytes.len() as u64;
    let mut all = Pieces::default();
    let mut at = from;
    while at < to {
        if at >= ram.from && at < ram_end {
            let end = to.min(ram_end);
            all.append(ram.bytes.slice(index(at - ram.from), index(end - ram.from)));
            at = end;
            continue;
        }
        let missing = || GatherError::Missing {
            id: id.clone(),
            from,
            to,
            at,
        };
        let slice = slices
            .iter()
            .find(|s| s.from <= at && at < s.to)
            .ok_or_else(missing)?;
        let size = slice.to - slice.from;
        // As large as parts are, which go by the profile.
        let key = slice_key(id, slice);
        let stored = store.get_bounded(&key, size).await?;
        let stored: Bytes = stored.ok_or(GatherError::Gone(key))?.bytes;
        if stored.len() as u64 != size {
            return Err(missing());
        }
        let end = to.min(slice.to);
        all.push(stored.slice(index(at - slice.from)..index(end - slice.from)));
        at = end;
    }
    Ok(all)
}

/// A distance within one part always fits.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
