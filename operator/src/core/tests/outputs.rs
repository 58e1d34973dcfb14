//! Which outputs must be in the store before an attempt has succeeded, while its pool changes or goes.

use kinora_protocol::dispatch as wire;
use serde_json::{Value, json};
use wire::to_worker::Message;

use super::stage::{JOB, POD, Stage, Worker, worker_hello};
use super::{succeeded, succeeded_with};
use crate::ports::PoolFacts;

async fn leased(stage: &Stage) -> (Worker, Option<wire::AttemptRef>) {
    let mut worker = stage.worker().await;
    stage.create("vj-a-1");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    (worker, lease.attempt)
}

/// What is stored once the service said that it made these.
async fn ends(
    stage: &Stage,
    worker: &mut Worker,
    attempt: Option<wire::AttemptRef>,
    made: &[&str],
) -> Value {
    let made = made.iter().map(|name| wire::OutputResult {
        name: (*name).to_owned(),
        ..wire::OutputResult::default()
    });
    let done = wire::Succeeded {
        outputs: made.collect(),
        ..wire::Succeeded::default()
    };
    worker.say(succeeded_with(attempt, done)).await;
    let Message::Ack(ack) = worker.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
    let mut ends = stage.api.patches().into_iter().rev();
    let is_end = |patch: &Value| patch["status"]["state"] != Value::Null;
    ends.find(is_end).unwrap()["status"].clone()
}

fn names(status: &Value) -> Vec<&str> {
    let outputs = status["outputs"].as_array().into_iter().flatten();
    outputs.filter_map(|o| o["name"].as_str()).collect()
}

/// covers: F43
#[tokio::test]
async fn an_attempt_whose_pool_is_deleted_succeeds_with_the_outputs_of_its_lease() {
    let stage = Stage::leading().await;
    let (mut worker, attempt) = leased(&stage).await;
    stage.delete_pool().await;
    let status = ends(&stage, &mut worker, attempt, &["video"]).await;
    assert_eq!(status["state"], "Succeeded");
    assert_eq!(names(&status), ["video"]);
}

/// covers: F43
#[tokio::test]
async fn an_output_that_a_pool_gets_while_an_attempt_runs_is_not_missing_from_it() {
    let stage = Stage::leading().await;
    let (mut worker, attempt) = leased(&stage).await;
    let more = |pool: &mut PoolFacts| pool.outputs.push("thumb".to_owned());
    stage.change_pool(more).await;
    stage.lose("thumb");
    let status = ends(&stage, &mut worker, attempt, &["video"]).await;
    assert_eq!(status["state"], "Succeeded");
    assert_eq!(status.get("failures"), None, "{status}");
    assert_eq!(names(&status), ["video"]);
}

/// The lease was another leader's.
/// covers: F43
#[tokio::test]
async fn an_adopted_attempt_is_asked_for_its_pools_outputs_or_for_those_it_names() {
    // What no pool can name is never looked for: it could lead out of the attempt's prefix.
    let named: [&[&str]; 2] = [&["thumb"], &["thumb", "../thumb", ".."]];
    for (is_deleted, made, want) in [(false, named[0], ["video"]), (true, named[1], ["thumb"])] {
        let stage = Stage::leading().await;
        if is_deleted {
            stage.delete_pool().await;
        }
        stage.put(
            "vj-a-1",
            &json!({"observedGeneration": 1, "state": "Running", "attempt": 1, "poolName": "default",
                    "startTime": jiff::Timestamp::now().to_string(), "worker": {"podUID": POD}}),
        );
        let attempt = wire::AttemptRef {
            job_uid: JOB.to_owned(),
            attempt: 1,
        };
        let hello = wire::Hello {
            held: vec![attempt.clone()],
            ..worker_hello()
        };
        let mut worker = stage.connect(hello, "good").await.unwrap();
        let status = ends(&stage, &mut worker, Some(attempt), made).await;
        assert_eq!(status["state"], "Succeeded", "{status}");
        assert_eq!(names(&status), want);
    }
}

#[tokio::test]
async fn what_the_service_returned_without_its_outputs_is_in_no_record() {
    let stage = Stage::leading_with(|pool| pool.max_failures = 1).await;
    let (mut worker, attempt) = leased(&stage).await;
    stage.lose("video");
    worker.say(succeeded(attempt)).await;
    let Message::Ack(ack) = worker.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
    let record = |asked: &String| asked.starts_with("write record");
    let written = |s: &Stage| s.asked().into_iter().find(record);
    stage.until("recorded", |s| written(s).is_some()).await;
    assert_eq!(written(&stage).unwrap(), "write record ");
}
