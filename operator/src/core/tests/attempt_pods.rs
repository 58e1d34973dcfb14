//! Pods of attempts from end to end: claim, pod, Hello, lease, outcome, removal.

use std::sync::atomic::Ordering;

use kinora_protocol::dispatch as wire;
use serde_json::json;
use wire::to_worker::Message;

use super::stage::{ATTEMPT_POD, Stage, Worker, worker_hello};
use crate::core::seams::Made;
use crate::ports::PodEvent;

async fn stage() -> Stage {
    Stage::leading_with(|pool| pool.pod_start_ms = Some(600_000)).await
}

/// A pod that was made for the first attempt of a job, and its lease.
async fn leased() -> (Stage, Worker, wire::Lease) {
    let stage = stage().await;
    stage.create("vj-a-1");
    stage
        .until("the pod is made", |s| s.pods.asked() == ["make vj-a-1/1"])
        .await;
    let mut worker = stage.connect(worker_hello(), "attempt").await.unwrap();
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    (stage, worker, lease)
}

#[tokio::test]
async fn a_pod_is_made_after_its_claim_gets_the_lease_at_its_hello_and_goes_after_its_outcome() {
    let stage = stage().await;
    stage.create("vj-a-1");
    stage
        .until("the pod is made", |s| s.pods.asked() == ["make vj-a-1/1"])
        .await;
    let status = stage.api.object("vj-a-1").unwrap()["status"].clone();
    assert_eq!(status["state"], "Running");
    assert_eq!(status["worker"], json!({"podName": "vj-a-1-a1"}));

    let mut worker = stage.connect(worker_hello(), "attempt").await.unwrap();
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    let status = stage.api.object("vj-a-1").unwrap()["status"].clone();
    assert_eq!(status["worker"]["podUID"], ATTEMPT_POD);
    assert_eq!(status["attempt"], 1);

    let done = wire::Outcome {
        attempt: lease.attempt,
        fact: Some(wire::outcome::Fact::Succeeded(wire::Succeeded::default())),
        ..wire::Outcome::default()
    };
    worker.say(wire::from_worker::Message::Outcome(done)).await;
    assert!(matches!(worker.next().await, Message::Ack(_)));
    let gone = format!("remove videos/vj-a-1-a1 {ATTEMPT_POD}");
    stage
        .until("the pod is removed", |s| s.pods.asked().contains(&gone))
        .await;
}

#[tokio::test]
async fn a_pod_that_ended_by_itself_is_removed_after_the_claim_of_its_attempt() {
    let (stage, _worker, _) = leased().await;
    let died = PodEvent::Gone {
        pod_uid: ATTEMPT_POD.to_owned(),
        by_itself: true,
    };
    stage.pod_events.send(died).await.unwrap();
    let gone = format!("remove videos/vj-a-1-a1 {ATTEMPT_POD}");
    stage
        .until("the pod is removed", |s| s.pods.asked().contains(&gone))
        .await;
}

/// Its Hello was heard after the watch had shown its end: without an answer it would be removed for ever.
#[tokio::test]
async fn a_pod_that_is_not_there_to_be_removed_is_forgotten() {
    let (stage, _worker, _) = leased().await;
    let known = |s: &Stage| s.counters.attempt_pods.load(Ordering::Relaxed);
    stage.until("it is known", |s| known(s) == 1).await;
    stage.pods.answer(Made::No("missing".to_owned()));
    stage.api.remove("vj-a-1");
    stage.until("it is forgotten", |s| known(s) == 0).await;
}

/// covers: S11
#[tokio::test]
async fn a_pod_that_cannot_be_made_leaves_the_job_waiting_and_uncharged() {
    let stage = stage().await;
    stage.pods.answer(Made::No("over quota".to_owned()));
    stage.create("vj-a-1");
    stage
        .until("the job waits", |s| {
            let status = s.api.object("vj-a-1").unwrap()["status"].clone();
            status["state"] == "Backoff"
                && status["failures"].is_null()
                && status["lastFailure"]["reason"] == "PodNotStarted"
        })
        .await;
}

/// Its stream may end with a leader: it is heard again, though its pool went meanwhile.
#[tokio::test]
async fn a_pod_whose_pool_was_deleted_comes_back_with_its_call_and_succeeds() {
    let (stage, worker, lease) = leased().await;
    stage.delete_pool().await;
    drop(worker);
    let hello = wire::Hello {
        held: lease.attempt.clone().into_iter().collect(),
        ..worker_hello()
    };
    let mut worker = stage.connect(hello, "attempt").await.unwrap();
    let done = wire::Outcome {
        attempt: lease.attempt,
        fact: Some(wire::outcome::Fact::Succeeded(wire::Succeeded::default())),
        ..wire::Outcome::default()
    };
    worker.say(wire::from_worker::Message::Outcome(done)).await;
    let Message::Ack(ack) = worker.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
    let patches = stage.api.patches();
    let is_end = |patch: &serde_json::Value| patch["status"]["state"] == "Succeeded";
    assert!(patches.iter().any(is_end), "{patches:?}");
}
