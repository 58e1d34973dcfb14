//! Headers and values of EBML elements (RFC 8794).

use crate::media::sparse::{Sparse, Walked};
use crate::media::verdict::Reason;

/// An element; without an end its size is unknown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub(super) id: u32,
    pub(super) at: u64,
    pub(super) body: u64,
    pub(super) end: Option<u64>,
}

impl Element {
    /// The end of an element that must have one.
    pub(super) fn known_end(&self) -> Walked<u64> {
        match self.end {
            Some(end) => Ok(end),
            None => malformed(format!("element {:x} has no size", self.id)),
        }
    }
}

pub(super) fn malformed<T>(what: impl Into<String>) -> Walked<T> {
    Err(Reason::Malformed.because(what).into())
}

/// The element at `at`, which must end by `limit`: the end of its parent or of the file.
pub(super) fn element(file: &Sparse, at: u64, limit: u64) -> Walked<Element> {
    file.visit()?;
    let cut = || {
        let what = format!("the element at byte {at} goes beyond its parent");
        match limit == file.length() {
            true => Err(Reason::Truncated
                .because(format!("the element at byte {at} goes beyond its end"))
                .into()),
            false => malformed(what),
        }
    };
    if at >= limit {
        return cut();
    }
    let head = file.get(at, limit.min(at + 12))?;
    let id_len = head
        .first()
        .map_or(9, |first| first.leading_zeros() as usize + 1);
    if id_len > 4 {
        return malformed(format!("there is no element at byte {at}"));
    }
    let Some(id) = head.get(..id_len) else {
        return cut();
    };
    let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let rest = head.get(id_len..).unwrap_or_default();
    let size_len = rest
        .first()
        .map_or(1, |first| first.leading_zeros() as usize + 1);
    if size_len > 8 {
        return malformed(format!("the element at byte {at} has no valid size"));
    }
    let Some(size) = vint(rest, size_len) else {
        return cut();
    };
    let body = at + (id_len + size_len) as u64;
    let end = match size {
        size if size == (1 << (7 * size_len)) - 1 => None,
        size => match body.checked_add(size) {
            Some(end) if end <= limit => Some(end),
            _ => return cut(),
        },
    };
    Ok(Element { id, at, body, end })
}

/// A variable-length number of `len` bytes.
pub(super) fn vint(bytes: &[u8], len: usize) -> Option<u64> {
    let field = bytes.get(..len).filter(|field| !field.is_empty())?;
    let value = field
        .iter()
        .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    Some(value & ((1u64 << (7 * len)) - 1))
}

/// Calls `visit` for each child in `[from, to)`, all of known size.
pub(super) fn each(
    file: &Sparse,
    from: u64,
    to: u64,
    mut visit: impl FnMut(Element) -> Walked<()>,
) -> Walked<()> {
    let mut at = from;
    while at < to {
        let found = element(file, at, to)?;
        visit(found)?;
        at = found.known_end()?;
    }
    Ok(())
}

/// An unsigned number, at most 8 bytes.
pub(super) fn uint(file: &Sparse, of: Element) -> Walked<u64> {
    let end = of.known_end()?;
    if end - of.body > 8 {
        return malformed(format!("number {:x} is too large", of.id));
    }
    let bytes = file.get(of.body, end)?;
    Ok(bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// A floating-point number of 4 or 8 bytes.
pub(super) fn float(file: &Sparse, of: Element) -> Walked<f64> {
    let end = of.known_end()?;
    if end - of.body > 8 {
        return malformed(format!("number {:x} is too large", of.id));
    }
    let bytes = file.get(of.body, end)?;
    if let Ok(bytes) = bytes.try_into() {
        return Ok(f64::from_be_bytes(bytes));
    }
    Ok(match bytes.try_into() {
        Ok(bytes) => f64::from(f32::from_be_bytes(bytes)),
        Err(_) => 0.0,
    })
}
