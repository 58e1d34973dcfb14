//! Tries of one keyed create that meet: some wait for their clients while others are done.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kinora_storage::documents::Idempotency;
use kinora_storage::{PutOptions, UploadId, keys};
use kinora_upload_engine::{Owner, Phase};
use kinora_uploader::budget::Held;
use kinora_uploader::drive::blank_state;
use kinora_uploader::erase::ErasePolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::erasing::{self, ERASER, erase, succeed};
use crate::harness::{KEY, Replica, World, id_of, until, video};
use crate::keyed::{entry, plain};
use crate::watching::dead_letter;

/// A try whose client has sent so much of its file, and that knows that nobody was there before it.
async fn half_a_try(replica: &Replica, key: &str, file: &[u8], sent: usize) -> TcpStream {
    half_a_try_of(replica, key, "", file, sent).await
}

/// The same with further header lines.
async fn half_a_try_of(
    replica: &Replica,
    key: &str,
    more: &str,
    file: &[u8],
    sent: usize,
) -> TcpStream {
    let mut socket = TcpStream::connect(replica.address).await.unwrap();
    let head = format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: {key}\r\n\
         {more}Connection: close\r\nContent-Length: {}\r\n\r\n",
        file.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&file[..sent]).await.unwrap();
    let received = || replica.app.metrics.received_bytes.get();
    until("its body is read", || received() == sent as u64).await;
    socket
}

/// The answer to a try, with its head.
async fn answer(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = socket.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(60), read)
        .await
        .expect("it is answered")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

/// The id that the key's entry promises.
async fn promised(world: &World, key: &str) -> UploadId {
    world.read::<Idempotency>(&entry(key)).await.unwrap().id
}

/// A try that needed a state object would be ended by the next, and a third finish under the id that was given up.
/// covers: F6, T26
#[tokio::test]
async fn tries_that_meet_while_memory_is_short_make_one_upload() {
    // Through a proxy, which hides the address of the upload from the client.
    let draft =
        "X-Forwarded-For: 192.0.2.7\r\nUpload-Draft-Interop-Version: 6\r\nUpload-Complete: ?1\r\n";
    for (name, more) in [("t1", ""), ("t1d", draft)] {
        meet_while_memory_is_short(name, more).await;
    }
}

async fn meet_while_memory_is_short(name: &str, more: &str) {
    let world = World::new(name).await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(40_000);
    let mut first = half_a_try_of(&one, name, more, &file, 20_000).await;
    let mut second = half_a_try_of(&two, name, more, &file, 20_000).await;
    let budget = one.app.budget.clone();
    let pressure = async {
        // More than there ever is.
        loop {
            let mut held = Held::default();
            assert!(!budget.take(&mut held, budget.all() as usize + 1).await);
        }
    };
    let sent_away = tokio::select! {
        answer = answer(&mut first) => answer,
        () = pressure => unreachable!("it wishes for ever"),
    };
    assert!(sent_away.starts_with("HTTP/1.1 503"), "{sent_away}");
    assert!(sent_away.contains("retry-after"), "{sent_away}");
    let id = promised(&world, name).await;
    assert!(!world.exists(&keys::state(&id)).await);

    second.write_all(&file[20_000..]).await.unwrap();
    let made = answer(&mut second).await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let three = world.replica().await;
    let mut third = half_a_try_of(&three, name, more, &file, file.len()).await;
    let again = answer(&mut third).await;
    assert!(again.starts_with("HTTP/1.1 201"), "{again}");
    assert!(again.contains(id.as_str()), "{again}");
    assert_eq!(world.video(id.as_str()).await.unwrap(), file);
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1);
}

/// What a crash leaves between the outbox entry and the bytes: nobody was answered, and nobody may be.
/// covers: F1
#[tokio::test]
async fn an_outbox_entry_without_bytes_answers_no_repeated_create() {
    let world = World::new("t2").await;
    let replica = world.replica().await;
    let file = video(30_000);
    world.jobs.away.store(true, Ordering::SeqCst);
    let id = id_of(&plain(&world, &replica, "t2", &file).await);
    let upload: UploadId = id.parse().unwrap();
    for key in [keys::active(&upload), keys::video(&upload)] {
        world.store.delete(&key).await.unwrap();
    }
    assert!(world.exists(&keys::pending(&upload)).await);
    let status = world.get(&replica, KEY, &format!("/v1/videos/{id}")).await;
    assert_eq!(status.status(), 404, "nothing is stored");
    world.jobs.away.store(false, Ordering::SeqCst);

    let again = plain(&world, &replica, "t2", &file).await;
    assert_eq!((again.status().as_u16(), id_of(&again)), (201, id.clone()));
    assert_eq!(world.video(&id).await.unwrap(), file);
    assert!(world.jobs.job(&id).is_some());
}

/// The first try sends its last bytes when the second's video has come and gone.
/// covers: F5
#[tokio::test]
async fn a_try_that_comes_last_makes_no_second_job() {
    let world = World::new("t3").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(40_000);
    let mut late = half_a_try(&one, "t3", &file, 20_000).await;
    let id = id_of(&plain(&world, &two, "t3", &file).await);
    let upload: UploadId = id.parse().unwrap();
    world.gone(&keys::pending(&upload)).await;
    dead_letter(&world, &upload, None).await;
    world.jobs.jobs.lock().unwrap().clear();

    late.write_all(&file[20_000..]).await.unwrap();
    let answer = answer(&mut late).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains(&id), "{answer}");
    assert!(world.jobs.jobs.lock().unwrap().is_empty(), "it is over");
}

/// The first try sends its last bytes when the second's video was erased: it does not bring it back.
/// covers: F55
#[tokio::test]
async fn a_try_that_comes_last_does_not_bring_back_what_was_erased() {
    let (world, one) = erasing::world("t6", ErasePolicy::Allow).await;
    let two = world.replica().await;
    let file = video(40_000);
    let mut late = half_a_try(&one, "t6", &file, 20_000).await;
    let id = id_of(&plain(&world, &two, "t6", &file).await);
    let upload: UploadId = id.parse().unwrap();
    world.gone(&keys::pending(&upload)).await;
    succeed(&world, &upload).await;
    world.jobs.jobs.lock().unwrap().clear();
    let gone = erase(&world, &two, ERASER, &id).await;
    assert_eq!(gone.status(), 200);

    late.write_all(&file[20_000..]).await.unwrap();
    let refused = answer(&mut late).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(!world.exists(&keys::video(&upload)).await);
    assert!(!world.exists(&keys::pending(&upload)).await);
    let again = plain(&world, &one, "t6", &file).await;
    assert_eq!(again.status(), 201);
    assert_ne!(id_of(&again), id, "whoever sends it again has a new video");
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1);
}

/// The same where the file is larger than memory takes: no second state object goes on under the id.
/// covers: F5
#[tokio::test]
async fn a_large_try_that_begins_last_goes_nowhere() {
    let world = World::new("t4").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(9 << 20);
    let mut late = half_a_try(&one, "t4", &file, 100).await;
    let id = id_of(&plain(&world, &two, "t4", &file).await);
    let upload: UploadId = id.parse().unwrap();
    world.gone(&keys::state(&upload)).await;

    late.write_all(&file[100..1 << 20]).await.unwrap();
    let refused = answer(&mut late).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert_eq!(world.status(&two, &id).await["state"], "queued");
    let again = plain(&world, &one, "t4", &file).await;
    assert_eq!((again.status().as_u16(), id_of(&again)), (201, id.clone()));
    assert_eq!(world.video(&id).await.unwrap(), file);
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1);
}

/// A late try that died with its replica left a state object beside the video.
/// covers: F1, F5
#[tokio::test]
async fn a_state_beside_a_video_gives_its_key_no_second_one() {
    let world = World::new("t5").await;
    let replica = world.replica().await;
    let file = video(40_000);
    let id = id_of(&plain(&world, &replica, "t5", &file).await);
    let upload: UploadId = id.parse().unwrap();
    let mut left = blank_state(&upload, "acme", "default", Some(40_000), 8 << 20);
    left.owner = Owner {
        iss: "apikey".into(),
        sub: "phone".into(),
    };
    (left.phase, left.epoch) = (Phase::Open, 1);
    let (key, body) = (keys::state(&upload), left.to_bytes().unwrap().into());
    let put = world.store.put(&key, body, PutOptions::default());
    put.await.unwrap();

    for _ in 0..2 {
        let again = plain(&world, &replica, "t5", &file).await;
        assert_eq!((again.status().as_u16(), id_of(&again)), (201, id.clone()));
        assert_eq!(world.status(&replica, &id).await["state"], "queued");
    }
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1);
}
