//! What a look into a file ends in.

use std::fmt;

use super::TOLERANCE_MS;

/// Why a file is refused: the `reason` of its record. The words are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not a container of videos, or one without a movie in it.
    NotAVideo,
    /// A container without a picture to play.
    NoVideoTrack,
    /// Its structure names bytes beyond its end.
    Truncated,
    /// Its structure contradicts itself.
    Malformed,
    /// It plays longer than the profile allows.
    TooLong,
    /// How long it plays can be found neither at its beginning nor at its end.
    DurationUnknown,
}

impl Reason {
    const ALL: [Self; 6] = [
        Self::NotAVideo,
        Self::NoVideoTrack,
        Self::Truncated,
        Self::Malformed,
        Self::TooLong,
        Self::DurationUnknown,
    ];

    /// The word of records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAVideo => "NotAVideo",
            Self::NoVideoTrack => "NoVideoTrack",
            Self::Truncated => "Truncated",
            Self::Malformed => "Malformed",
            Self::TooLong => "TooLong",
            Self::DurationUnknown => "DurationUnknown",
        }
    }

    /// The reason of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// What people can do about it; `max_seconds` is the profile's limit.
    #[must_use]
    pub fn advice(self, max_seconds: u64) -> String {
        match self {
            Self::NotAVideo => {
                "The file holds no movie. Send an MP4, QuickTime, 3GP, WebM or Matroska file."
                    .into()
            }
            Self::NoVideoTrack => "The file has no video track with pictures in it.".into(),
            Self::Truncated => {
                "The file ends before its own structure does. Send the complete file.".into()
            }
            Self::Malformed => {
                "The structure of the file contradicts itself. Export it again and send that."
                    .into()
            }
            Self::TooLong => format!(
                "The video plays longer than the {max_seconds} s that this profile takes. Shorten it."
            ),
            Self::DurationUnknown => format!(
                "It cannot be seen that the video plays at most {max_seconds} s. Export it as a plain MP4 and send that."
            ),
        }
    }

    pub(super) fn because(self, detail: impl Into<String>) -> Rejection {
        Rejection {
            reason: self,
            detail: detail.into(),
            duration_ms: None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// What was seen, for people.
    pub detail: String,
    /// How long it plays, in milliseconds, when that is why.
    pub duration_ms: Option<u64>,
}

/// What a playable file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// How long it plays, in milliseconds.
    pub duration_ms: u64,
    /// Video tracks.
    pub video_tracks: usize,
    /// All tracks.
    pub tracks: usize,
}

impl Media {
    pub(super) fn judge(self, max_ms: u64) -> Verdict {
        if self.duration_ms <= max_ms.saturating_add(TOLERANCE_MS) {
            return Verdict::Accepted(self);
        }
        let tenths = self.duration_ms / 100;
        let detail = format!(
            "the video plays {}.{} s, the limit is {} s",
            tenths / 10,
            tenths % 10,
            max_ms / 1000
        );
        Verdict::Rejected(Rejection {
            duration_ms: Some(self.duration_ms),
            ..Reason::TooLong.because(detail)
        })
    }
}

/// The end of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A video within the limits.
    Accepted(Media),
    /// Not one.
    Rejected(Rejection),
}
