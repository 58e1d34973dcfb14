//! What a crash after each step leaves, and who mends it. covers: F1, F2, F12, T1

use std::sync::atomic::Ordering;

use kinora_storage::{PutOptions, UploadId, keys};
use kinora_upload_engine::open::{Goal, Opened};
use kinora_upload_engine::{Phase, Slice, State, crc};
use kinora_uploader::documents;
use kinora_uploader::profiles::Profile;
use kinora_uploader::sweep::{Ages, sweep_outbox, sweep_states};

use crate::harness::{Replica, World, id_of, offset_of, video};

pub(crate) const LOOK: Ages = Ages {
    look: 0,
    expire: u64::MAX,
    life: u64::MAX,
    max_skew_seconds: u64::MAX,
};

#[tokio::test]
async fn without_kubernetes_the_upload_succeeds_and_the_sweep_makes_its_job() {
    let world = World::new("f1").await;
    let replica = world.replica().await;
    world.jobs.away.store(true, Ordering::SeqCst);
    let file = video(21_000_000);
    let small = id_of(
        &world
            .ask(&replica, "POST", "/v1/uploads")
            .body(video(9_999))
            .send()
            .await
            .unwrap(),
    );
    let large = id_of(
        &world
            .ask(&replica, "POST", "/v1/uploads")
            .body(file.clone())
            .send()
            .await
            .unwrap(),
    );
    for id in [&small, &large] {
        assert_eq!(world.status(&replica, id).await["state"], "stored");
        assert!(
            world.exists(&keys::pending(&id.parse().unwrap())).await,
            "the outbox entry stays"
        );
        assert_eq!(
            offset_of(&world.head(&replica, id).await),
            world.video(id).await.map(|v| v.len())
        );
    }
    assert!(
        sweep_outbox(&replica.app, 0).await.stopped,
        "the first refusal ends the pass"
    );
    world.jobs.away.store(false, Ordering::SeqCst);
    // A crash between the object and the decision.
    world
        .store
        .delete(&keys::active(&large.parse().unwrap()))
        .await
        .unwrap();
    sweep_until_done(&world, &replica, &[&small, &large]).await;
    assert_eq!(world.video(&large).await.unwrap(), file);
    for id in [&small, &large] {
        assert_eq!(world.status(&replica, id).await["state"], "queued");
        world.gone(&keys::pending(&id.parse().unwrap())).await;
        world.gone(&keys::state(&id.parse().unwrap())).await;
    }
}

async fn sweep_until_done(world: &World, replica: &Replica, ids: &[&String]) {
    for _ in 0..20 {
        sweep_outbox(&replica.app, 0).await;
        if ids.iter().all(|id| world.jobs.job(id).is_some()) {
            return;
        }
    }
    panic!("the sweep makes no jobs");
}

/// Puts an upload where a crash after step 1 leaves it: all bytes in slices, state `finishing`.
pub(crate) async fn crash_after_step_1(
    world: &World,
    replica: &Replica,
    file: &[u8],
) -> (UploadId, State) {
    let id: UploadId = world.create(replica, file.len()).await.parse().unwrap();
    let object = world.store.get(&keys::state(&id)).await.unwrap().unwrap();
    let mut doc = State::parse(&object.bytes).unwrap();
    let half = file.len() as u64 / 2;
    for (from, to) in [(0, half), (half, file.len() as u64)] {
        let bytes = file[from as usize..to as usize].to_vec();
        world
            .store
            .put(
                &keys::tail(&id, 0, 1, from, to),
                bytes.into(),
                PutOptions::default(),
            )
            .await
            .unwrap();
        doc.tail.push(Slice {
            part: 0,
            epoch: 1,
            from,
            to,
        });
    }
    doc.phase = Phase::Finishing;
    doc.epoch = 1;
    doc.offset = file.len() as u64;
    doc.crc = Some(crc::of(file));
    doc.nonce = "crashed".into();
    let bytes = doc.to_bytes().unwrap();
    world
        .store
        .put(&keys::state(&id), bytes.into(), PutOptions::default())
        .await
        .unwrap();
    (id, doc)
}

#[tokio::test]
async fn a_crash_after_finishing_is_mended_by_head_by_patch_and_by_the_sweep() {
    let world = World::new("f2").await;
    let replica = world.replica().await;
    let file = video(300_000);
    for who in ["HEAD", "PATCH", "sweep"] {
        let (id, _) = crash_after_step_1(&world, &replica, &file).await;
        let text = id.to_string();
        assert!(world.video(&text).await.is_none());
        match who {
            "HEAD" => assert_eq!(
                offset_of(&world.head(&replica, &text).await),
                Some(file.len())
            ),
            "PATCH" => {
                let answer = world.patch(&replica, &text, 100, b"late").await;
                assert_eq!(
                    (answer.status().as_u16(), offset_of(&answer)),
                    (409, Some(file.len()))
                );
            }
            _ => assert!(sweep_states(&replica.app, LOOK).await.finished >= 1),
        }
        assert_eq!(world.video(&text).await.unwrap(), file, "{who}");
        assert!(world.jobs.job(&text).is_some(), "{who}");
        world.gone(&keys::state(&id)).await;
        assert!(
            !world.exists(&keys::tail(&id, 0, 1, 0, 150_000)).await,
            "{who}: the slices go"
        );
    }
}

#[tokio::test]
async fn a_crash_after_the_outbox_entry_is_mended_from_the_slices() {
    let world = World::new("f3").await;
    let replica = world.replica().await;
    let file = video(200_000);
    let (id, doc) = crash_after_step_1(&world, &replica, &file).await;
    let now = world.store.now();
    let pending = documents::pending(&id, &doc, &Profile::default(), "videos", now);
    let bytes = kinora_storage::documents::encode(&pending).unwrap();
    world
        .store
        .put(&keys::pending(&id), bytes.into(), PutOptions::default())
        .await
        .unwrap();
    sweep_until_done(&world, &replica, &[&id.to_string()]).await;
    assert_eq!(world.video(id.as_str()).await.unwrap(), file);
}

/// The request died before the object was there and was never answered: nobody waits for it.
#[tokio::test]
async fn an_outbox_entry_of_a_request_that_died_whole_is_dropped() {
    let world = World::new("f4").await;
    let replica = world.replica().await;
    let id = replica.app.mint();
    let mut doc = kinora_uploader::drive::blank_state(&id, "acme", "default", Some(77), 8 << 20);
    doc.offset = 77;
    let pending = documents::pending(&id, &doc, &Profile::default(), "videos", world.store.now());
    let bytes = kinora_storage::documents::encode(&pending).unwrap();
    world
        .store
        .put(&keys::pending(&id), bytes.into(), PutOptions::default())
        .await
        .unwrap();
    assert!(sweep_outbox(&replica.app, 0).await.finished >= 1);
    world.gone(&keys::pending(&id)).await;
    assert!(world.jobs.job(id.as_str()).is_none());
    assert!(
        !world.exists(&keys::record_for_upload(&id)).await,
        "nothing was promised, nothing is recorded"
    );
}

#[tokio::test]
async fn a_repeated_end_gets_the_same_answer_and_makes_no_second_job() {
    let world = World::new("f5").await;
    let replica = world.replica().await;
    let file = video(400_000);
    let id = world.create(&replica, file.len()).await;
    assert_eq!(
        world
            .patch(&replica, &id, 0, &file[..100_000])
            .await
            .status(),
        204
    );
    assert_eq!(
        world
            .patch(&replica, &id, 100_000, &file[100_000..])
            .await
            .status(),
        204
    );
    world.gone(&keys::state(&id.parse().unwrap())).await;
    for _ in 0..2 {
        let answer = world.patch(&replica, &id, 100_000, &file[100_000..]).await;
        assert_eq!(
            (answer.status().as_u16(), offset_of(&answer)),
            (409, Some(file.len()))
        );
        assert_eq!(
            world.patch(&replica, &id, file.len(), b"").await.status(),
            204
        );
        assert_eq!(
            offset_of(&world.head(&replica, &id).await),
            Some(file.len())
        );
    }
    assert_eq!(world.jobs.creates.load(Ordering::SeqCst), 1);
}

/// covers: F5
#[tokio::test]
async fn what_nobody_goes_on_with_expires_unless_it_is_whole() {
    let world = World::new("f6").await;
    let replica = world.replica().await;
    let file = video(9_000_000);
    let id = world.create(&replica, file.len() + 5).await;
    assert_eq!(world.patch(&replica, &id, 0, &file).await.status(), 204);
    let driver = kinora_uploader::drive::Driver::new(&replica.app, &id.parse().unwrap());
    let etag = "of another version".to_owned();
    assert_eq!(
        driver.open(Goal::Expire { etag }, None).await,
        Opened::Stirred,
        "somebody went on with it since it was listed"
    );
    let etag = listed(&replica, &id.parse().unwrap()).await;
    let opened = driver.open(Goal::Expire { etag }, None).await;
    let Opened::Dead { doc, now: true } = opened else {
        panic!("{opened:?}")
    };
    driver.end(&doc).await;
    assert_eq!(world.head(&replica, &id).await.status(), 410);

    let (whole, _) = crash_after_step_1(&world, &replica, &video(1_000)).await;
    let driver = kinora_uploader::drive::Driver::new(&replica.app, &whole);
    let etag = listed(&replica, &whole).await;
    let opened = driver.open(Goal::Expire { etag }, None).await;
    assert!(matches!(opened, Opened::Whole(..)), "{opened:?}");
}

/// The ETag that a listing shows for the state.
async fn listed(replica: &Replica, id: &UploadId) -> String {
    let store = &replica.app.store;
    let page = store.list(&keys::state(id), None, 1).await.unwrap();
    page.entries[0].etag.clone()
}

/// A kill loses the running checksum, and some stores list none of parts.
/// covers: F4, T23
#[tokio::test]
async fn a_part_that_was_overwritten_after_it_counted_never_becomes_a_video() {
    let world = World::new("f7").await;
    let replica = world.replica().await;
    let file = video(20 << 20);
    let (half, part) = (16 << 20, 8 << 20);
    for (name, zombie, good) in [
        ("nobody", None, true),
        ("the same bytes", Some(file[part..half].to_vec()), true),
        ("other bytes", Some(vec![7; part]), false),
    ] {
        let id = world.create(&replica, file.len()).await;
        let upload: UploadId = id.parse().unwrap();
        let answer = world.patch(&replica, &id, 0, &file[..half]).await;
        assert_eq!(answer.status(), 204);
        let key = keys::state(&upload);
        let mut doc = State::parse(&world.store.get(&key).await.unwrap().unwrap().bytes).unwrap();
        let multipart = kinora_storage::MultipartId(doc.multipart.clone().unwrap());
        doc.crc = None;
        let body = doc.to_bytes().unwrap().into();
        let put = world.store.put(&key, body, PutOptions::default()).await;
        put.unwrap();
        if let Some(bytes) = zombie {
            let put = world
                .store
                .upload_part(&doc.key, &multipart, 2, bytes.into());
            put.await.unwrap();
        }
        let answer = world.patch(&replica, &id, half, &file[half..]).await;
        // A store may still complete the part that was counted; else nothing becomes visible.
        let status = answer.status().as_u16();
        assert!(status == 204 || status == 422 && !good, "{name}: {status}");
        let video = world.video(&id).await;
        assert_eq!(video, (status == 204).then(|| file.clone()), "{name}");
    }
}

/// The store lost the multipart upload, as a lifecycle rule would have it.
/// covers: F5, T23
#[tokio::test]
async fn an_upload_whose_parts_were_aborted_starts_anew_or_is_gone() {
    let world = World::new("f8").await;
    let replica = world.replica().await;
    let file = video(20 << 20);
    for (name, first, want) in [
        ("confirmed parts are lost", 9 << 20, [410, 410]),
        ("only a slice was confirmed", 1 << 20, [503, 204]),
    ] {
        let id = world.create(&replica, file.len()).await;
        let upload: UploadId = id.parse().unwrap();
        let answer = world.patch(&replica, &id, 0, &file[..first]).await;
        assert_eq!(answer.status(), 204);
        let key = keys::state(&upload);
        let mut doc = State::parse(&world.store.get(&key).await.unwrap().unwrap().bytes).unwrap();
        // So that the one with a slice has a multipart upload too.
        let multipart = kinora_storage::MultipartId(doc.multipart.clone().unwrap_or("gone".into()));
        doc.multipart = Some(multipart.0.clone());
        let body = doc.to_bytes().unwrap().into();
        let put = world.store.put(&key, body, PutOptions::default()).await;
        put.unwrap();
        let _ = world.store.abort(&doc.key, &multipart).await;
        let first_try = world.patch(&replica, &id, first, &file[first..]).await;
        let second_try = world.patch(&replica, &id, first, &file[first..]).await;
        let got = [first_try.status().as_u16(), second_try.status().as_u16()];
        assert_eq!(got, want, "{name}");
        let video = world.video(&id).await;
        assert_eq!(video.is_some(), want[1] == 204, "{name}");
    }
}

/// covers: F5, T23
#[tokio::test]
async fn lost_parts_of_a_writer_that_died_are_counted_by_who_takes_over() {
    let world = World::new("f9").await;
    let replica = world.replica().await;
    let file = video(20 << 20);
    let lost = async || {
        let answer = world.ask(&replica, "GET", "/metrics").send().await;
        let text = answer.unwrap().text().await.unwrap();
        let series = "kinora_uploader_writers_total{outcome=\"lost\"} ";
        let count = text.lines().find_map(|line| line.strip_prefix(series));
        count
            .unwrap_or_else(|| panic!("{series} is missing in:\n{text}"))
            .to_owned()
    };
    assert_eq!(lost().await, "0");
    let id = world.create(&replica, file.len()).await;
    let answer = world.patch(&replica, &id, 0, &file[..9 << 20]).await;
    assert_eq!(answer.status(), 204);
    let key = keys::state(&id.parse().unwrap());
    let mut doc = State::parse(&world.store.get(&key).await.unwrap().unwrap().bytes).unwrap();
    let multipart = kinora_storage::MultipartId(doc.multipart.clone().unwrap());
    world.store.abort(&doc.key, &multipart).await.unwrap();
    doc.phase = Phase::Open;
    let body = doc.to_bytes().unwrap().into();
    let put = world.store.put(&key, body, PutOptions::default()).await;
    put.unwrap();
    for _ in 0..2 {
        assert_eq!(world.head(&replica, &id).await.status(), 410);
        assert_eq!(lost().await, "1", "once, by who found it");
    }
}
