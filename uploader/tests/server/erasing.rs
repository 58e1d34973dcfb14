//! `POST /v1/videos/<id>/erase`: by policy, after the end, and for good. covers: F55, S20

use std::sync::atomic::Ordering;

use kinora_fake_s3::{BUCKET, Behaviour, FakeS3, Fault, Op, Rule};
use kinora_storage::documents::{Active, JobRef, Output, Record, RecordState};
use kinora_storage::{PutOptions, StoreArgs, UploadId, keys};
use kinora_uploader::drive::Driver;
use kinora_uploader::erase::{AuditLine, Carried, ErasePolicy, Erasure, Happened, carry_out};
use kinora_uploader::sweep::{Ages, sweep_erasures, sweep_outbox, sweep_states};
use serde_json::json;

use crate::harness::{KEY, Replica, World, id_of, problem_of, video};

pub(crate) const ERASER: &str = "eraser.secret";
const OWNER: &str = "owner.secret";

pub(crate) async fn world(cell: &str, policy: ErasePolicy) -> (World, Replica) {
    erasers(World::new(cell).await, policy).await
}

/// Those who may erase, in a world on any store.
pub(crate) async fn erasers(mut world: World, policy: ErasePolicy) -> (World, Replica) {
    world.admit("eraser", "acme", &["kinora:erase", "kinora:tenant"]);
    world.admit("owner", "acme", &["kinora:erase", "kinora:upload"]);
    world.admit("rival", "rival", &["kinora:erase", "kinora:tenant"]);
    world.args.erase = policy;
    let replica = world.replica().await;
    (world, replica)
}

pub(crate) async fn erase(
    world: &World,
    replica: &Replica,
    key: &str,
    id: &str,
) -> reqwest::Response {
    let url = format!("{}/v1/videos/{id}/erase", replica.base);
    let request = world.http.post(url).bearer_auth(key);
    let request = request.header("Content-Type", "application/json");
    let body = json!({"reason": "request 4711"}).to_string();
    request.body(body).send().await.unwrap()
}

pub(crate) async fn erasure(answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let answer: serde_json::Value = answer.json().await.unwrap();
    (
        status,
        answer["erasure"].as_str().unwrap_or_default().to_owned(),
    )
}

pub(crate) async fn audit_lines(world: &World, id: &str) -> Vec<AuditLine> {
    let page = world.store.list("audit/erase/", None, 1000).await.unwrap();
    assert!(page.next.is_none());
    let mut lines = Vec::new();
    for entry in page.entries.iter().filter(|entry| entry.key.contains(id)) {
        let line: AuditLine = world.read(&entry.key).await.unwrap();
        assert_eq!(line.reason, "request 4711");
        lines.push(line);
    }
    // Two of one second may be named in either order: the store tells its time in seconds.
    lines.sort_by_key(|line| line.happened != Happened::Requested);
    lines
}

async fn audited(world: &World, id: &str) -> Vec<Happened> {
    let lines = audit_lines(world, id).await;
    lines.iter().map(|line| line.happened).collect()
}

/// The end of a video, as the operator leaves it: a record with an output.
pub(crate) async fn succeed(world: &World, id: &UploadId) -> String {
    let active: Active = world.read(&keys::active(id)).await.unwrap();
    // All tests have one bucket.
    let uid = format!("uid-{id}");
    let output = format!("{}1-0a1b2c3d/video", keys::outputs_of_job(id.day(), &uid));
    let put = world
        .store
        .put(&output, "made".into(), PutOptions::default());
    put.await.unwrap();
    let record: Record = serde_json::from_value(json!({
        "v": 1, "id": id.as_str(), "owner": active.owner, "tenant": active.tenant, "state": "succeeded",
        "reason": "Completed", "key": active.key, "size": active.size, "attempts": 1,
        "indexKey": active.index_key, "result": {"faces": ["jane"]},
    }))
    .unwrap();
    let record = Record {
        job: Some(JobRef {
            uid,
            ..JobRef::default()
        }),
        outputs: vec![Output {
            name: "video".into(),
            uri: output.clone(),
            ..Output::default()
        }],
        ..record
    };
    world.put(&keys::record_for_upload(id), &record).await;
    world.store.delete(&keys::active(id)).await.unwrap();
    output
}

pub(crate) async fn all_is_gone(world: &World, id: &UploadId, more: &[&str]) {
    for key in [
        keys::video(id),
        keys::active(id),
        keys::pending(id),
        keys::state(id),
    ] {
        assert!(!world.exists(&key).await, "{key}");
    }
    for key in more {
        assert!(!world.exists(key).await, "{key}");
    }
    let record: Record = world.read(&keys::record_for_upload(id)).await.unwrap();
    assert!(record.is_tombstone(), "{record:?}");
    assert_eq!((record.owner, record.result), (None, None));
}

#[tokio::test]
async fn a_video_at_its_end_is_erased_at_once_and_for_good() {
    let (world, replica) = world("e1", ErasePolicy::Allow).await;
    let id = world.upload(&replica, OWNER).await;
    let upload: UploadId = id.parse().unwrap();
    let index = keys::user_index(&keys::owner_hash("apikey", "owner"), &upload);
    world.gone(&keys::pending(&upload)).await;
    let output = succeed(&world, &upload).await;
    assert!(world.exists(&index).await);

    let refused = erase(&world, &replica, KEY, &id).await;
    assert_eq!(problem_of(refused).await, (403, "missing-scope".into()));
    let foreign = erase(&world, &replica, "rival.secret", &id).await;
    assert_eq!(problem_of(foreign).await, (404, "not-found".into()));
    let path = format!("/v1/videos/{id}/erase");
    let bad = world
        .http
        .post(format!("{}{path}", replica.base))
        .bearer_auth(ERASER);
    let bad = bad
        .header("Content-Type", "application/json")
        .body("{}")
        .send()
        .await;
    assert_eq!(problem_of(bad.unwrap()).await, (400, "bad-request".into()));
    assert!(world.exists(&output).await, "nothing has happened so far");

    let done = erasure(erase(&world, &replica, OWNER, &id).await).await;
    assert_eq!(done, (200, "erased".into()));
    all_is_gone(&world, &upload, &[&output, &index]).await;
    let again = erasure(erase(&world, &replica, ERASER, &id).await).await;
    assert_eq!(again, (200, "erased".into()));
    let gone = world
        .get(&replica, ERASER, &format!("/v1/videos/{id}"))
        .await;
    assert_eq!(problem_of(gone).await, (410, "erased".into()));
    let unknown = world
        .get(&replica, OWNER, &format!("/v1/videos/{id}"))
        .await;
    assert_eq!(unknown.status(), 404, "whose it was is not known any more");
    let lines = audited(&world, &id).await;
    assert_eq!(lines, [Happened::Requested, Happened::Erased]);

    // A worker that was cut off writes late; the sweep looks once more.
    let put = world
        .store
        .put(&output, "late".into(), PutOptions::default());
    put.await.unwrap();
    assert_eq!(sweep_erasures(&replica.app, 3_600_000).await.forgotten, 0);
    assert_eq!(sweep_erasures(&replica.app, 0).await.forgotten, 1);
    all_is_gone(&world, &upload, &[&output, &keys::erasure(&upload)]).await;
    assert_eq!(sweep_outbox(&replica.app, 0).await.finished, 0);
}

#[tokio::test]
async fn a_running_video_is_cancelled_first_and_erased_once_it_is_at_its_end() {
    let (world, replica) = world("e2", ErasePolicy::Allow).await;
    let id = world.upload(&replica, OWNER).await;
    let upload: UploadId = id.parse().unwrap();
    world.gone(&keys::pending(&upload)).await;
    let wished = erasure(erase(&world, &replica, ERASER, &id).await).await;
    assert_eq!(wished, (202, "pending".into()));
    assert_eq!(
        world.jobs.job(&id).unwrap().spec.cancel_requested,
        Some(true)
    );
    assert_eq!(sweep_erasures(&replica.app, 0).await.waiting, 1);
    assert!(world.video(&id).await.is_some(), "it still runs");

    let output = succeed(&world, &upload).await;
    assert_eq!(sweep_erasures(&replica.app, 0).await.erased, 1);
    all_is_gone(&world, &upload, &[&output]).await;
    assert_eq!(
        audited(&world, &id).await,
        [Happened::Requested, Happened::Erased]
    );
}

/// A dead letter that was redriven is not at its end, whatever its record says.
/// Two carry it out, and the one that buries the record breaks off: what the record named is not forgotten.
#[tokio::test]
async fn a_carrier_that_comes_upon_the_tombstone_of_another_removes_what_the_record_named() {
    let (world, replica) = world("e6", ErasePolicy::Defer).await;
    let id = world.upload(&replica, OWNER).await;
    let upload: UploadId = id.parse().unwrap();
    let index = keys::user_index(&keys::owner_hash("apikey", "owner"), &upload);
    world.gone(&keys::pending(&upload)).await;
    let output = succeed(&world, &upload).await;
    let wished = erasure(erase(&world, &replica, OWNER, &id).await).await;
    assert_eq!(wished.0, 202);
    let wish: Erasure = world.read(&keys::erasure(&upload)).await.unwrap();
    let driver = Driver::new(&replica.app, &upload);
    let carried = carry_out(&driver, wish.clone()).await.unwrap();
    assert_eq!(carried, Carried::Erased);
    for key in [&output, &index] {
        let put = world.store.put(key, "left".into(), PutOptions::default());
        put.await.unwrap();
    }
    let broken_off: Erasure = Erasure {
        erased: None,
        ..world.read(&keys::erasure(&upload)).await.unwrap()
    };
    world.put(&keys::erasure(&upload), &broken_off).await;

    let carried = carry_out(&driver, wish).await.unwrap();
    assert_eq!(carried, Carried::Erased);
    all_is_gone(&world, &upload, &[&output, &index]).await;
    let done: Erasure = world.read(&keys::erasure(&upload)).await.unwrap();
    assert_eq!(done.index_key, Some(index));
    assert!(done.job_uid.is_some() && done.erased.is_some());
}

#[tokio::test]
async fn a_redriven_video_is_not_erased_under_its_worker() {
    let (world, replica) = world("e3", ErasePolicy::Allow).await;
    let id = world.upload(&replica, OWNER).await;
    let upload: UploadId = id.parse().unwrap();
    world.gone(&keys::pending(&upload)).await;
    succeed(&world, &upload).await;
    let key = keys::record_for_upload(&upload);
    let record: Record = world.read(&key).await.unwrap();
    let failed = Record {
        state: RecordState::Failed,
        dead_lettered: true,
        ..record
    };
    world.put(&key, &failed).await;
    world.jobs.edit(&id, |job| {
        job.status.get_or_insert_default().state = "Running".into();
    });
    let wished = erasure(erase(&world, &replica, ERASER, &id).await).await;
    assert_eq!(wished, (202, "pending".into()));
    assert!(world.video(&id).await.is_some());
    world.jobs.away.store(true, Ordering::SeqCst);
    assert_eq!(
        sweep_erasures(&replica.app, 0).await.waiting,
        1,
        "nobody knows"
    );
    world.jobs.away.store(false, Ordering::SeqCst);
    world.jobs.edit(&id, |job| {
        job.status.get_or_insert_default().state = "DeadLettered".into();
    });
    assert_eq!(sweep_erasures(&replica.app, 0).await.erased, 1);
}

#[tokio::test]
async fn an_upload_that_is_not_whole_is_ended_and_erased() {
    let (world, replica) = world("e4", ErasePolicy::Allow).await;
    let create = world
        .http
        .post(format!("{}/v1/uploads", replica.base))
        .bearer_auth(OWNER);
    let create = create
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", 9_000);
    let create = create.header("Content-Type", "application/offset+octet-stream");
    let answer = create
        .body(video(9_000)[..5_000].to_vec())
        .send()
        .await
        .unwrap();
    let id = id_of(&answer);
    let done = erasure(erase(&world, &replica, ERASER, &id).await).await;
    assert_eq!(done, (200, "erased".into()));
    let upload = id.parse().unwrap();
    let page = world
        .store
        .list(&keys::upload_prefix(&upload), None, 10)
        .await;
    assert_eq!(page.unwrap().entries, [], "state and slices");
    all_is_gone(&world, &upload, &[]).await;
}

#[tokio::test]
async fn the_policy_and_a_hold_win_over_a_wish() {
    for (cell, policy, hold, want, lines) in [
        (
            "e5",
            ErasePolicy::Refuse,
            false,
            (403, "erase-refused"),
            [Happened::Refused],
        ),
        (
            "e6",
            ErasePolicy::Defer,
            false,
            (202, "deferred"),
            [Happened::Requested],
        ),
        (
            "e7",
            ErasePolicy::Allow,
            true,
            (409, "held"),
            [Happened::Held],
        ),
    ] {
        let (world, replica) = world(cell, policy).await;
        let id = world.upload(&replica, OWNER).await;
        let upload: UploadId = id.parse().unwrap();
        succeed(&world, &upload).await;
        if hold {
            let key = keys::hold(&id);
            let put = world
                .store
                .put(&key, bytes::Bytes::new(), PutOptions::default());
            put.await.unwrap();
        }
        let answer = erase(&world, &replica, ERASER, &id).await;
        let got = if answer.status().is_success() {
            erasure(answer).await
        } else {
            problem_of(answer).await
        };
        assert_eq!(got, (want.0, want.1.to_owned()), "{policy:?}");
        assert_eq!(audited(&world, &id).await, lines, "{policy:?}");
        sweep_erasures(&replica.app, 0).await;
        assert!(world.video(&id).await.is_some(), "{policy:?}");
    }
}

/// A store that aborts nothing keeps the parts: so long nothing says that they are erased.
#[tokio::test]
async fn an_unfinished_upload_is_erased_only_when_its_parts_are() {
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let args = StoreArgs::new(fake.endpoint(), BUCKET, fake.credentials_dir());
    let (world, replica) = erasers(World::on("e9", args).await, ErasePolicy::Allow).await;
    let file = video(9 << 20);
    let id = world.create(&replica, file.len()).await;
    let half = world.patch(&replica, &id, 0, &file[..8 << 20]).await;
    assert_eq!(half.status(), 204);
    assert_eq!(fake.open_uploads().len(), 1);
    let upload: UploadId = id.parse().unwrap();

    fake.faults().add(Rule::on(Op::Abort, Fault::InternalError));
    let path = format!("/v1/uploads/{id}");
    let ended = world.tus(&replica, "DELETE", &path).send().await.unwrap();
    assert_eq!(ended.status(), 204);
    let wished = erasure(erase(&world, &replica, ERASER, &id).await).await;
    assert_eq!(wished, (202, "pending".into()));
    assert_eq!(sweep_erasures(&replica.app, 0).await.waiting, 1);
    let at_once = Ages {
        expire: 0,
        ..Ages::default()
    };
    assert_eq!(sweep_states(&replica.app, at_once).await.removed, 0);
    assert!(
        world.exists(&keys::state(&upload)).await,
        "the marker stays"
    );

    fake.faults().clear();
    assert_eq!(sweep_erasures(&replica.app, 0).await.erased, 1);
    assert!(fake.open_uploads().is_empty());
    all_is_gone(&world, &upload, &[]).await;
}
