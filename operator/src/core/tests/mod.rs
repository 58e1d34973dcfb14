//! The core from end to end: an API server in memory, a worker over the real protocol, a store that remembers what it was asked.

mod api;
mod archive;
mod attempt_pods;
mod conflicts;
#[path = "../../../tests/shared/contract.rs"]
mod contract;
mod drain;
mod events;
mod hostile;
mod outputs;
mod poison;
mod rewind;
mod server;
mod stage;
mod tracing;
mod writes;

use std::sync::atomic::Ordering;

use kinora_protocol::dispatch as wire;
use serde_json::json;
use tonic::Code;
use wire::to_worker::Message;

use crate::ports::{Leadership, Redrive};
use api::Fault;
use stage::{Stage, worker_hello};

fn succeeded(attempt: Option<wire::AttemptRef>) -> wire::from_worker::Message {
    let done = wire::Succeeded {
        outputs: Vec::new(),
        result_json: "{\"label\":\"cat\"}".to_owned(),
    };
    succeeded_with(attempt, done)
}

fn succeeded_with(
    attempt: Option<wire::AttemptRef>,
    done: wire::Succeeded,
) -> wire::from_worker::Message {
    wire::from_worker::Message::Outcome(wire::Outcome {
        attempt,
        fact: Some(wire::outcome::Fact::Succeeded(done)),
        ..wire::Outcome::default()
    })
}

#[tokio::test]
async fn a_job_goes_from_create_to_its_end_in_two_status_writes_and_is_deleted_after_its_record() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.create("vj-a-1");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    assert_eq!(lease.name, "videos/vj-a-1");
    assert_eq!(lease.idempotency_key, format!("{}.0", stage::JOB));
    assert_eq!(lease.source_url, "https://store/get");
    assert_eq!(lease.outputs[0].name, "video");
    assert_eq!(lease.timeout_ms, 60_000);
    assert_eq!(stage.api.object("vj-a-1").unwrap()["status"]["attempt"], 1);

    worker.say(succeeded(lease.attempt)).await;
    let Message::Ack(ack) = worker.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
    stage
        .until("deleted", |s| s.api.object("vj-a-1").is_none())
        .await;
    assert_eq!(stage.api.patches().len(), 2);
    assert_eq!(
        stage.asked(),
        [
            "outputs",
            "write record {\"label\":\"cat\"}",
            "clean",
            "read record"
        ]
    );
    let options = &stage.api.deletes()[0]["preconditions"];
    assert!(options["uid"].is_string() && options["resourceVersion"].is_string());
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_read_and_only_dated_anew() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.api.fault(Fault::LoseAnswer);
    stage.create("vj-a-1");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    assert_eq!(lease.attempt.unwrap().attempt, 1);
    let patches = stage.api.patches();
    assert_eq!(patches.len(), 2, "{patches:?}");
    let started = |patch: &serde_json::Value| patch["status"]["startTime"].clone();
    assert_ne!(started(&patches[0]), started(&patches[1]));
}

#[tokio::test]
async fn a_claim_that_was_overtaken_is_decided_again_from_what_is_stored() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.api.fault(Fault::Overtake);
    stage.create("vj-a-1");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    assert_eq!(lease.attempt.unwrap().attempt, 1);
    assert_eq!(stage.api.patches().len(), 2);
}

/// The stage's store has three bytes of every output.
/// covers: F43
#[tokio::test]
async fn a_torn_output_is_a_failed_attempt_and_a_whole_one_is_accepted() {
    for (size_bytes, want_state) in [(4, "Backoff"), (3, "Succeeded")] {
        let stage = Stage::leading_with(|pool| pool.backoff_base_ms = 3_600_000).await;
        let mut worker = stage.worker().await;
        stage.create("vj-a-1");
        let Message::Lease(lease) = worker.next().await else {
            panic!("a lease");
        };
        let made = wire::OutputResult {
            name: "video".to_owned(),
            size_bytes,
            ..wire::OutputResult::default()
        };
        let done = wire::Succeeded {
            outputs: vec![made],
            ..wire::Succeeded::default()
        };
        let outcome = wire::Outcome {
            attempt: lease.attempt,
            fact: Some(wire::outcome::Fact::Succeeded(done)),
            ..wire::Outcome::default()
        };
        worker
            .say(wire::from_worker::Message::Outcome(outcome))
            .await;
        assert!(matches!(worker.next().await, Message::Ack(_)));
        let status = stage.api.patches()[1]["status"].clone();
        assert_eq!(status["state"], want_state, "{status}");
        if want_state == "Backoff" {
            assert_eq!(status["failures"], 1);
            assert_eq!(status["lastFailure"]["reason"], "OutputsDiffer");
        }
    }
}

/// covers: F48
#[tokio::test]
async fn more_outputs_than_a_status_can_hold_are_a_failed_attempt() {
    for (own, want_state) in [(16, "Backoff"), (15, "Succeeded")] {
        let stage = Stage::leading_with(|pool| pool.backoff_base_ms = 3_600_000).await;
        let mut worker = stage.worker().await;
        stage.create("vj-a-1");
        let Message::Lease(lease) = worker.next().await else {
            panic!("a lease");
        };
        let kept = |n| wire::OutputResult {
            name: format!("own-{n}"),
            uri: format!("https://service/{n}"),
            ..wire::OutputResult::default()
        };
        let done = wire::Succeeded {
            outputs: (0..own).map(kept).collect(),
            ..wire::Succeeded::default()
        };
        worker.say(succeeded_with(lease.attempt, done)).await;
        assert!(matches!(worker.next().await, Message::Ack(_)));
        let status = stage.api.patches()[1]["status"].clone();
        assert_eq!(status["state"], want_state, "{status}");
        if want_state == "Backoff" {
            assert_eq!(status["lastFailure"]["reason"], "TooManyOutputs");
        } else {
            assert_eq!(status["outputs"].as_array().unwrap().len(), 16);
        }
    }
}

#[tokio::test]
async fn a_change_of_a_job_that_ended_is_no_second_end() {
    let stage = Stage::leading().await;
    stage.store_away();
    let mut worker = stage.worker().await;
    stage.create("vj-a-1");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    worker.say(succeeded(lease.attempt)).await;
    assert!(matches!(worker.next().await, Message::Ack(_)));
    let mut job = stage.api.object("vj-a-1").unwrap();
    job["spec"]["priority"] = json!(1);
    job["metadata"]["generation"] = json!(2);
    stage.api.put(job);
    let observed = |s: &Stage| s.api.object("vj-a-1").unwrap()["status"]["observedGeneration"] == 2;
    stage.until("observed", observed).await;
    // Whatever that write led to is done before the next job's lease is out.
    stage.put_as("vj-a-2", stage::OTHER_POD, &json!({"state": "Queued"}));
    assert!(matches!(worker.next().await, Message::Lease(_)));
    let ended = &stage.counters.succeeded;
    assert_eq!(ended.load(Ordering::Relaxed), 1);
}

/// covers: F24
#[tokio::test]
async fn a_result_that_comes_while_etcd_is_full_is_stored_when_it_is_not_and_costs_nothing() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.create("vj-a-1");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    stage.api.no_space(true);
    worker.say(succeeded(lease.attempt)).await;
    let tries = |s: &Stage| s.api.patches().len() - 1;
    stage.until("tried", |s| tries(s) >= 3).await;
    let unknown = &stage.counters.unknown_writes;
    assert!(unknown.load(Ordering::Relaxed) >= 2);
    assert_eq!(
        stage.api.object("vj-a-1").unwrap()["status"]["state"],
        "Running"
    );

    stage.api.no_space(false);
    let Message::Ack(ack) = worker.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
    let last = stage.api.patches().pop().unwrap();
    assert_eq!(last["status"]["state"], "Succeeded");
    assert!(last["status"].get("failures").is_none(), "{last}");
}

#[tokio::test]
async fn a_cancel_is_stored_and_then_told_to_the_worker() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.create("vj-a-1");
    assert!(matches!(worker.next().await, Message::Lease(_)));
    let mut job = stage.api.object("vj-a-1").unwrap();
    job["spec"]["cancelRequested"] = json!(true);
    job["metadata"]["generation"] = json!(2);
    stage.api.put(job);
    assert!(matches!(worker.next().await, Message::Cancel(_)));
    let status = &stage.api.object("vj-a-1").unwrap()["status"];
    assert_eq!(status["state"], "Cancelled");
    assert_eq!(status["observedGeneration"], 2);
}

/// covers: I4
#[tokio::test]
async fn a_dead_letter_is_brought_back_after_its_active_entry_and_keeps_its_fence() {
    let stage = Stage::with_a_dead_letter().await;
    let by = "5b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a22";
    let outcome = stage
        .redrive("3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a11", by)
        .await;
    assert_eq!(outcome, Redrive::Done);
    assert_eq!(stage.asked().last().unwrap(), "reactivate 1");
    let status = stage.api.object("vj-a-1").unwrap()["status"].clone();
    let want = json!({"state": "Queued", "attempt": 4, "redrives": 1, "redrivenBy": by});
    for (field, value) in want.as_object().unwrap() {
        assert_eq!(status[field], *value, "{field}");
    }
    for field in ["failures", "interruptions", "finishTime", "durationSeconds"] {
        assert_eq!(status.get(field), None, "{field} is of the old life");
    }
    let mut worker = stage.worker().await;
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    assert_eq!(lease.attempt.unwrap().attempt, 5);
    assert_eq!(lease.idempotency_key, format!("{}.1", stage::JOB));
}

/// Whoever asked reads that it failed: the audit must not do it some day.
#[tokio::test]
async fn of_a_dead_letter_that_the_api_server_refuses_no_active_entry_stays() {
    let stage = Stage::with_a_dead_letter().await;
    stage.api.refuse("vj-a-1");
    let by = "5b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a22";
    let outcome = stage
        .redrive("3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a11", by)
        .await;
    assert_eq!(outcome, Redrive::Refused);
    stage
        .until("taken back", |s| {
            s.asked().last().is_some_and(|last| last == "take back 1")
        })
        .await;
}

#[tokio::test]
async fn the_deletion_of_an_open_upload_is_passed_on_to_be_judged() {
    let stage = Stage::leading().await;
    stage.create("vj-a-1");
    let mut worker = stage.worker().await;
    assert!(matches!(worker.next().await, Message::Lease(_)));
    stage.api.remove("vj-a-1");
    let deletion = stage.deleted.lock().await.recv().await.unwrap();
    assert_eq!((deletion.name.as_str(), deletion.redrives), ("vj-a-1", 0));
    assert!(matches!(worker.next().await, Message::Cancel(_)));
}

#[tokio::test]
async fn a_deletion_that_a_write_meets_before_the_watch_shows_it_is_judged_as_any() {
    let stage = Stage::leading().await;
    stage.create("vj-a-1");
    let mut worker = stage.worker().await;
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    let deleted = stage.api.remove_unseen("vj-a-1");
    worker.say(succeeded(lease.attempt)).await;
    // The outcome is nobody's any more.
    assert!(matches!(
        worker.next().await,
        Message::Ack(_) | Message::Cancel(_)
    ));
    stage.api.show_deleted(&deleted);
    let told = stage.deleted.lock().await.recv().await.unwrap();
    assert_eq!(told.name, "vj-a-1");
}

/// Somebody deletes the namespace in the middle of an outage. covers: F32
#[tokio::test]
async fn a_job_whose_record_cannot_be_written_does_not_keep_its_namespace_from_going() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.store_away();
    stage.create("vj-a-1");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    worker.say(succeeded(lease.attempt)).await;
    assert!(matches!(worker.next().await, Message::Ack(_)));
    let tried = |s: &Stage| {
        s.asked()
            .iter()
            .any(|asked| asked.starts_with("write record"))
    };
    stage.until("tried", tried).await;
    let object = stage.api.object("vj-a-1").unwrap();
    assert!(object["metadata"]["finalizers"].is_null(), "{object}");
    stage.api.remove("vj-a-1");
    assert_eq!(stage.api.object("vj-a-1"), None);
    // The core has forgotten it, too: its worker gets the next one.
    stage.put_as("vj-a-2", stage::OTHER_POD, &json!({"state": "Queued"}));
    assert!(matches!(worker.next().await, Message::Lease(_)));
    assert_eq!(stage.api.deletes(), Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn a_heartbeat_is_echoed_and_a_standby_sends_workers_to_the_leader() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    let beat = wire::Heartbeat {
        seq: 7,
        ..wire::Heartbeat::default()
    };
    worker
        .say(wire::from_worker::Message::Heartbeat(beat))
        .await;
    assert_eq!(worker.next().await, Message::Beat(wire::Beat { seq: 7 }));

    stage.lead(Leadership::Standby {
        leader_address: Some("10.0.0.9:8443".into()),
    });
    let status = worker.end().await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(
        status.metadata().get("kinora-leader").unwrap(),
        "10.0.0.9:8443"
    );
    let refused = stage.connect(worker_hello(), "good").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_stranger_and_another_version_are_refused() {
    let stage = Stage::leading().await;
    let refused = stage.connect(worker_hello(), "bad").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let newer = wire::Hello {
        protocol_version: 99,
        ..worker_hello()
    };
    let refused = stage.connect(newer, "good").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
