//! `GET /v1/videos/<id>`: waiting for news, tags, and lives after a dead letter.

use futures::future::join_all;
use kinora_storage::documents::{Active, JobRef, Pending, Record, RecordState};
use kinora_storage::{UploadId, keys};
use kinora_uploader::documents;
use serde_json::json;

use crate::harness::{KEY, Replica, STRANGER, World, problem_of, until};

async fn state(answer: reqwest::Response) -> String {
    assert_eq!(answer.status(), 200);
    let video: serde_json::Value = answer.json().await.unwrap();
    video["state"].as_str().unwrap().to_owned()
}

fn set_state(world: &World, id: &str, state: &str) {
    world.jobs.edit(id, |job| {
        job.status.get_or_insert_default().state = state.into();
    });
}

async fn wait(world: &World, replica: &Replica, id: &str, wait: &str) -> reqwest::Response {
    let path = format!("/v1/videos/{id}?wait={wait}");
    world.get(replica, KEY, &path).await
}

#[tokio::test]
async fn all_who_wait_for_a_video_share_one_loop_and_hear_of_its_end() {
    let world = World::new("w1").await;
    let replica = world.replica().await;
    let id = world.upload(&replica, KEY).await;
    let waits = join_all((0..5).map(|_| wait(&world, &replica, &id, "60s")));
    let end = async {
        until("a loop", || replica.app.waits.loops() == 1).await;
        set_state(&world, &id, "Succeeded");
        put_record(&world, &id, RecordState::Succeeded, 0).await;
    };
    let (answers, ()) = tokio::join!(waits, end);
    for answer in answers {
        assert_eq!(state(answer).await, "succeeded");
    }
    until("the loop ends", || replica.app.waits.loops() == 0).await;
}

#[tokio::test]
async fn a_wait_without_news_ends_with_what_is() {
    let world = World::new("w2").await;
    let replica = world.replica().await;
    let id = world.upload(&replica, KEY).await;
    assert_eq!(
        state(wait(&world, &replica, &id, "1s").await).await,
        "queued"
    );
    let path = format!("/v1/videos/{id}?wait=60s");
    let foreign = world.get(&replica, STRANGER, &path).await;
    assert_eq!(problem_of(foreign).await, (404, "not-found".into()));
    for bad in ["0s", "61s", "1", "x"] {
        let refused = problem_of(wait(&world, &replica, &id, bad).await).await;
        assert_eq!(refused, (400, "bad-request".into()), "{bad}");
    }
    // The replica ends: whoever waits is answered.
    let waiting = wait(&world, &replica, &id, "60s");
    let end = async {
        until("a loop", || replica.app.waits.loops() == 1).await;
        replica.app.closing.cancel();
    };
    let (answer, ()) = tokio::join!(waiting, end);
    assert_eq!(state(answer).await, "queued");
}

#[tokio::test]
async fn with_a_tag_any_change_is_news() {
    let world = World::new("w3").await;
    let replica = world.replica().await;
    let id = world.upload(&replica, KEY).await;
    let path = format!("/v1/videos/{id}");
    let first = world.get(&replica, KEY, &path).await;
    let tag = first.headers()["etag"].clone();
    let ask = |path: &str| {
        let request = world.ask(&replica, "GET", path);
        request.header("If-None-Match", tag.clone()).send()
    };
    let same = ask(&path).await.unwrap();
    assert_eq!(
        (same.status().as_u16(), &same.headers()["etag"]),
        (304, &tag)
    );
    let waiting = ask(&format!("{path}?wait=60s"));
    let change = async {
        until("a loop", || replica.app.waits.loops() == 1).await;
        set_state(&world, &id, "Running");
    };
    let (answer, ()) = tokio::join!(waiting, change);
    assert_eq!(state(answer.unwrap()).await, "running");
}

/// covers: S7
#[tokio::test]
async fn no_more_than_200_wait_on_a_replica() {
    let world = World::new("w4").await;
    let replica = world.replica().await;
    let id = world.upload(&replica, KEY).await;
    let waits = join_all((0..201).map(|_| async {
        let answer = wait(&world, &replica, &id, "60s").await;
        if answer.status() == 429 {
            assert!(answer.headers().contains_key("retry-after"));
            let refused = problem_of(answer).await;
            assert_eq!(refused, (429, "too-many-waiters".into()));
            // Now that all the others wait, they may go.
            set_state(&world, &id, "Cancelled");
            put_record(&world, &id, RecordState::Cancelled, 0).await;
            return 1;
        }
        assert_eq!(state(answer).await, "cancelled");
        0
    }));
    assert_eq!(waits.await.into_iter().sum::<u32>(), 1);
    until("the loop ends", || replica.app.waits.loops() == 0).await;
}

/// The operator stores the end before it writes the record.
/// covers: F3
#[tokio::test]
async fn an_end_is_waited_for_until_the_record_of_this_life_is_there_with_the_result() {
    let world = World::new("w7").await;
    let replica = world.replica().await;
    let id = world.upload(&replica, KEY).await;
    world.jobs.edit(&id, |job| {
        let status = job.status.get_or_insert_default();
        status.state = "Succeeded".into();
        status.redrives = 1;
    });
    put_record(&world, &id, RecordState::Failed, 0).await;
    let early = wait(&world, &replica, &id, "1s").await;
    let early: serde_json::Value = early.json().await.unwrap();
    assert_eq!(early["state"], "succeeded");
    assert_eq!(early.get("result"), None);

    until("the loop ends", || replica.app.waits.loops() == 0).await;
    let waiting = wait(&world, &replica, &id, "60s");
    let end = async {
        // An answer that came at once needed none.
        until("a loop", || replica.app.waits.loops() == 1).await;
        put_record(&world, &id, RecordState::Succeeded, 1).await;
    };
    let (answer, ()) = tokio::join!(waiting, end);
    let video: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(video["state"], "succeeded");
    assert_eq!(video["result"], json!({"label": "cat"}));
}

/// The record of a life with so many redrives, with a result, beside the decision.
async fn put_record(world: &World, id: &str, state: RecordState, redrives: i64) {
    let id: UploadId = id.parse().unwrap();
    let active: Active = world.read(&keys::active(&id)).await.unwrap();
    let record = Record {
        state,
        redrives,
        result: Some(json!({"label": "cat"})),
        ..documents::record(&outboxed(&id, &active), false, "", world.store.now())
    };
    world.put(&keys::record_for_upload(&id), &record).await;
}

/// As it was in the outbox.
fn outboxed(id: &UploadId, active: &Active) -> Pending {
    Pending {
        v: 1,
        id: id.clone(),
        owner: active.owner.clone(),
        tenant: active.tenant.clone(),
        profile: active.profile.clone(),
        length: active.size,
        part_size: 8 << 20,
        key: active.key.clone(),
        multipart: None,
        crc: None,
        content_type: None,
        index_key: active.index_key.clone(),
        job: active.job.clone(),
        times: active.times.clone(),
        extra: Default::default(),
    }
}

/// The record of a dead letter, and the decision with so many redrives.
pub(crate) async fn dead_letter(world: &World, id: &UploadId, redrives: Option<i64>) {
    let key = keys::active(id);
    let active: Active = world.read(&key).await.unwrap();
    let pending = outboxed(id, &active);
    let record = Record {
        dead_lettered: true,
        job: Some(JobRef::default()),
        state: RecordState::Failed,
        ..documents::record(&pending, false, "FailuresExhausted", world.store.now())
    };
    world.put(&keys::record_for_upload(id), &record).await;
    match redrives {
        Some(redrives) => world.put(&key, &Active { redrives, ..active }).await,
        None => world.store.delete(&key).await.unwrap(),
    }
}

/// covers: F3
#[tokio::test]
async fn a_dead_letter_that_lives_again_is_seen_alive() {
    let world = World::new("w5").await;
    let replica = world.replica().await;
    // Redrives of the decision, of the job's status, and in the job's annotation.
    let cases = [
        ("a dead letter", None, Some((0, None)), "failed"),
        ("one whose job is gone", None, None, "failed"),
        ("a redriven job", None, Some((1, None)), "running"),
        (
            "a re-created job, not claimed yet",
            None,
            Some((0, Some("1"))),
            "running",
        ),
        (
            "its decision is there, its job not yet",
            Some(1),
            None,
            "stored",
        ),
        (
            "its decision stays a while after its record",
            Some(0),
            None,
            "failed",
        ),
        ("decision and job", Some(1), Some((1, None)), "running"),
    ];
    for (name, decision, job, want) in cases {
        let id = world.upload(&replica, KEY).await;
        dead_letter(&world, &id.parse().unwrap(), decision).await;
        match job {
            None => world.jobs.jobs.lock().unwrap().clear(),
            Some((redrives, annotation)) => world.jobs.edit(&id, |job| {
                let status = job.status.get_or_insert_default();
                let alive = redrives > 0 || annotation.is_some();
                status.state = if alive { "Running" } else { "DeadLettered" }.into();
                status.redrives = redrives;
                let all = job.metadata.annotations.get_or_insert_default();
                all.extend(annotation.map(|a| ("kinora.dev/redrives".to_owned(), a.to_owned())));
            }),
        }
        assert_eq!(world.status(&replica, &id).await["state"], want, "{name}");
    }
    world
        .jobs
        .away
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let id = world.upload(&replica, KEY).await;
    assert_eq!(world.status(&replica, &id).await["state"], "stored");
    dead_letter(&world, &id.parse().unwrap(), Some(0)).await;
    let state = &world.status(&replica, &id).await["state"];
    assert_eq!(state, "failed", "the record is enough, without Kubernetes");
}

#[tokio::test]
async fn every_refusal_is_a_problem_document_and_names_what_is_allowed() {
    let world = World::new("w6").await;
    let replica = world.replica().await;
    let cases = [
        ("GET", "/", 404, "not-found"),
        ("GET", "/v2/videos", 404, "not-found"),
        ("GET", "/v1/videos/%ff", 404, "not-found"),
        (
            "GET",
            "/v1/videos/a-01ARZ3NDEKTSV4RRFFQ69G5FAV",
            404,
            "not-found",
        ),
        ("GET", "/v1/videos/..%2frecords", 404, "not-found"),
        (
            "PUT",
            "/v1/videos/a-01arz3ndektsv4rrffq69g5fav",
            405,
            "method",
        ),
        ("POST", "/v1/videos", 405, "method"),
        ("GET", "/v1/uploads", 405, "method"),
        (
            "GET",
            "/v1/uploads/a-01arz3ndektsv4rrffq69g5fav",
            405,
            "method",
        ),
        ("TRACE", "/v1/videos", 405, "method"),
        ("GET", "/v1/videos?wiat=1s", 400, "bad-request"),
    ];
    for (method, path, status, kind) in cases {
        let answer = world.ask(&replica, method, path).send().await.unwrap();
        let allows = answer.headers().contains_key("allow");
        assert_eq!(allows, status == 405, "{method} {path}");
        let got = problem_of(answer).await;
        assert_eq!(got, (status, kind.to_owned()), "{method} {path}");
    }
}
