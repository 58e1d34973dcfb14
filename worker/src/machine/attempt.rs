//! One attempt in this worker's hands, from its lease to the operator's acknowledgement. Pure.

use std::time::Duration;

use kinora_protocol::dispatch::{AttemptRef, Outcome, Progress};

use crate::report::{ReleaseReason, Report};
use crate::text;

/// Job uid and attempt number: what a lease is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    /// `metadata.uid` of the VideoJob.
    pub job_uid: String,
    /// From 1.
    pub attempt: u32,
}

impl AttemptKey {
    /// `None` if the reference is absent or names nothing.
    #[must_use]
    pub fn of(reference: Option<&AttemptRef>) -> Option<Self> {
        let reference = reference?;
        (!reference.job_uid.is_empty() && reference.attempt > 0).then(|| Self {
            job_uid: reference.job_uid.clone(),
            attempt: reference.attempt,
        })
    }

    /// As on the wire.
    #[must_use]
    pub fn to_ref(&self) -> AttemptRef {
        AttemptRef {
            job_uid: self.job_uid.clone(),
            attempt: self.attempt,
        }
    }
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Being connected; the request is not out.
    Preparing,
    /// The request is out.
    Calling,
    /// To be stopped; held until the call is known to have ended.
    Stopping(ReleaseReason),
    /// Over here; repeated until acknowledged.
    Ended {
        outcome: Outcome,
        resend_at: Duration,
    },
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) leased_at: Duration,
    pub(super) stage: Stage,
    progress_sent_at: Option<Duration>,
    progress_waiting: Option<(u32, String)>,
}

impl Attempt {
    pub(super) fn leased(now: Duration) -> Self {
        Self {
            leased_at: now,
            stage: Stage::Preparing,
            progress_sent_at: None,
            progress_waiting: None,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    pub(super) fn end(&mut self, key: &AttemptKey, report: &Report, resend_at: Duration) {
        self.progress_waiting = None;
        self.stage = Stage::Ended {
            outcome: report.outcome(key.to_ref()),
            resend_at,
        };
    }

    /// Keeps only the newest: an older percentage is of no use to anybody.
    pub(super) fn note_progress(&mut self, percent: u32, step: &str) {
        if matches!(self.stage, Stage::Calling) {
            self.progress_waiting = Some((percent.min(100), text::step(step)));
        }
    }

    /// When the waiting progress may go out; `None` if there is none.
    pub(super) fn progress_due(&self, interval: Duration) -> Option<Duration> {
        self.progress_waiting.as_ref()?;
        Some(
            self.progress_sent_at
                .map_or(Duration::ZERO, |at| at + interval),
        )
    }

    pub(super) fn take_progress(&mut self, key: &AttemptKey, now: Duration) -> Option<Progress> {
        let (percent, step) = self.progress_waiting.take()?;
        self.progress_sent_at = Some(now);
        Some(Progress {
            attempt: Some(key.to_ref()),
            percent,
            step,
        })
    }
}
