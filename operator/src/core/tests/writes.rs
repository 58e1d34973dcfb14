//! A pool goes under its backlog: every job of it needs a note, and the API server leaves the notes open.

use std::sync::atomic::Ordering;

use kinora_protocol::dispatch as wire;
use serde_json::json;
use wire::to_worker::Message;

use super::api::Api;
use super::stage::{self, Stage, Worker, worker_hello};
use super::succeeded;
use crate::ports::Leadership;

/// How many notes are sent at once.
const AT_ONCE: usize = 8;
const REASON: &str = "PoolNotFound";

fn name(n: usize) -> String {
    format!("vj-b-{n}")
}

/// A pool has gone from under so many jobs, while a worker of another is busy.
async fn crowd(jobs: usize) -> (Stage, Worker, wire::Lease) {
    let (api, client) = Api::start().await;
    let queued = json!({"state": "Queued"});
    for n in 0..jobs {
        let uid = format!("5b1f3c52-7a39-4f0f-9d3e-2f2f6d0{n:05}");
        api.put(stage::upload_job(&name(n), &uid, &queued));
    }
    api.hold(Some(REASON));
    let stage = Stage::leading_on((api, client), None, |_| {}).await;
    stage.add_pool("foreign").await;
    let mut worker = stage.connect(worker_hello(), "foreign").await.unwrap();
    put_foreign(&stage, "vj-a-1", stage::JOB);
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    stage.delete_pool().await;
    stage.until("sent", |s| notes(s) >= AT_ONCE).await;
    (stage, worker, lease)
}

fn put_foreign(stage: &Stage, name: &str, uid: &str) {
    let mut job = stage::upload_job(name, uid, &json!({"state": "Queued"}));
    job["spec"]["poolRef"] = json!({"name": "foreign"});
    stage.api.put(job);
}

/// Notes that arrived.
fn notes(stage: &Stage) -> usize {
    let patches = stage.api.patches();
    let reasons = patches.iter().map(reason);
    reasons.filter(|reason| *reason == REASON).count()
}

fn reason(object: &serde_json::Value) -> &serde_json::Value {
    &object["status"]["conditions"][0]["reason"]
}

#[tokio::test]
async fn an_outcome_is_stored_and_acknowledged_while_the_notes_of_another_pool_wait() {
    let (stage, mut worker, lease) = crowd(5000).await;
    worker.say(succeeded(lease.attempt)).await;
    let Message::Ack(ack) = worker.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
    // Its claim and its end, and none of the notes.
    assert_eq!(stage.counters.writes.load(Ordering::Relaxed), 2);
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert!(tasks < 150, "{tasks} tasks");
    // The next attempt does not wait either.
    put_foreign(&stage, "vj-a-2", stage::ATTEMPT_POD);
    assert!(matches!(worker.next().await, Message::Lease(_)));
    assert_eq!(stage.counters.writes.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_job_is_cancelled_or_forgotten_while_its_note_waits_and_the_note_is_never_sent() {
    const JOBS: usize = 250;
    let (stage, _worker, _) = crowd(JOBS).await;
    let (cancelled, removed) = (name(JOBS - 1), name(JOBS - 2));
    let mut job = stage.api.object(&cancelled).unwrap();
    job["spec"]["cancelRequested"] = json!(true);
    job["metadata"]["generation"] = json!(2);
    stage.api.put(job);
    let is_cancelled =
        |s: &Stage| s.api.object(&cancelled).unwrap()["status"]["state"] == "Cancelled";
    stage.until("cancelled", is_cancelled).await;
    stage.api.remove(&removed);
    let told = stage.deleted.lock().await.recv().await.unwrap();
    assert_eq!(told.name, removed);

    stage.api.hold(None);
    let noted = |n: usize| *reason(&stage.api.object(&name(n)).unwrap()) == REASON;
    let all_noted = |_: &Stage| (0..JOBS - 2).all(noted);
    stage.until("noted", all_noted).await;
    let patched = stage.api.patched();
    let of = |name: &String| patched.iter().filter(|patched| *patched == name).count();
    assert_eq!((of(&cancelled), of(&removed)), (1, 0));
}

#[tokio::test]
async fn notes_that_wait_at_the_end_of_a_leadership_are_not_sent() {
    let (stage, mut worker, lease) = crowd(250).await;
    stage.lead(Leadership::Standby {
        leader_address: None,
    });
    worker.over().await;
    let sent = notes(&stage);
    stage.api.hold(None);
    let written = |s: &Stage| s.counters.writes.load(Ordering::Relaxed) > 1;
    stage.until("written", written).await;
    // With its pool back, no job needs one.
    stage.change_pool(|_| {}).await;
    stage.lead(Leadership::Leader);
    let hello = wire::Hello {
        held: lease.attempt.iter().cloned().collect(),
        ..worker_hello()
    };
    let mut worker = stage.connect(hello, "foreign").await.unwrap();
    worker.say(succeeded(lease.attempt)).await;
    assert!(matches!(worker.next().await, Message::Ack(_)));
    assert_eq!(notes(&stage), sent);
}
