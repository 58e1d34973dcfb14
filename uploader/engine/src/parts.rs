//! The offset rule over a parts listing: contiguous whole parts, then the tail that the state
//! names. Never a sum over a list with holes; overwritten parts may be listed twice.

use std::collections::BTreeMap;

use crate::crc;
use crate::document::State;
use crate::grid::Grid;

/// One row of a parts listing. `part` counts from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPart {
    /// The part, from 0.
    pub part: u32,
    /// Its bytes.
    pub size: u64,
    /// Its ETag, as Complete wants it.
    pub etag: String,
    /// When it was stored, in milliseconds of the store's clock.
    pub modified_ms: u64,
    /// CRC64NVME, from stores that list it.
    pub crc: Option<u64>,
}

/// Whole parts of a listing by number, the newest of each; torn and foreign sizes are left out.
#[must_use]
pub fn whole_parts(grid: &Grid, seen: &[SeenPart]) -> BTreeMap<u32, SeenPart> {
    let mut whole = BTreeMap::<u32, SeenPart>::new();
    for part in seen.iter().filter(|p| grid.is_whole(p.part, p.size)) {
        match whole.get(&part.part) {
            // Of two with the same second the later row is the later write.
            Some(have) if have.modified_ms > part.modified_ms => {}
            Some(_) | None => {
                whole.insert(part.part, part.clone());
            }
        }
    }
    whole
}

/// The pin of a document after `base` (of `first` parts) and the ETags of the parts from there on;
/// none when one of them is not known.
#[must_use]
pub fn pin<'a>(
    base: Option<u64>,
    first: u32,
    mut etags: impl Iterator<Item = Option<&'a str>>,
) -> Option<u64> {
    let base = if first == 0 { Some(0) } else { base }?;
    etags.try_fold(base, |pin, etag| {
        // Stores quote an ETag in one answer and not in another.
        let bare = etag?.trim_matches('"').to_ascii_lowercase();
        Some(crc::of(&[&pin.to_be_bytes(), bare.as_bytes()].concat()))
    })
}

/// What a listing proves about an upload whose writer is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Recovered {
    /// The state closed at the proven offset (phase, epoch and nonce are the caller's).
    At(Box<State>),
    /// The listing shows less than the state promised: a fault of the store.
    Short {
        /// What the listing proves.
        listed: u64,
    },
}

/// Applies the offset rule to `doc` and a parts listing.
#[must_use]
pub fn recover(doc: &State, seen: &[SeenPart]) -> Recovered {
    let grid = doc.grid();
    let whole = whole_parts(&grid, seen);
    let run = (0u32..).take_while(|k| whole.contains_key(k)).count();
    let next = u32::try_from(run).unwrap_or(u32::MAX);
    let listed = doc
        .length
        .map_or(grid.start(next), |length| grid.start(next).min(length));
    // The tail lies in the part after those that were full at the last close.
    let tail_start = doc.tail.first().map_or(doc.offset, |slice| slice.from);
    if listed < tail_start {
        return Recovered::Short { listed };
    }
    if doc.unverified || doc.doubted.is_some() {
        return Recovered::At(Box::new(doc.doubting()));
    }
    if listed <= doc.offset {
        return Recovered::At(Box::new(doc.clone()));
    }
    let mut to = doc.clone();
    let first = doc.counted_parts();
    let etags = (first..next).map(|k| whole.get(&k).map(|part| part.etag.as_str()));
    to.pin = pin(doc.pin, first, etags);
    to.spend_tail();
    to.offset = listed;
    to.crc = listed_crc(&grid, &whole, next);
    to.crc32c = None;
    Recovered::At(Box::new(to))
}

/// The CRC of parts 0 to `count` from theirs, if the store lists all of them.
fn listed_crc(grid: &Grid, whole: &BTreeMap<u32, SeenPart>, count: u32) -> Option<u64> {
    (0..count).try_fold(0, |joined, k| {
        let part = whole.get(&k)?;
        Some(if k == 0 {
            part.crc?
        } else {
            crc::join(joined, part.crc?, grid.end(k) - grid.start(k))
        })
    })
}
