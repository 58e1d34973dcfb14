//! A look into the container of a whole upload: is it a video, are all its bytes there, how long
//! does it play? Pure: the walk names the ranges it wants, at most [`MAX_READS`] of them, and ends
//! in a verdict. It starts anew over what was read whenever more has come, so it keeps no place
//! in the file; boxes, tables and depth are bounded, sizes are never trusted.
//! ISO/IEC 14496-12 (MP4, QuickTime, 3GP) and RFC 8794, RFC 9559 (Matroska, WebM).

mod bmff;
mod ebml;
mod sparse;
mod verdict;

pub use sparse::Piece;
pub use verdict::{Media, Reason, Rejection, Verdict};

use crate::sniff::{LOOK, Sniff, sniff};
use sparse::{Sparse, Stop, Walked};

/// Most ranged reads of one look.
pub const MAX_READS: u8 = 4;
/// Bytes of one ranged read.
pub const READ: u64 = 1 << 20;
/// Phones stop a recording a few frames late: so much over the limit still passes.
pub const TOLERANCE_MS: u64 = 500;

/// What the walk wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes `[from, to)` of the file; hand them to [`Walk::give`].
    Read {
        /// First byte.
        from: u64,
        /// One past the last byte.
        to: u64,
    },
    /// The end.
    Done(Verdict),
}

/// Bytes that are not the range that was asked for: a fault of the store, never a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read bytes {from}-{to} of a video: {got} bytes came")]
pub struct WrongRange {
    from: u64,
    to: u64,
    got: u64,
}

/// One look into a file.
#[derive(Clone, Debug)]
pub struct Walk {
    file: Sparse,
    max_ms: u64,
    asked: Option<(u64, u64)>,
}

impl Walk {
    /// A look into a file of `length` bytes that may play `max_seconds`. With `whole`, the only
    /// read is of all of it: for files that are in memory or small enough for it.
    #[must_use]
    pub fn new(length: u64, whole: bool, max_seconds: u64) -> Self {
        Self::with_window(length, if whole { length } else { READ }, max_seconds)
    }

    /// As `new`, with ranged reads of `window` bytes.
    #[must_use]
    pub fn with_window(length: u64, window: u64, max_seconds: u64) -> Self {
        Self {
            file: Sparse::new(length, window.max(LOOK as u64), MAX_READS),
            max_ms: max_seconds.saturating_mul(1000),
            asked: None,
        }
    }

    /// Goes on with what was given so far.
    pub fn step(&mut self) -> Step {
        if self.file.length() == 0 {
            return Step::Done(Verdict::Rejected(Reason::NotAVideo.because("it is empty")));
        }
        match walk(&self.file) {
            Ok(media) => Step::Done(media.judge(self.max_ms)),
            Err(Stop::Reject(rejection)) => Step::Done(Verdict::Rejected(rejection)),
            Err(Stop::Need { from, to }) => match self.file.plan(from, to) {
                Some((from, to)) => {
                    self.asked = Some((from, to));
                    Step::Read { from, to }
                }
                None => Step::Done(Verdict::Rejected(
                    Reason::Malformed.because("its structure is scattered over too many places"),
                )),
            },
        }
    }

    /// Takes the bytes of the range that was asked for.
    ///
    /// # Errors
    /// When they are not as many as the range has.
    pub fn give(&mut self, piece: Piece) -> Result<(), WrongRange> {
        let Some((from, to)) = self.asked.take() else {
            return Ok(());
        };
        let got = piece.bytes().len() as u64;
        if got != to - from {
            return Err(WrongRange { from, to, got });
        }
        self.file.add(from, piece);
        Ok(())
    }
}

fn walk(file: &Sparse) -> Walked<Media> {
    let head = file.get(0, file.length().min(LOOK as u64))?;
    match (sniff(head, true), head) {
        (Sniff::NotVideo(why), _) => Err(Reason::NotAVideo.because(why).into()),
        (_, [0x1a, 0x45, 0xdf, 0xa3, ..]) => ebml::walk(file),
        _ => bmff::walk(file),
    }
}
