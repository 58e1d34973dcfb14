use std::time::Duration;

use kinora_protocol::MAX_RESULT_BYTES;
use serde_json::json;

use super::*;

fn job(state: &str) -> VideoJob {
    serde_json::from_value(json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
        "metadata": {"name": "clip", "managedFields": [{"manager": "kubectl"}]},
        "spec": {"source": {"key": "imports/videos/a"}}, "status": {"state": state},
    }))
    .unwrap()
}

fn memory() -> Memory {
    Memory::new(Terms {
        upload_ttl_floor: Duration::ZERO,
    })
}

/// A worker reports a success with the largest result there can be.
fn report(memory: &mut Memory, n: u128) {
    report_of(memory, n, true);
}

fn report_of(memory: &mut Memory, n: u128, known: bool) {
    let done = wire::Succeeded {
        result_json: "x".repeat(MAX_RESULT_BYTES),
        ..wire::Succeeded::default()
    };
    let outcome = wire::Outcome {
        fact: Some(wire::outcome::Fact::Succeeded(done)),
        ..wire::Outcome::default()
    };
    memory.note_report(of(n), outcome, 512, known);
}

fn of(n: u128) -> (Uid, AttemptId) {
    let attempt = AttemptId {
        job: Uid(n),
        attempt: 1,
    };
    (Uid(n % 7), attempt)
}

/// The store may be away when they succeed, or take outputs and no records: what waits for either has one bound.
#[test]
fn results_are_kept_while_there_is_room_and_each_one_dropped_makes_some() {
    let mut memory = memory();
    let settle = |memory: &mut Memory, n, succeeded| {
        let (worker, attempt) = of(n);
        memory.settle_report(worker, attempt, succeeded)
    };
    let most = u128::try_from(MOST_BYTES / MAX_RESULT_BYTES).unwrap();
    for n in 0..2000 {
        report(&mut memory, n);
        report(&mut memory, n);
    }
    assert_eq!(memory.reports.result_bytes(), MOST_BYTES);
    let (worker, attempt) = of(1999);
    assert!(memory.reports.of(worker, attempt).is_some(), "without it");

    assert!(settle(&mut memory, 0, true));
    assert!(memory.result(Uid(0)).is_some());
    assert!(!settle(&mut memory, most, true), "its record lacks it");
    assert!(settle(&mut memory, most, true), "which is told once");
    assert!(
        settle(&mut memory, most + 1, false),
        "no success, no result"
    );
    report(&mut memory, 2000);
    assert!(!settle(&mut memory, 2000, true), "one waits for its record");

    memory.drop_result(Uid(0));
    memory.drop_result(Uid(0));
    assert!(settle(&mut memory, 1, false));
    for n in 2001..2004 {
        report(&mut memory, n);
    }
    assert!(settle(&mut memory, 2, false));
    // Reported again, one that had no room has it now.
    report(&mut memory, 2003);
    assert!(settle(&mut memory, 3, false));
    report(&mut memory, 2004);
    report(&mut memory, 2005);
    let kept = [2001, 2002, 2003, 2004, 2005].map(|n| settle(&mut memory, n, true));
    assert_eq!(kept, [true, true, true, true, false]);
    let held = memory.reports.result_bytes() + memory.results.bytes();
    assert_eq!(held, MOST_BYTES);
}

/// What a liar says of attempts that are not its own.
#[test]
fn results_of_attempts_that_may_be_nobodys_leave_room_for_others() {
    let mut memory = memory();
    for n in 0..2000 {
        report_of(&mut memory, n, false);
    }
    assert_eq!(memory.reports.result_bytes(), MOST_BYTES / 2);
    report(&mut memory, 2000);
    let (worker, attempt) = of(2000);
    assert!(memory.settle_report(worker, attempt, true));
    assert!(memory.result(attempt.job).is_some());
}

/// The store may be away for hours.
#[test]
fn few_objects_of_ended_jobs_are_kept_however_long_their_records_cannot_be_written() {
    let mut memory = memory();
    let most = u128::try_from(MOST_ENDED).unwrap();
    for n in 0..=most {
        memory.keep_object(Uid(n), job("Running"));
        memory.keep_object(Uid(n), job("Succeeded"));
    }
    memory.keep_object(Uid(most + 1), job("Running"));
    assert_eq!(memory.objects.len(), MOST_ENDED + 1);
    assert_eq!(memory.any_object(Uid(most)), None);
    let running = memory.any_object(Uid(most + 1)).unwrap();
    assert_eq!(running.metadata.managed_fields, None);
    memory.drop_object(Uid(0));
    memory.keep_object(Uid(most), job("Succeeded"));
    assert!(memory.any_object(Uid(most)).is_some());
}
