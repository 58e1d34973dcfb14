//! Headers and fields of boxes.

use crate::media::sparse::{Sparse, Walked};
use crate::media::verdict::Reason;

/// A box: its type, where its body begins and where it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: [u8; 4],
    pub(super) body: u64,
    pub(super) end: u64,
}

pub(super) fn malformed<T>(what: impl Into<String>) -> Walked<T> {
    Err(Reason::Malformed.because(what).into())
}

/// The box at `at`, which must end by `limit`: the end of its parent or of the file.
pub(super) fn header(file: &Sparse, at: u64, limit: u64) -> Walked<Header> {
    file.visit()?;
    let top = limit == file.length();
    if limit.saturating_sub(at) < 8 {
        return malformed(format!("there is no room for a box at byte {at}"));
    }
    let head = file.get(at, at + 8)?;
    let (size, kind) = (be(head, 0, 4).unwrap_or(0), kind_of(head));
    if top && !plausible(kind) {
        return malformed(format!("there is no box at byte {at}"));
    }
    let (body, end) = match size {
        0 => (at + 8, Some(limit)),
        1 if limit - at < 16 => (at + 16, None),
        1 => {
            let size = be(file.get(at + 8, at + 16)?, 0, 8).unwrap_or(0);
            (at + 16, at.checked_add(size))
        }
        size => (at + 8, at.checked_add(size)),
    };
    let name = kind.escape_ascii();
    match end {
        Some(end) if end < body => malformed(format!("box {name} at byte {at} is too small")),
        Some(end) if end <= limit => Ok(Header { kind, body, end }),
        _ if top => Err(Reason::Truncated
            .because(format!("box {name} at byte {at} goes beyond its end"))
            .into()),
        _ => malformed(format!("box {name} at byte {at} is larger than its parent")),
    }
}

fn kind_of(head: &[u8]) -> [u8; 4] {
    head.get(4..8)
        .and_then(|kind| kind.try_into().ok())
        .unwrap_or_default()
}

/// Types are four printable characters; zeros are the padding of some recorders.
fn plausible(kind: [u8; 4]) -> bool {
    kind == [0; 4] || kind.iter().all(|byte| matches!(byte, 0x20..=0x7e | 0xa9))
}

/// Calls `visit` for each box in `[from, to)`; a rest too short for a box is a terminator.
pub(super) fn each(
    file: &Sparse,
    from: u64,
    to: u64,
    mut visit: impl FnMut(Header) -> Walked<()>,
) -> Walked<()> {
    let mut at = from;
    while to.saturating_sub(at) >= 8 {
        let found = header(file, at, to)?;
        visit(found)?;
        at = found.end;
    }
    Ok(())
}

/// The first `most` bytes of a body, or as many as it has.
pub(super) fn body(file: &Sparse, of: Header, most: u64) -> Walked<&[u8]> {
    file.get(of.body, of.end.min(of.body.saturating_add(most)))
}

/// The big-endian number of `size` bytes at `at`.
pub(super) fn be(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(
        field
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

/// A number that must be there.
pub(super) fn field(bytes: &[u8], at: usize, size: usize, what: &str) -> Walked<u64> {
    match be(bytes, at, size) {
        Some(value) => Ok(value),
        None => malformed(format!("its {what} is cut short")),
    }
}

/// Units of a clock as microseconds.
pub(super) fn micros(units: u64, per_second: u64) -> u64 {
    let micros = u128::from(units) * 1_000_000 / u128::from(per_second.max(1));
    u64::try_from(micros).unwrap_or(u64::MAX)
}
