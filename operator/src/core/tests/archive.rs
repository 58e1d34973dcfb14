//! A new leader looks for the records of all ended jobs, and the store leaves those looks open.

use std::sync::atomic::Ordering;

use kinora_protocol::dispatch as wire;
use serde_json::{Value, json};
use wire::to_worker::Message;

use super::api::Api;
use super::stage::{self, Stage};
use super::succeeded;
use crate::ports::{Leadership, Redrive};

/// How many of those looks run at once.
const AT_ONCE: usize = 8;

fn ended(state: &str, success: &str) -> Value {
    let end = json!({"type": "Succeeded", "status": success, "reason": "Completed", "message": "",
                     "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({"observedGeneration": 1, "state": state, "attempt": 1,
           "finishTime": jiff::Timestamp::now().to_string(), "conditions": [end]})
}

fn uid(n: usize) -> String {
    format!("5b1f3c52-7a39-4f0f-9d3e-2f2f6d0{n:05}")
}

fn looks(stage: &Stage) -> usize {
    let asked = stage.asked();
    asked.iter().filter(|a| *a == "read record").count()
}

/// As many jobs that ended as no store answers for.
async fn crowd(stage: &Stage) {
    stage.stick(Some("read record"));
    for n in 0..50 {
        stage.put_as(&format!("vj-b-{n}"), &uid(n), &ended("Succeeded", "True"));
    }
    stage.until("asked", |s| looks(s) >= AT_ONCE).await;
}

#[tokio::test]
async fn an_attempt_that_ends_does_not_wait_for_the_records_of_jobs_that_ended_long_ago() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.create("vj-a-1");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    crowd(&stage).await;
    worker.say(succeeded(lease.attempt)).await;
    let Message::Ack(ack) = worker.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
    // Nor does its own record.
    let cleaned = |s: &Stage| s.asked().contains(&"clean".to_owned());
    stage.until("filed", cleaned).await;
}

#[tokio::test]
async fn a_job_that_came_late_to_its_first_claim_does_not_wait_for_them_either() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    crowd(&stage).await;
    let mut late = stage::upload_job("vj-a-1", stage::OTHER_POD, &json!({"state": "Queued"}));
    late["metadata"]["annotations"]["kinora.dev/outbox-time"] = json!("2026-01-01T00:00:00Z");
    stage.api.put(late);
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    assert_eq!(lease.name, "videos/vj-a-1");
    assert!(stage.asked().contains(&"seek record".to_owned()));
}

#[tokio::test]
async fn a_dead_letter_that_somebody_wants_back_waits_for_none_of_them() {
    let stage = Stage::leading().await;
    crowd(&stage).await;
    let counted = &stage.counters.archive_pending;
    stage.put("vj-a-1", &ended("DeadLettered", "False"));
    // Its look has joined the others.
    stage
        .until("waiting", |_| counted.load(Ordering::Relaxed) == 51)
        .await;
    let by = "5b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a22";
    let outcome = stage.redrive(stage::JOB, by).await;
    assert_eq!(outcome, Redrive::Done);
}

#[tokio::test]
async fn looks_for_more_records_than_may_run_make_no_tasks_and_end_with_the_leadership() {
    const JOBS: usize = 300;
    let (api, client) = Api::start().await;
    for n in 0..JOBS {
        let status = ended("Succeeded", "True");
        api.put(stage::upload_job(&format!("vj-b-{n}"), &uid(n), &status));
    }
    let stage = Stage::leading_on((api, client), Some("read record"), |_| {}).await;
    let counted = &stage.counters.archive_pending;
    let pending = |want: usize| move |_: &Stage| counted.load(Ordering::Relaxed) == want as u64;
    stage.until("waiting", pending(JOBS)).await;
    let standby = Leadership::Standby {
        leader_address: None,
    };
    stage.lead(standby);
    stage.until("standing by", pending(0)).await;
    stage.lead(Leadership::Leader);
    stage.until("waiting again", pending(JOBS)).await;
    assert_eq!(looks(&stage), AT_ONCE);
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert!(tasks < 100, "{tasks} tasks");
    // Those that waited at the end of the first time are of no use to the second.
    stage.stick(None);
    let confirmed = |s: &Stage| s.api.deletes().len() == JOBS;
    stage.until("gone", confirmed).await;
    assert_eq!(looks(&stage), AT_ONCE + 2 * JOBS);
}
