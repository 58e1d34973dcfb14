//! Faults that need a scene of their own.

use std::time::Duration;

use kinora_fake_s3::{Behaviour, Fault, Op, Rule};
use kinora_storage::keys;

use crate::Stage;
use crate::harness::{STREAM, id_of, offset_of, video};
use crate::oracle::{Leave, judge};
use crate::phone::Phone;

const PARTS: usize = (8 << 20) + 300_000;

/// covers: F60
#[tokio::test]
async fn no_id_is_minted_while_the_clocks_differ_by_more_than_five_minutes() {
    let stage = Stage::new(Behaviour::aws()).await;
    let file = video(100_000);
    for skew in [400, -400] {
        stage.fake.clock().skew(skew);
        stage.world.store.head("control/absent").await.unwrap();
        stage.fake.journal().clear();
        let request = stage.world.ask(&stage.replicas[0], "POST", "/v1/uploads");
        let answer = request.body(file.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 503, "{skew} s");
        assert!(
            stage.fake.journal().is_empty(),
            "{skew} s: nothing is stored"
        );
    }
    stage.fake.clock().skew(0);
    stage.world.store.head("control/absent").await.unwrap();
    let phone = Phone::new(&stage);
    phone.post(&file).await;
    judge(&stage, &phone.acknowledged.take(), &file, Leave::default()).await;
}

/// covers: F60, F7
#[tokio::test]
async fn while_the_clocks_differ_a_key_gets_no_id_and_what_it_made_before_is_answered() {
    let stage = Stage::new(Behaviour::aws()).await;
    let file = video(100_000);
    let post = async |key: &str| {
        let request = stage.world.ask(&stage.replicas[0], "POST", "/v1/uploads");
        let request = request.header("Idempotency-Key", key).body(file.clone());
        request.send().await.unwrap()
    };
    let skew = async |seconds| {
        stage.fake.clock().skew(seconds);
        stage.world.store.head("control/absent").await.unwrap();
    };
    let made = id_of(&post("before").await);
    let entries = stage.fake.keys("idem/");
    for seconds in [400, -400] {
        skew(seconds).await;
        assert_eq!(post("meanwhile").await.status(), 503, "{seconds} s");
        assert_eq!(id_of(&post("before").await), made, "{seconds} s");
        assert_eq!(stage.fake.keys("idem/"), entries, "{seconds} s");
    }
    skew(0).await;
    let id = id_of(&post("meanwhile").await);
    assert_eq!(id_of(&post("meanwhile").await), id);
    assert_eq!(stage.fake.keys("idem/").len(), 2);
    assert_eq!(stage.world.jobs.jobs.lock().unwrap().len(), 2);
}

/// Neither a confirmed byte nor a success is made up for what the store has lost.
/// covers: F12
#[tokio::test]
async fn what_the_store_dropped_behind_our_back_is_said_to_be_lost_and_never_complete() {
    for (name, op) in [
        ("before a part", Op::UploadPart),
        ("before the listing of the parts", Op::ListParts),
        ("before Complete", Op::Complete),
    ] {
        let stage = Stage::new(Behaviour::aws()).await;
        let file = video(PARTS);
        let phone = Phone::new(&stage);
        let id = phone.create(file.len()).await;
        phone.send(&id, &file, (8 << 20) + 1000).await.unwrap();
        let faults = stage.fake.faults();
        faults.add(Rule::on(op, Fault::AbortedBefore).nth(0));
        let gone = phone.send(&id, &file, file.len()).await;
        assert_eq!(gone.unwrap_err().0, 410, "{name}");
        assert!(stage.world.jobs.job(&id).is_none(), "{name}: no job");
        assert!(stage.fake.keys("videos/").is_empty(), "{name}: no object");
        // The client begins anew.
        let id = phone.create(file.len()).await;
        phone.send(&id, &file, file.len()).await.unwrap();
        assert_eq!(*phone.acknowledged.borrow(), [id], "{name}");
        judge(&stage, &phone.acknowledged.take(), &file, Leave::default()).await;
    }
}

/// covers: F12
#[tokio::test]
async fn a_slice_that_the_store_lost_ends_its_upload_instead_of_letting_its_client_come_for_ever() {
    let table = [
        ("a small file", 500_000, 300_000),
        ("the first bytes alone", 500_000, 5),
        ("the first part", PARTS, 300_000),
        ("the last part", PARTS, (8 << 20) + 1000),
    ];
    let runs = table.map(async |(name, length, first)| {
        let stage = Stage::new(Behaviour::aws()).await;
        let file = video(length);
        let phone = Phone::new(&stage);
        let id = phone.create(file.len()).await;
        phone.send(&id, &file, first).await.unwrap();
        let slices = stage.fake.keys(keys::UPLOADS);
        let slices = slices.iter().filter(|key| !key.ends_with("state"));
        for key in slices {
            stage.world.store.delete(key).await.unwrap();
        }
        let gone = phone.send(&id, &file, file.len()).await;
        assert_eq!(gone.unwrap_err().0, 410, "{name}");
        let replica = &stage.replicas[1];
        assert_eq!(stage.world.head(replica, &id).await.status(), 410, "{name}");
        let status = stage.world.status(replica, &id).await;
        assert!(status.to_string().contains("StoreLost"), "{name}: {status}");
        assert!(stage.world.jobs.job(&id).is_none(), "{name}: no job");
        assert!(stage.fake.keys("videos/").is_empty(), "{name}: no object");
    });
    futures::future::join_all(runs).await;
}

/// The store lists two versions of a part, without checksums; only the acknowledged one may count.
/// covers: F4, F10
#[tokio::test]
async fn of_a_part_that_was_sent_twice_the_acknowledged_bytes_count() {
    for behaviour in [Behaviour::harsh(), Behaviour::aws()] {
        let stage = Stage::new(behaviour).await;
        let file = video(PARTS);
        let mut other = file.clone();
        other[5_000_000..].fill(7);
        let phone = Phone::new(&stage);
        let id = phone.create(file.len()).await;
        // The first sender's part is stored, and it never hears so.
        let rule = Rule::on(Op::UploadPart, Fault::LostAnswer).times(4);
        stage.fake.faults().add(rule);
        let answer = stage
            .world
            .patch(&stage.replicas[0], &id, 0, &other[..8 << 20])
            .await;
        assert_eq!(answer.status(), 503);
        stage.fake.faults().clear();
        phone.send(&id, &file, file.len()).await.unwrap();
        judge(&stage, &phone.acknowledged.take(), &file, Leave::default()).await;
    }
}

/// covers: F11, F14
#[tokio::test]
async fn a_store_that_fails_three_calls_in_ten_only_slows_uploads_down() {
    for fault in [Fault::SlowDown, Fault::LostAnswer, Fault::LostRequest] {
        let stage = Stage::new(Behaviour::harsh()).await;
        stage.fake.faults().add(Rule::any(fault).percent(30));
        let file = video(PARTS);
        let phone = Phone::new(&stage);
        let id = phone.create(file.len()).await;
        for to in [2_000_000, 6_000_000, file.len()] {
            phone.send(&id, &file, to).await.unwrap();
        }
        let leave = Leave {
            unknown_multipart: true,
        };
        judge(&stage, &phone.acknowledged.take(), &file, leave).await;
    }
}

/// covers: F14
#[tokio::test]
async fn while_the_store_is_away_every_answer_asks_to_come_back_and_nothing_is_lost() {
    let stage = Stage::new(Behaviour::aws()).await;
    let file = video(PARTS);
    let phone = Phone::new(&stage);
    let id = phone.create(file.len()).await;
    phone.send(&id, &file, 3_000_000).await.unwrap();
    stage.fake.faults().add(Rule::any(Fault::SlowDown));
    let path = format!("/v1/uploads/{id}");
    let replica = &stage.replicas[1];
    let patch = stage.world.tus(replica, "PATCH", &path);
    let patch = patch.header("Upload-Offset", 3_000_000);
    let table = [
        ("HEAD", stage.world.tus(replica, "HEAD", &path)),
        ("DELETE", stage.world.tus(replica, "DELETE", &path)),
        (
            "PATCH",
            patch
                .header("Content-Type", STREAM)
                .body(file[3_000_000..].to_vec()),
        ),
        (
            "create",
            stage
                .world
                .tus(replica, "POST", "/v1/uploads")
                .header("Upload-Length", 100_000),
        ),
    ];
    for (name, request) in table {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 503, "{name}");
        assert!(answer.headers().contains_key("retry-after"), "{name}");
        assert_eq!(offset_of(&answer), None, "{name}: nothing is acknowledged");
    }
    stage.fake.faults().clear();
    phone.send(&id, &file, file.len()).await.unwrap();
    judge(&stage, &phone.acknowledged.take(), &file, Leave::default()).await;
}

/// What the store does after everybody has given up waiting is found done, or is done by the next try; never twice.
/// covers: F12
#[tokio::test]
async fn what_outlasts_the_patience_of_a_request_ends_in_one_video() {
    let slow = Fault::Slow(Duration::from_secs(6));
    let table = [
        (Op::Complete, "videos/", slow),
        (Op::Complete, "videos/", Fault::NoAnswer),
        (Op::UploadPart, "videos/", Fault::NoAnswer),
        (Op::Put, "state", Fault::NoAnswer),
        (Op::Put, "pending/", Fault::NoAnswer),
        (Op::Put, "active/", Fault::NoAnswer),
    ];
    let file = &video(PARTS);
    let runs = table.map(async |(op, key, fault)| {
        let stage = Stage::patient(Behaviour::harsh(), 2).await;
        let phone = Phone::new(&stage);
        let id = phone.create(file.len()).await;
        stage.fake.faults().add(Rule::on(op, fault).key(key).nth(0));
        phone.send(&id, file, file.len()).await.unwrap();
        let key = keys::video(&id.parse().unwrap());
        assert!(stage.fake.object(&key).is_some_and(|bytes| bytes == file));
        judge(&stage, &phone.acknowledged.take(), file, Leave::default()).await;
    });
    futures::future::join_all(runs).await;
}
