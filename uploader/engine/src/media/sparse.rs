//! A file of which only some ranges were read, and the bounds of looking at it.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::verdict::{Reason, Rejection};

/// So many boxes or elements are visited in one run, candidates of a search included: a film of
/// an hour with a fragment for each frame has fewer.
const MAX_VISITS: u32 = 2_000_000;

/// Bytes of a file, shared and not copied.
#[derive(Clone)]
pub struct Piece(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Piece {
    /// Of anything that holds bytes.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Piece({} bytes)", self.bytes().len())
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

/// Why a run of the walk ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Bytes `[from, to)` are wanted.
    Need { from: u64, to: u64 },
    /// The file is refused.
    Reject(Rejection),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Reject(rejection)
    }
}

pub(super) type Walked<T> = Result<T, Stop>;

/// The ranges of a file that were read: sorted, and joined where they touch.
#[derive(Clone, Debug)]
pub(super) struct Sparse {
    length: u64,
    window: u64,
    left: u8,
    pieces: Vec<(u64, Piece)>,
    visits: Cell<u32>,
}

impl Sparse {
    pub(super) fn new(length: u64, window: u64, reads: u8) -> Self {
        Self {
            length,
            window,
            left: reads,
            pieces: Vec::new(),
            visits: Cell::new(0),
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads that are left.
    pub(super) fn left(&self) -> u8 {
        self.left
    }

    /// Bytes `[from, to)`, when they were read.
    pub(super) fn peek(&self, from: u64, to: u64) -> Option<&[u8]> {
        let (start, piece) = self.covering(from)?;
        let (a, b) = (from.checked_sub(start)?, to.checked_sub(start)?);
        piece
            .bytes()
            .get(usize::try_from(a).ok()?..usize::try_from(b).ok()?)
    }

    /// Bytes `[from, to)`, a small range, or the need of them.
    pub(super) fn get(&self, from: u64, to: u64) -> Walked<&[u8]> {
        if to > self.length {
            return Err(Reason::Truncated
                .because(format!("byte {to} is beyond its end"))
                .into());
        }
        self.peek(from, to).ok_or(Stop::Need { from, to })
    }

    /// The range that ends with the file, if it was read: its place and bytes.
    pub(super) fn tail(&self) -> Option<(u64, &[u8])> {
        let (start, piece) = self.pieces.last()?;
        (start + piece.bytes().len() as u64 == self.length).then(|| (*start, piece.bytes()))
    }

    /// The need of a longer tail, while reads are left and something lies before it.
    pub(super) fn longer_tail(&self) -> Option<Stop> {
        let to = self.tail().map_or(self.length, |(start, _)| start);
        (self.left > 0 && to > 0).then(|| Stop::Need {
            from: to.saturating_sub(self.window),
            to,
        })
    }

    /// Counts one visit.
    pub(super) fn visit(&self) -> Walked<()> {
        self.visits.set(self.visits.get() + 1);
        if self.visits.get() > MAX_VISITS {
            return Err(Reason::Malformed.because("it has too many boxes").into());
        }
        Ok(())
    }

    /// The read that a need leads to: never beyond the file, never what was read before.
    pub(super) fn plan(&mut self, from: u64, to: u64) -> Option<(u64, u64)> {
        self.visits.set(0);
        if self.left == 0 || to > self.length {
            return None;
        }
        let from = self.covering(from).map_or(from, |(start, piece)| {
            from.max(start + piece.bytes().len() as u64)
        });
        let next = self.pieces.iter().map(|(start, _)| *start);
        let next = next.filter(|start| *start > from).min();
        let end = from
            .saturating_add(self.window)
            .min(next.unwrap_or(self.length));
        // A need beyond one window can never be met.
        (from < end && to <= end).then(|| {
            self.left -= 1;
            (from, end)
        })
    }

    pub(super) fn add(&mut self, from: u64, piece: Piece) {
        let at = self.pieces.partition_point(|(start, _)| *start < from);
        self.pieces.insert(at, (from, piece));
        let mut joined: Vec<(u64, Piece)> = Vec::with_capacity(self.pieces.len());
        for (start, piece) in self.pieces.drain(..) {
            match joined.last_mut() {
                Some((before, last)) if *before + last.bytes().len() as u64 == start => {
                    *last = Piece::new([last.bytes(), piece.bytes()].concat());
                }
                _ => joined.push((start, piece)),
            }
        }
        self.pieces = joined;
    }

    fn covering(&self, at: u64) -> Option<(u64, &Piece)> {
        let (start, piece) = self.pieces.iter().rev().find(|(start, _)| *start <= at)?;
        (at < start + piece.bytes().len() as u64).then_some((*start, piece))
    }
}
