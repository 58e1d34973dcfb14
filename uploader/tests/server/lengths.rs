//! Lengths that are told later, files without bytes, and when an upload expires.

use jiff::Timestamp;
use kinora_storage::{UploadId, keys};
use kinora_upload_engine::{Phase, State};
use kinora_uploader::sweep::{Ages, sweep_states};

use crate::harness::{STREAM, World, id_of, offset_of, video};

#[tokio::test]
async fn a_length_may_follow_once_and_then_stays() {
    let world = World::new("l1").await;
    let replica = world.replica().await;
    let file = video(150_000);
    let create = world
        .tus(&replica, "POST", "/v1/uploads")
        .header("Upload-Defer-Length", "1");
    let create = create.send().await.unwrap();
    assert_eq!(create.status(), 201);
    let id = id_of(&create);
    let patch = async |offset: usize, length: Option<usize>, body: &[u8]| {
        let mut request = world
            .tus(&replica, "PATCH", &format!("/v1/uploads/{id}"))
            .header("Upload-Offset", offset)
            .header("Content-Type", STREAM);
        if let Some(length) = length {
            request = request.header("Upload-Length", length);
        }
        request.body(body.to_vec()).send().await.unwrap()
    };
    let head = world.head(&replica, &id).await;
    assert_eq!(head.headers()["upload-defer-length"], "1");
    assert!(!head.headers().contains_key("upload-length"));
    assert_eq!(patch(0, None, &file[..70_000]).await.status(), 204);
    let cases = [
        ("less than is there", Some(60_000), 400),
        ("beyond the limit", Some(300_000_001), 413),
    ];
    for (name, length, want) in cases {
        let answer = patch(70_000, length, &file[70_000..]).await;
        assert_eq!(answer.status(), want, "{name}");
    }
    let answer = patch(70_000, Some(file.len()), &[]).await;
    assert_eq!(answer.status(), 204, "the length alone");
    let head = world.head(&replica, &id).await;
    assert_eq!(head.headers()["upload-length"], "150000");
    assert!(!head.headers().contains_key("upload-defer-length"));
    let answer = patch(70_000, Some(150_001), &file[70_000..]).await;
    assert_eq!(answer.status(), 400, "another length");
    let answer = patch(70_000, Some(150_000), &file[70_000..]).await;
    assert_eq!(
        (answer.status().as_u16(), offset_of(&answer)),
        (204, Some(150_000))
    );
    assert_eq!(world.video(&id).await.unwrap(), file);
}

#[tokio::test]
async fn a_length_that_is_told_after_the_last_byte_finishes_the_upload() {
    let world = World::new("l2").await;
    let replica = world.replica().await;
    for size in [9_000, 8 << 20, (8 << 20) + 1] {
        let file = video(size);
        let create = world
            .tus(&replica, "POST", "/v1/uploads")
            .header("Upload-Defer-Length", "1")
            .header("Content-Type", STREAM);
        let create = create.body(file.clone()).send().await.unwrap();
        assert_eq!(
            (create.status().as_u16(), offset_of(&create)),
            (201, Some(size))
        );
        let id = id_of(&create);
        assert!(world.video(&id).await.is_none(), "more might follow");
        let last = world
            .tus(&replica, "PATCH", &format!("/v1/uploads/{id}"))
            .header("Upload-Offset", size)
            .header("Upload-Length", size)
            .header("Content-Type", STREAM);
        let again = last.try_clone().unwrap();
        assert_eq!(last.send().await.unwrap().status(), 204);
        assert!(world.video(&id).await.unwrap() == file);
        // Its answer was lost on the way.
        let again = again.send().await.unwrap();
        assert_eq!(
            (again.status().as_u16(), offset_of(&again)),
            (204, Some(size))
        );
        assert_eq!(world.patch(&replica, &id, size, b"x").await.status(), 409);
        assert!(world.jobs.job(&id).is_some());
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_ends_at_the_limit_of_its_profile() {
    let world = World::new("l3").await;
    let replica = world.replica().await;
    let id = {
        let create = world
            .tus(&replica, "POST", "/v1/uploads")
            .header("Upload-Defer-Length", "1");
        id_of(&create.send().await.unwrap())
    };
    // As if the profile were a small one.
    let key = keys::state(&id.parse::<UploadId>().unwrap());
    let object = world.store.get(&key).await.unwrap().unwrap();
    let mut doc = State::parse(&object.bytes).unwrap();
    doc.limit = Some(100_000);
    let body = doc.to_bytes().unwrap();
    world
        .store
        .put(&key, body.into(), Default::default())
        .await
        .unwrap();
    let answer = world.patch(&replica, &id, 0, &video(100_001)).await;
    assert_eq!(answer.status(), 413);
    let offset = offset_of(&world.head(&replica, &id).await).unwrap();
    assert!(offset <= 100_000, "{offset}");
    assert!(world.video(&id).await.is_none());
}

#[tokio::test]
async fn an_empty_file_is_an_upload_that_is_rejected() {
    let world = World::new("l4").await;
    let replica = world.replica().await;
    let id = world.create(&replica, 0).await;
    let head = world.head(&replica, &id).await;
    assert_eq!((head.status().as_u16(), offset_of(&head)), (200, Some(0)));
    let status = world.status(&replica, &id).await;
    assert_eq!(
        (&status["state"], &status["reason"]),
        (&"rejected".into(), &"Empty".into())
    );
    assert!(world.jobs.job(&id).is_none());
}

/// What is told of the expiry is what the sweep does: not a second before, and not never.
#[tokio::test]
async fn an_upload_expires_when_it_was_said() {
    let world = World::new("l5").await;
    let replica = world.replica().await;
    let file = video(100_000);
    let create = world
        .tus(&replica, "POST", "/v1/uploads")
        .header("Upload-Length", file.len());
    let create = create.send().await.unwrap();
    let id = id_of(&create);
    let patch = world.patch(&replica, &id, 0, &file[..70_000]).await;
    let head = world.head(&replica, &id).await;
    let key = keys::state(&id.parse::<UploadId>().unwrap());
    let written = world.store.head(&key).await.unwrap().unwrap().last_modified;
    let said = |answer: &reqwest::Response| {
        let text = answer.headers()["upload-expires"].to_str().unwrap();
        let zoned = jiff::fmt::rfc2822::parse(text).unwrap();
        zoned.timestamp()
    };
    assert_eq!(said(&head).duration_since(written).as_secs(), 24 * 3600);
    for answer in [&create, &patch] {
        let at = said(answer);
        assert!(at <= said(&head), "never later than the sweep");
        assert!(at.duration_since(Timestamp::now()).as_secs() > 23 * 3600);
    }
    let ages = |expire, life| Ages {
        look: 0,
        expire,
        life,
        ..Ages::default()
    };
    sweep_states(&replica.app, ages(u64::MAX, u64::MAX)).await;
    assert_eq!(offset_of(&world.head(&replica, &id).await), Some(70_000));
    let phase = async || {
        let object = world.store.get(&key).await.unwrap().unwrap();
        State::parse(&object.bytes).unwrap().phase
    };
    // Somebody goes on with it all the time, and still it ends.
    sweep_states(&replica.app, ages(u64::MAX, 0)).await;
    assert_eq!(phase().await, Phase::Dead);
    let answer = world.patch(&replica, &id, 70_000, &file[70_000..]).await;
    assert_eq!(answer.status(), 410);
}
