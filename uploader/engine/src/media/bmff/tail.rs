//! The end of a file whose middle is not read: where do the last boxes begin? Named by the index
//! of fragments, or found by a search for a box from which the chain goes exactly to the end.

use super::boxes::{Header, be, header};
use super::fragments;
use super::movie::{self, Movie};
use crate::media::sparse::{Sparse, Stop, Walked};
use crate::media::verdict::Reason;

/// Takes the last fragments into account; whether any was found.
pub(super) fn fragments(file: &Sparse, movie: &mut Movie) -> Walked<bool> {
    let Some((start, bytes)) = file.tail() else {
        return file.longer_tail().map_or(Ok(false), Err);
    };
    let chain = match search(file, start, bytes, *b"moof", *b"mfhd")? {
        Some(chain) => chain,
        None => match indexed(start, bytes) {
            Some(at) if file.left() > 0 || file.peek(at, at + 8).is_some() => boxes_from(file, at)?,
            _ => return file.longer_tail().map_or(Ok(false), Err),
        },
    };
    let mut timed = false;
    for found in chain.iter().filter(|found| &found.kind == b"moof") {
        timed |= fragments::read(file, *found, &mut movie.tracks)?;
    }
    Ok(timed)
}

/// The movie header near the end of a file.
pub(super) fn movie(file: &Sparse) -> Walked<Movie> {
    let Some((start, bytes)) = file.tail() else {
        return Err(file.longer_tail().unwrap_or_else(lost));
    };
    let chain = search(file, start, bytes, *b"moov", *b"mvhd")?.unwrap_or_default();
    match chain.first() {
        Some(moov) => movie::read(file, *moov),
        None => Err(lost()),
    }
}

fn lost() -> Stop {
    Reason::NotAVideo
        .because("no movie header is near its beginning or its end")
        .into()
}

/// The boxes from the first one of this kind and first child, from which the chain ends with the
/// file. When every chain is cut by the end of the file, it is truncated.
fn search(
    file: &Sparse,
    start: u64,
    bytes: &[u8],
    kind: [u8; 4],
    child: [u8; 4],
) -> Walked<Option<Vec<Header>>> {
    let mut cut = None;
    for (at, window) in bytes.windows(16).enumerate() {
        if window.get(4..8) != Some(&kind) || window.get(12..16) != Some(&child) {
            continue;
        }
        match boxes_from(file, start + at as u64) {
            Ok(chain) => return Ok(Some(chain)),
            Err(Stop::Reject(why)) if why.reason == Reason::Truncated => cut = Some(why),
            Err(Stop::Reject(_)) => file.visit()?,
            Err(need @ Stop::Need { .. }) => return Err(need),
        }
    }
    cut.map_or(Ok(None), |why| Err(why.into()))
}

fn boxes_from(file: &Sparse, mut at: u64) -> Walked<Vec<Header>> {
    let mut chain = Vec::new();
    while at < file.length() && !super::is_padding(file, at)? {
        let found = header(file, at, file.length())?;
        chain.push(found);
        at = found.end;
    }
    Ok(chain)
}

/// Where the last fragment begins, by the random access index at the end of the file.
fn indexed(start: u64, bytes: &[u8]) -> Option<u64> {
    let end = bytes.len();
    let size = be(bytes, end.checked_sub(4)?, 4)?;
    let mut at = end.checked_sub(usize::try_from(size).ok()?)?;
    (bytes.get(at + 4..at + 8)? == b"mfra").then_some(())?;
    at += 8;
    let mut last = None;
    while let Some(size) = be(bytes, at, 4).and_then(|size| usize::try_from(size).ok()) {
        if size < 8 || bytes.get(at + 4..at + 8)? != b"tfra" {
            break;
        }
        last = last.max(last_entry(bytes.get(at + 8..at.checked_add(size)?)?));
        at += size;
    }
    last.filter(|at| *at < start)
}

/// The fragment of the last entry of a `tfra` body.
fn last_entry(tfra: &[u8]) -> Option<u64> {
    let word = if tfra.first() == Some(&1) { 8 } else { 4 };
    let lengths = be(tfra, 8, 4)?;
    let numbers = (0..3)
        .map(|shift| (lengths >> (2 * shift) & 3) + 1)
        .sum::<u64>();
    let size = 2 * word + usize::try_from(numbers).ok()?;
    let count = usize::try_from(be(tfra, 12, 4)?).ok()?;
    let at = count.checked_sub(1)?.checked_mul(size)?.checked_add(16)?;
    be(tfra, at.checked_add(word)?, word)
}
