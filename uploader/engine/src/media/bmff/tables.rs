//! Tables of the movie header. A table's count is believed only as far as its box has bytes.

use super::boxes::{Header, be, body, field, malformed, micros};
use crate::media::sparse::{Sparse, Walked};
use crate::media::verdict::Reason;

/// Times between frames from here on are small negative numbers of broken writers.
const NEGATIVE: u64 = 0xffff_ffff - 480_000;

/// One entry of an edit list.
#[derive(Debug)]
pub(super) struct Edit {
    /// Units of the movie's clock; 0: all of the media.
    length: u64,
    empty: bool,
    dwell: bool,
}

impl Edit {
    /// Microseconds it is presented, of a track with `media` microseconds.
    pub(super) fn presented(&self, movie_scale: u64, media: u64) -> u64 {
        let length = micros(self.length, movie_scale);
        match self {
            Self {
                length: 0,
                empty: false,
                ..
            } => media,
            Self { empty: true, .. } | Self { dwell: true, .. } => length,
            Self { .. } => length.min(media),
        }
    }
}

/// The rows of a table whose count is at `at` of its body: all, or none when they were not read.
fn rows(
    file: &Sparse,
    table: Header,
    at: u64,
    size: u64,
) -> Walked<Option<std::slice::ChunksExact<'_, u8>>> {
    let head = body(file, table, at + 4)?;
    let count = field(head, usize::try_from(at).unwrap_or(usize::MAX), 4, "table")?;
    let from = table.body + at + 4;
    let end = count
        .checked_mul(size)
        .and_then(|len| from.checked_add(len));
    match end {
        Some(end) if end <= table.end => Ok(file
            .peek(from, end)
            .map(|rows| rows.chunks_exact(usize::try_from(size).unwrap_or(1).max(1)))),
        _ => malformed(format!(
            "its {} table is larger than its box",
            table.kind.escape_ascii()
        )),
    }
}

/// An `elst` box; `None` when it edits nothing.
pub(super) fn edit_list(file: &Sparse, elst: Header) -> Walked<Option<Vec<Edit>>> {
    let wide = body(file, elst, 1)?.first() == Some(&1);
    let (size, word) = if wide { (20, 8) } else { (12, 4) };
    let Some(rows) = rows(file, elst, 4, size)? else {
        return Ok(None);
    };
    let nothing = if wide { u64::MAX } else { 0xffff_ffff };
    let edits: Vec<Edit> = rows
        .map(|row| Edit {
            length: be(row, 0, word).unwrap_or(0),
            empty: be(row, word, word) == Some(nothing),
            dwell: be(row, 2 * word, 4) == Some(0),
        })
        .collect();
    Ok((!edits.is_empty()).then_some(edits))
}

/// Frames and units of an `stts` box, when it was read.
pub(super) fn times(file: &Sparse, stts: Header) -> Walked<Option<(u64, u64)>> {
    let Some(rows) = rows(file, stts, 4, 8)? else {
        return Ok(None);
    };
    let (mut samples, mut units) = (0u64, 0u64);
    for row in rows {
        let count = be(row, 0, 4).unwrap_or(0);
        let delta = match be(row, 4, 4).unwrap_or(0) {
            delta if delta >= NEGATIVE => 1,
            delta => delta,
        };
        samples = samples.saturating_add(count);
        units = units.saturating_add(count.saturating_mul(delta));
    }
    Ok(Some((samples, units)))
}

/// Offsets of media data must lie within the file.
pub(super) fn chunks(file: &Sparse, table: Header, word: u64) -> Walked<()> {
    let Some(rows) = rows(file, table, 4, word)? else {
        return Ok(());
    };
    let word = usize::try_from(word).unwrap_or(4);
    let last = rows.filter_map(|row| be(row, 0, word)).max();
    match last {
        Some(at) if at >= file.length() => Err(Reason::Truncated
            .because(format!("media data at byte {at} is beyond its end"))
            .into()),
        _ => Ok(()),
    }
}

/// Microseconds of a `sidx` box.
pub(super) fn segment_index(file: &Sparse, sidx: Header) -> Walked<u64> {
    let head = body(file, sidx, 32)?;
    let timescale = field(head, 8, 4, "sidx")?;
    if timescale == 0 {
        return malformed("the clock of its segment index stands still");
    }
    let at = if head.first() == Some(&1) { 28 } else { 20 };
    // The count has two bytes, before it two reserved ones.
    let units = rows(file, sidx, at, 12)?.map_or(0, |rows| {
        rows.filter_map(|row| be(row, 4, 4))
            .fold(0, u64::saturating_add)
    });
    Ok(micros(units, timescale))
}
