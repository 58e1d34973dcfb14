//! The status of a VideoJobRedrive. Pure.

use kinora_crds::conditions::{
    Conditions, FINISHED, RECONCILING, STALLED, SUCCEEDED, SUSPENDED, Status, reason,
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
    let message = if !finished {
        String::new()
    } else if redrive.spec.dry_run.unwrap_or(false) {
        "dry run: nothing was brought back".to_owned()
    } else if counts.failed > 0 {
        format!("{} could not be brought back", counts.failed)
    } else {
        String::new()
    };
    let mut all = Conditions::new(generation, now)
        .with(SUCCEEDED, succeeded, why, &message)
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

/// The status of a request that can never be worked on: its selection cannot be read, and cannot be changed.
pub(super) fn unusable(
    redrive: &VideoJobRedrive,
    message: &str,
    now: Time,
) -> VideoJobRedriveStatus {
    let old = redrive.status.clone().unwrap_or_default();
    let why = reason::INVALID_SPEC;
    let all = Conditions::new(redrive.metadata.generation, now)
        .with(SUCCEEDED, Status::False, why, message)
        .with(FINISHED, true, why, "")
        .with(STALLED, true, why, message);
    VideoJobRedriveStatus {
        observed_generation: redrive.metadata.generation,
        conditions: all.carry(&old.conditions),
        ..old
    }
}

/// The status of a request that is over and whose spec was changed since: only what it is about moves. `None`: nothing did.
pub(super) fn observed(redrive: &VideoJobRedrive) -> Option<VideoJobRedriveStatus> {
    let mut status = redrive.status.clone()?;
    let generation = redrive.metadata.generation;
    if status.observed_generation == generation {
        return None;
    }
    status.observed_generation = generation;
    for condition in &mut status.conditions {
        condition.observed_generation = generation;
    }
    Some(status)
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

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use kinora_crds::conditions::find;
    use serde_json::json;

    use super::*;

    fn redrive(spec: &serde_json::Value) -> VideoJobRedrive {
        serde_json::from_value(json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJobRedrive",
            "metadata": {"name": "r", "generation": 3}, "spec": spec, "status": {"observedGeneration": -1},
        }))
        .unwrap()
    }

    fn now() -> Time {
        Time(Timestamp::from_second(1_700_000_000).unwrap())
    }

    /// Type, status and reason of every condition.
    fn shown(status: &VideoJobRedriveStatus) -> Vec<(&str, &str, &str)> {
        let all = status.conditions.iter();
        all.map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect()
    }

    #[test]
    fn conditions_are_those_of_a_job() {
        let plain = redrive(&json!({"selector": {}}));
        let counts = Counts::default();
        let table = [
            (
                Next::GoOn,
                vec![
                    ("Succeeded", "Unknown", "Processing"),
                    ("Finished", "False", "Processing"),
                    ("Reconciling", "True", "Processing"),
                ],
            ),
            (
                Next::Pause,
                vec![
                    ("Succeeded", "Unknown", "Suspended"),
                    ("Finished", "False", "Suspended"),
                    ("Suspended", "True", "Suspended"),
                ],
            ),
            (
                Next::Done,
                vec![
                    ("Succeeded", "True", "Completed"),
                    ("Finished", "True", "Completed"),
                ],
            ),
            (
                Next::Cancelled,
                vec![
                    ("Succeeded", "False", "Cancelled"),
                    ("Finished", "True", "Cancelled"),
                ],
            ),
        ];
        for (step, want) in table {
            let status = build(&plain, counts, None, step, now());
            assert_eq!(shown(&status), want, "{step:?}");
            assert_eq!(status.observed_generation, Some(3), "{step:?}");
        }
    }

    #[test]
    fn the_end_says_what_was_not_done() {
        let dry = redrive(&json!({"selector": {}, "dryRun": true}));
        let plain = redrive(&json!({"selector": {}}));
        let failed = Counts {
            failed: 2,
            ..Counts::default()
        };
        let table = [
            (&dry, failed, "dry run: nothing was brought back"),
            (&plain, failed, "2 could not be brought back"),
            (&plain, Counts::default(), ""),
        ];
        for (redrive, counts, want) in table {
            let status = build(redrive, counts, None, Next::Done, now());
            let succeeded = find(&status.conditions, SUCCEEDED).unwrap();
            assert_eq!(succeeded.message, want);
        }
    }

    #[test]
    fn a_selection_that_cannot_be_read_ends_the_request_as_stalled() {
        let status = unusable(&redrive(&json!({"selector": {}})), "odd", now());
        let want = [
            ("Succeeded", "False", "InvalidSpec"),
            ("Finished", "True", "InvalidSpec"),
            ("Stalled", "True", "InvalidSpec"),
        ];
        assert_eq!(shown(&status), want);
    }

    #[test]
    fn a_change_after_the_end_is_observed_and_nothing_else_moves() {
        let mut ended = redrive(&json!({"selector": {}}));
        ended.status = Some(build(&ended, Counts::default(), None, Next::Done, now()));
        assert_eq!(observed(&ended), None);
        ended.metadata.generation = Some(4);
        let status = observed(&ended).unwrap();
        assert_eq!(status.observed_generation, Some(4));
        let all = status.conditions.iter();
        assert!(all.clone().all(|c| c.observed_generation == Some(4)));
        assert!(all.clone().all(|c| c.last_transition_time == now()));
        assert_eq!(shown(&status), shown(&ended.status.clone().unwrap()));
    }
}
