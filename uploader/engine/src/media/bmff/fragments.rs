//! Fragments: how far each track plays.

use super::boxes::{Header, body, each, field, malformed};
use super::movie::Track;
use crate::media::sparse::{Sparse, Walked};

/// Takes a `moof` box into account; whether it says at what time it plays.
pub(super) fn read(file: &Sparse, moof: Header, tracks: &mut [Track]) -> Walked<bool> {
    let mut timed = false;
    each(file, moof.body, moof.end, |found| {
        if &found.kind == b"traf" {
            timed |= track_fragment(file, found, tracks)?;
        }
        Ok(())
    })?;
    Ok(timed)
}

fn track_fragment(file: &Sparse, traf: Header, tracks: &mut [Track]) -> Walked<bool> {
    let (mut id, mut default, mut base) = (None, None, None);
    let (mut samples, mut units) = (0u64, 0u64);
    let known = |id: Option<u64>| tracks.iter().position(|track| Some(track.id) == id);
    each(file, traf.body, traf.end, |found| {
        match &found.kind {
            b"tfhd" => {
                let tfhd = body(file, found, 24)?;
                let flags = field(tfhd, 1, 3, "tfhd")?;
                id = Some(field(tfhd, 4, 4, "tfhd")?);
                let at = 8 + if flags & 1 > 0 { 8 } else { 0 } + if flags & 2 > 0 { 4 } else { 0 };
                if flags & 8 > 0 {
                    default = Some(field(tfhd, at, 4, "tfhd")?);
                }
            }
            b"tfdt" => {
                let tfdt = body(file, found, 12)?;
                let wide = tfdt.first() == Some(&1);
                base = Some(field(tfdt, 4, if wide { 8 } else { 4 }, "tfdt")?);
            }
            b"trun" => {
                let fallback = known(id).and_then(|at| tracks.get(at));
                let each_lasts = default.or(fallback.map(|track| track.default_duration));
                let (count, lasts) = run(file, found, each_lasts.unwrap_or(0))?;
                samples = samples.saturating_add(count);
                units = units.saturating_add(lasts);
            }
            _ => {}
        }
        Ok(())
    })?;
    let Some(track) = known(id).and_then(|at| tracks.get_mut(at)) else {
        return malformed("a fragment belongs to no track");
    };
    let before = track.fragments;
    // Frames in the movie header play first.
    let in_movie = (track.samples > Some(0)).then_some(0);
    let begin = base.unwrap_or_else(|| before.map_or(track.media, |(_, last)| last));
    let end = begin.saturating_add(units);
    let first = before.map_or(in_movie.unwrap_or(begin), |(first, _)| first.min(begin));
    track.fragments = Some((first, before.map_or(end, |(_, last)| last.max(end))));
    track.samples = Some(track.samples.unwrap_or(0).saturating_add(samples));
    Ok(base.is_some())
}

/// Frames of a `trun` box and how long they last.
fn run(file: &Sparse, trun: Header, default: u64) -> Walked<(u64, u64)> {
    let head = body(file, trun, 16)?;
    let flags = field(head, 1, 3, "trun")?;
    let count = field(head, 4, 4, "trun")?;
    let words = |mask: u64| u64::from((flags & mask).count_ones()) * 4;
    let (from, size) = (trun.body + 8 + words(0x5), words(0xf00));
    let end = count
        .checked_mul(size)
        .and_then(|len| from.checked_add(len));
    let Some(end) = end.filter(|end| *end <= trun.end) else {
        return malformed("a fragment lists more frames than it has room for");
    };
    if flags & 0x100 == 0 {
        return Ok((count, count.saturating_mul(default)));
    }
    let rows = file.get(from, end)?;
    let rows = rows.chunks_exact(usize::try_from(size).unwrap_or(4).max(4));
    let lasts = rows.filter_map(|row| super::boxes::be(row, 0, 4));
    Ok((count, lasts.fold(0, u64::saturating_add)))
}
