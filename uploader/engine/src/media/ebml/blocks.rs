//! Clusters and the times of their blocks.

use super::element::{Element, each, element, malformed, uint, vint};
use super::{CLUSTER, LEVEL_1, Track};
use crate::media::sparse::{Sparse, Walked};

const TIMESTAMP: u32 = 0xe7;
const SIMPLE_BLOCK: u32 = 0xa3;
const BLOCK_GROUP: u32 = 0xa0;
const BLOCK: u32 = 0xa1;
const BLOCK_DURATION: u32 = 0x9b;
/// Track number (up to 8), time (2), flags (1).
const BLOCK_HEAD: u64 = 11;

/// What the blocks say about time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    first: Option<u64>,
    last: u64,
    /// Frames of video tracks.
    pub(super) pictures: u64,
    /// Whether the last blocks are not among those seen.
    pub(super) lost: bool,
}

impl Times {
    /// Nanoseconds from the first block to the end of the last.
    pub(super) fn nanos(&self) -> u64 {
        self.last.saturating_sub(self.first.unwrap_or(0))
    }

    fn saw(&mut self, at: u64, lasts: u64) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = self.last.max(at.saturating_add(lasts));
    }
}

/// Takes a cluster into account; where the next child of the segment begins.
pub(super) fn cluster(
    file: &Sparse,
    cluster: Element,
    segment_end: u64,
    scale: u64,
    tracks: &[Track],
    times: &mut Times,
) -> Walked<u64> {
    debug_assert_eq!(cluster.id, CLUSTER);
    let end = cluster.end.unwrap_or(segment_end);
    let (mut at, mut base) = (cluster.body, None);
    while at < end {
        let found = element(file, at, end)?;
        if cluster.end.is_none() && LEVEL_1.contains(&found.id) {
            return Ok(at);
        }
        at = found.known_end()?;
        let (block, lasts) = match found.id {
            TIMESTAMP => {
                base = Some(uint(file, found)?);
                continue;
            }
            SIMPLE_BLOCK => (Some(found), None),
            BLOCK_GROUP => group(file, found)?,
            _ => continue,
        };
        let (Some(base), Some(block)) = (base, block) else {
            return malformed("a cluster has blocks without a time");
        };
        let (number, offset) = block_head(file, block)?;
        let track = tracks.iter().find(|track| track.number == number);
        let begin = base.saturating_add_signed(offset).saturating_mul(scale);
        let lasts = lasts.map_or(track.map_or(0, |track| track.frame_nanos), |units: u64| {
            units.saturating_mul(scale)
        });
        // Subtitles and data do not make a video longer.
        if let Some(Track { kind: 1 | 2, .. }) = track {
            times.saw(begin, lasts);
        }
        times.pictures += u64::from(track.is_some_and(|track| track.kind == 1));
    }
    Ok(at)
}

fn group(file: &Sparse, group: Element) -> Walked<(Option<Element>, Option<u64>)> {
    let (mut block, mut lasts) = (None, None);
    each(file, group.body, group.known_end()?, |found| {
        match found.id {
            BLOCK => block = Some(found),
            BLOCK_DURATION => lasts = Some(uint(file, found)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok((block, lasts))
}

/// Track number and time of a block, relative to its cluster.
fn block_head(file: &Sparse, block: Element) -> Walked<(u64, i64)> {
    let end = block.known_end()?;
    let head = file.get(block.body, end.min(block.body + BLOCK_HEAD))?;
    let len = head
        .first()
        .map_or(9, |first| first.leading_zeros() as usize + 1);
    let time = head.get(len..len + 2).and_then(|time| time.try_into().ok());
    match (vint(head, len), time) {
        (Some(number), Some(time)) if len <= 8 => Ok((number, i64::from(i16::from_be_bytes(time)))),
        _ => malformed("a block is too small"),
    }
}
