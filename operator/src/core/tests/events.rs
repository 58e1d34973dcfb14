//! Events as they reach the API server.

use std::sync::atomic::Ordering;

use kinora_protocol::dispatch as wire;
use serde_json::{Value, json};
use tonic::Code;
use wire::to_worker::Message;

use super::stage::{Stage, Worker};
use super::succeeded;

async fn lease(worker: &mut Worker) -> Option<wire::AttemptRef> {
    loop {
        if let Message::Lease(lease) = worker.next().await {
            return lease.attempt;
        }
    }
}

async fn fails_once_and_succeeds(worker: &mut Worker) {
    let attempt = lease(worker).await;
    let failed = wire::Outcome {
        attempt,
        fact: Some(wire::outcome::Fact::Grpc(wire::GrpcStatus {
            code: Code::Internal.into(),
        })),
        message: "ffmpeg fell over".to_owned(),
        ..wire::Outcome::default()
    };
    worker
        .say(wire::from_worker::Message::Outcome(failed))
        .await;
    let attempt = lease(worker).await;
    worker.say(succeeded(attempt)).await;
}

fn reasons(stage: &Stage) -> Vec<Value> {
    let told = stage.api.told();
    told.iter().map(|event| event["reason"].clone()).collect()
}

#[tokio::test]
async fn a_declared_job_is_told_about_when_an_attempt_fails_and_not_when_one_succeeds() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.declare("clip", &json!({"source": {"key": "imports/videos/clip"}}));
    fails_once_and_succeeds(&mut worker).await;
    let state = |stage: &Stage| stage.api.object("clip").unwrap()["status"]["state"].clone();
    stage.until("done", |s| state(s) == "Succeeded").await;
    stage
        .until("told", |s| {
            s.counters.events_posted.load(Ordering::Relaxed) > 0
        })
        .await;
    assert_eq!(reasons(&stage), ["AttemptFailed"]);
    let event = &stage.api.told()[0];
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["regarding"]["name"], "clip");
    let note = event["note"].as_str().unwrap();
    assert!(
        note.starts_with("Failed: ffmpeg fell over (attempt 1"),
        "{note}"
    );
}

#[tokio::test]
async fn an_upload_is_never_told_about() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.create("vj-a-1");
    fails_once_and_succeeds(&mut worker).await;
    stage
        .until("deleted", |s| s.api.object("vj-a-1").is_none())
        .await;
    assert!(stage.api.told().is_empty(), "{:?}", reasons(&stage));
    let dropped = stage.counters.events_dropped.load(Ordering::Relaxed);
    assert_eq!(dropped, 0);
}
