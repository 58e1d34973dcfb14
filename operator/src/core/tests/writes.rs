//! Writes that hang hold up no others: notes of a backlog whose pool went, and pods of attempts.

use std::sync::atomic::Ordering;

use kinora_protocol::dispatch as wire;
use serde_json::json;
use wire::to_worker::Message;

use super::api::Api;
use super::stage::{self, Stage, Worker, worker_hello};
use super::succeeded;
use crate::ports::{AttemptKey, Leadership, PodAddress, PodEvent, PoolFacts};

/// How many notes are sent at once.
const AT_ONCE: usize = 8;
const PODS_AT_ONCE: usize = 16;
const REASON: &str = "PoolNotFound";

fn name(n: usize) -> String {
    format!("vj-b-{n}")
}

fn uid(n: usize) -> String {
    format!("5b1f3c52-7a39-4f0f-9d3e-2f2f6d0{n:05}")
}

/// A pool has gone from under so many jobs, while a worker of another is busy.
async fn crowd(jobs: usize) -> (Stage, Worker, wire::Lease) {
    let (api, client) = Api::start().await;
    let queued = json!({"state": "Queued"});
    for n in 0..jobs {
        api.put(stage::upload_job(&name(n), &uid(n), &queued));
    }
    api.hold(Some(REASON));
    let stage = Stage::leading_on((api, client), None, |_| {}).await;
    let (worker, lease) = busy(&stage).await;
    stage.delete_pool().await;
    stage.until("sent", |s| notes(s) >= AT_ONCE).await;
    (stage, worker, lease)
}

/// A worker of another pool, and its lease.
async fn busy(stage: &Stage) -> (Worker, wire::Lease) {
    stage.add_pool("foreign").await;
    let mut worker = stage.connect(worker_hello(), "foreign").await.unwrap();
    put_foreign(stage, "vj-a-1", stage::JOB);
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    (worker, lease)
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

/// As with an admission webhook for pods that hangs.
#[tokio::test]
async fn an_outcome_is_stored_and_acknowledged_while_no_pod_of_another_pool_gets_made() {
    const JOBS: usize = 40;
    let with_pods = |pool: &mut PoolFacts| {
        pool.pod_start_ms = Some(600_000);
        pool.adaptive = false;
    };
    let stage = Stage::leading_with(with_pods).await;
    stage.pods.stick("make");
    let (mut worker, lease) = busy(&stage).await;
    for n in 0..JOBS {
        stage.put_as(&name(n), &uid(n), &json!({"state": "Queued"}));
    }
    let claimed = |s: &Stage| s.counters.writes.load(Ordering::Relaxed) == 1 + JOBS as u64;
    stage.until("claimed", claimed).await;
    worker.say(succeeded(lease.attempt)).await;
    assert!(matches!(worker.next().await, Message::Ack(_)));
    assert_eq!(stage.pods.asked().len(), PODS_AT_ONCE);
}

#[tokio::test]
async fn the_removal_of_a_pod_is_not_asked_for_again_while_it_hangs() {
    const ROUNDS: usize = 5;
    let stage = Stage::leading().await;
    stage.put("vj-a-1", &json!({"state": "Queued", "attempt": 3}));
    let stuck = format!("remove videos/vj-a-1-a1 {}", stage::POD);
    let other = format!("remove videos/vj-a-1-a2 {}", stage::OTHER_POD);
    let asked = |s: &Stage, removal: &String| {
        let asked = s.pods.asked();
        asked.iter().filter(|asked| *asked == removal).count()
    };
    stage.pods.stick(&stuck);
    for round in 1..=ROUNDS {
        // What is shown anew is to be removed with the next tick, the stuck one first.
        show_pod(&stage, 1, stage::POD).await;
        show_pod(&stage, 2, stage::OTHER_POD).await;
        let again = |s: &Stage| asked(s, &other) >= round;
        stage.until("the other is removed", again).await;
    }
    assert_eq!(asked(&stage, &stuck), 1);
}

/// The watch shows a pod of an attempt as one that it has not shown.
async fn show_pod(stage: &Stage, attempt: u32, uid: &str) {
    let pod = PodAddress {
        namespace: "videos".to_owned(),
        name: format!("vj-a-1-a{attempt}"),
        uid: uid.to_owned(),
    };
    let of = AttemptKey {
        job_uid: stage::JOB.to_owned(),
        attempt,
    };
    let deleted = PodEvent::AttemptDeleted {
        pod_uid: uid.to_owned(),
    };
    for event in [deleted, PodEvent::Attempt { pod, of }] {
        stage.pod_events.send(event).await.unwrap();
    }
}
