//! The status of a VideoJobRedrive. Pure.

use kinora_crds::conditions::{
    Conditions, FINISHED, RECONCILING, SUCCEEDED, SUSPENDED, Status, reason,
};
use kinora_crds::{Time, VideoJobRedrive, VideoJobRedriveStatus};
use kinora_engine::redrive::{Counts, Next};

/// The status to store while `step` is what happens.
pub(super) fn build(
    redrive: &VideoJobRedrive,
    counts: Counts,
    cursor: Option<&str>,
    step: Next,
    now: Time,
) -> VideoJobRedriveStatus {
    let old = redrive.status.clone().unwrap_or_default();
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let generation = redrive.metadata.generation;
    let (succeeded, finished, why) = match step {
        Next::GoOn => (Status::Unknown, false, reason::PROCESSING),
        Next::Pause => (Status::Unknown, false, reason::SUSPENDED),
        Next::Cancelled => (Status::False, true, reason::CANCELLED),
        Next::Done => (Status::True, true, reason::COMPLETED),
    };
    let message = if redrive.spec.dry_run.unwrap_or(false) && finished {
        "dry run: nothing was brought back"
    } else {
        ""
    };
    let mut all = Conditions::new(generation, now)
        .with(SUCCEEDED, succeeded, why, message)
        .with(FINISHED, finished, why, "");
    match step {
        Next::GoOn => all = all.with(RECONCILING, true, why, ""),
        Next::Pause => all = all.with(SUSPENDED, true, why, ""),
        Next::Cancelled | Next::Done => {}
    }
    VideoJobRedriveStatus {
        observed_generation: generation,
        matched: number(counts.matched),
        redriven: number(counts.redriven),
        skipped: number(counts.skipped),
        failed: number(counts.failed),
        cursor: cursor.map(str::to_owned),
        conditions: all.carry(&old.conditions),
    }
}

/// Counts that were stored: after a fail-over a request goes on from them.
pub(super) fn counts(redrive: &VideoJobRedrive) -> Counts {
    let status = redrive.status.clone().unwrap_or_default();
    let number = |count: i32| u32::try_from(count).unwrap_or(0);
    Counts {
        matched: number(status.matched),
        redriven: number(status.redriven),
        skipped: number(status.skipped),
        failed: number(status.failed),
    }
}
