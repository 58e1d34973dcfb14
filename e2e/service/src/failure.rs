//! Why a call fails, and the gRPC code that says so. Pure; the table is the one in `docs/processing-service.md`.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Everything that can go wrong in one call. Messages hold no URLs: theirs are credentials.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The source is not a video: no attempt will ever make one of it.
    #[error("the source is not a video that can be decoded: {0}")]
    NotAVideo(String),
    /// The source is above the limit of this service.
    #[error("the source is larger than the {limit} bytes this service takes")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// 404 of the store.
    #[error("the store has no source under the given URL")]
    SourceGone,
    /// The store refuses the URL, most likely because it has expired.
    #[error("the store answered {status} to {action}")]
    Refused {
        /// `GET source` or `PUT output <name>`.
        action: String,
        /// HTTP.
        status: u16,
    },
    /// Network or store trouble on the way.
    #[error("{action}: {problem}")]
    Transfer {
        /// `GET source` or `PUT output <name>`.
        action: String,
        /// What happened.
        problem: String,
    },
    /// The pool asks for an output that this service does not make. That is no job's fault, so it must not cost one:
    /// UNIMPLEMENTED is a matter of configuration, FAILED_PRECONDITION would be charged.
    #[error("this service makes no output `{0}`; it makes `video` and `thumbnail`")]
    UnknownOutput(String),
    /// All slots are taken.
    #[error("{limit} calls are running, which is all this service takes at once")]
    Busy {
        /// Slots.
        limit: usize,
        /// When to come back.
        retry_after: Duration,
    },
    /// Asked for by a fault knob.
    #[error("{message}")]
    Injected {
        /// What to answer.
        code: Code,
        /// What to say.
        message: String,
        /// RetryInfo.
        retry_after: Option<Duration>,
    },
    /// ffmpeg cannot be run, or failed on a source that it had decoded before.
    #[error("{action}: {problem}")]
    Ffmpeg {
        /// What it was to do.
        action: &'static str,
        /// Its last words.
        problem: String,
    },
    /// The local disk.
    #[error("{action}: {source}")]
    Disk {
        /// What was to be done.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

impl Failure {
    /// The code of the table.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotAVideo(_) => Code::InvalidArgument,
            Self::TooLarge { .. } => Code::OutOfRange,
            Self::SourceGone => Code::NotFound,
            Self::Refused { .. } => Code::FailedPrecondition,
            Self::Transfer { .. } => Code::Aborted,
            Self::UnknownOutput(_) => Code::Unimplemented,
            Self::Busy { .. } => Code::ResourceExhausted,
            Self::Injected { code, .. } => *code,
            Self::Ffmpeg { .. } | Self::Disk { .. } => Code::Internal,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => Some(*retry_after),
            Self::Injected { retry_after, .. } => *retry_after,
            Self::NotAVideo(_)
            | Self::TooLarge { .. }
            | Self::SourceGone
            | Self::Refused { .. }
            | Self::Transfer { .. }
            | Self::UnknownOutput(_)
            | Self::Ffmpeg { .. }
            | Self::Disk { .. } => None,
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure.retry_after() {
            None => Status::new(failure.code(), failure.to_string()),
            Some(wait) => Status::with_error_details(
                failure.code(),
                failure.to_string(),
                ErrorDetails::with_retry_info(Some(wait)),
            ),
        }
    }
}
