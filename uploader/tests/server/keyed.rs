//! `Idempotency-Key`: one upload however often a create comes.

use futures::future::join_all;
use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
use kinora_storage::documents::Idempotency;
use kinora_storage::{StoreArgs, UploadId, keys};
use kinora_uploader::sweep::sweep_idem;
use reqwest::{RequestBuilder, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{KEY, Replica, STREAM, World, id_of, offset_of, problem_of, until, video};

fn tus(world: &World, replica: &Replica, key: &str, length: usize) -> RequestBuilder {
    world
        .tus(replica, "POST", "/v1/uploads")
        .header("Upload-Length", length)
        .header("Idempotency-Key", key)
}

pub(crate) async fn plain(world: &World, replica: &Replica, key: &str, file: &[u8]) -> Response {
    let request = world.ask(replica, "POST", "/v1/uploads");
    let request = request.header("Idempotency-Key", key).body(file.to_vec());
    request.send().await.unwrap()
}

/// The answer of a client that comes again when it is told to, as whoever loses too often is.
async fn made(request: RequestBuilder) -> Response {
    for _ in 0..10 {
        let answer = request.try_clone().unwrap().send().await.unwrap();
        if answer.status() != 503 {
            return answer;
        }
        assert!(answer.headers().contains_key("retry-after"));
    }
    panic!("told to come again ten times");
}

pub(crate) fn entry(key: &str) -> String {
    keys::idem(&keys::owner_hash("apikey", "phone"), key)
}

/// The first try's client is gone before it read the answer; whoever repeated the create goes on with its upload.
/// covers: F6
#[tokio::test]
async fn the_end_of_a_first_try_does_not_end_the_upload_that_its_repeat_goes_on_with() {
    let world = World::new("k9").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(9 << 20);
    let mut first = TcpStream::connect(one.address).await.unwrap();
    let head = format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nTus-Resumable: 1.0.0\r\n\
         Idempotency-Key: k9\r\nContent-Type: {STREAM}\r\nUpload-Length: {length}\r\nContent-Length: {length}\r\n\r\n",
        length = file.len()
    );
    first.write_all(head.as_bytes()).await.unwrap();
    first.write_all(&file[..100_000]).await.unwrap();
    until("it is written into", || one.app.writers.len() == 1).await;

    let again = tus(&world, &two, "k9", file.len()).send().await.unwrap();
    assert_eq!(again.status(), 201);
    let id = id_of(&again);
    let from = offset_of(&world.head(&two, &id).await).unwrap();
    let middle = 5 << 20;
    let more = world.patch(&two, &id, from, &file[from..middle]).await;
    assert_eq!(
        (more.status().as_u16(), offset_of(&more)),
        (204, Some(middle))
    );
    drop(first);
    until("its writer has ended", || one.app.writers.is_empty()).await;
    until("its task has ended", || one.app.tasks.is_empty()).await;
    let rest = world.patch(&two, &id, middle, &file[middle..]).await;
    assert_eq!(rest.status(), 204);
    assert_eq!(world.video(&id).await.unwrap(), file);
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1);
}

/// covers: T26
#[tokio::test]
async fn a_repeated_create_is_answered_with_the_first_ones_upload() {
    let world = World::new("k1").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let first = tus(&world, &one, "k1-tus", 9_000).send().await.unwrap();
    let id = id_of(&first);
    let file = video(9_000);
    let answer = world.patch(&one, &id, 0, &file[..5_000]).await;
    assert_eq!(answer.status(), 204);
    let again = tus(&world, &two, "\"k1-tus\"", 9_000).send().await.unwrap();
    assert_eq!(
        (again.status().as_u16(), offset_of(&again)),
        (201, Some(5_000))
    );
    assert_eq!(id_of(&again), id);
    let other = tus(&world, &two, "k1-tus", 9_001).send().await.unwrap();
    assert_eq!(
        problem_of(other).await,
        (422, "idempotency-mismatch".into())
    );
    let bad = tus(&world, &two, "a b", 9_000).send().await.unwrap();
    assert_eq!(problem_of(bad).await, (400, "bad-request".into()));
    let request = world.http.post(format!("{}/v1/uploads", two.base));
    let request = request
        .bearer_auth("stranger.secret")
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", 9_001)
        .header("Idempotency-Key", "k1-tus");
    let theirs = request.send().await.unwrap();
    assert_ne!(id_of(&theirs), id, "another owner's key is another key");

    // Whole by now: the answer says so.
    let answer = world.patch(&one, &id, 5_000, &file[5_000..]).await;
    assert_eq!(answer.status(), 204);
    let last = tus(&world, &two, "k1-tus", 9_000).send().await.unwrap();
    assert_eq!((id_of(&last), offset_of(&last)), (id, Some(9_000)));
}

#[tokio::test]
async fn a_repeated_file_becomes_one_video() {
    let world = World::new("k2").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(50_000);
    let first = plain(&world, &one, "k2", &file).await;
    assert_eq!(first.status(), 201);
    let id = id_of(&first);
    let again = plain(&world, &two, "k2", &file).await;
    assert_eq!(again.status(), 201);
    assert_eq!(id_of(&again), id);
    let answer: serde_json::Value = again.json().await.unwrap();
    assert_eq!(
        (&answer["id"], &answer["state"]),
        (&id.into(), &"queued".into())
    );
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1);

    let spaces = vec![0x20; 2_000];
    let refused = plain(&world, &one, "k2-none", &spaces).await;
    assert_eq!(problem_of(refused).await, (415, "not-a-video".into()));
    let mended = plain(&world, &one, "k2-none", &video(2_000)).await;
    assert_eq!(mended.status(), 201, "nothing was stored under the key");
}

/// Clients that write all before they read would never see an answer that comes in the middle.
/// covers: F7
#[tokio::test]
async fn a_repeated_large_file_is_answered_when_all_of_it_was_sent() {
    let world = World::new("k11").await;
    let replica = world.replica().await;
    let file = video(40 << 20);
    let first = plain(&world, &replica, "k11", &file).await;
    assert_eq!(first.status(), 201);
    let mut socket = TcpStream::connect(replica.address).await.unwrap();
    let head = format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: k11\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        file.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&file).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(answer.contains(&id_of(&first)), "{answer}");
}

/// The first try died between the key's entry and the upload.
/// covers: F1
#[tokio::test]
async fn a_retry_after_a_crash_goes_on_under_the_promised_id() {
    let world = World::new("k3").await;
    let replica = world.replica().await;
    let id = id_of(&tus(&world, &replica, "k3-tus", 9_000).send().await.unwrap());
    let state = keys::state(&id.parse().unwrap());
    world.store.delete(&state).await.unwrap();
    let again = tus(&world, &replica, "k3-tus", 9_000).send().await.unwrap();
    assert_eq!(id_of(&again), id);
    assert!(world.exists(&state).await);

    let file = video(30_000);
    let id = id_of(&plain(&world, &replica, "k3", &file).await);
    let upload: UploadId = id.parse().unwrap();
    for key in [keys::active(&upload), keys::video(&upload)] {
        world.store.delete(&key).await.unwrap();
    }
    world.gone(&keys::pending(&upload)).await;
    world.jobs.jobs.lock().unwrap().clear();
    let again = plain(&world, &replica, "k3", &file).await;
    assert_eq!((again.status().as_u16(), id_of(&again)), (201, id.clone()));
    assert_eq!(world.video(&id).await.unwrap(), file);
    assert!(world.jobs.job(&id).is_some());
}

#[tokio::test]
async fn many_tries_at_once_make_one_upload() {
    let world = World::new("k4").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let tries = join_all((0..8).map(|n| {
        let replica = if n % 2 == 0 { &one } else { &two };
        made(tus(&world, replica, "k4-tus", 9_000))
    }));
    let ids: Vec<String> = tries.await.iter().map(id_of).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    let file = video(40_000);
    let tries = join_all((0..4).map(|n| {
        let replica = if n % 2 == 0 { &one } else { &two };
        let request = world.ask(replica, "POST", "/v1/uploads");
        made(request.header("Idempotency-Key", "k4").body(file.clone()))
    }));
    let ids: Vec<String> = tries.await.iter().map(id_of).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1);
}

/// The connection of the first try hangs; its replica does not know it yet.
/// covers: F5
#[tokio::test]
async fn a_retry_takes_the_place_of_a_body_that_hangs() {
    let world = World::new("k5").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(9 << 20);
    let mut socket = TcpStream::connect(one.address).await.unwrap();
    let head = format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: k5\r\n\
         Content-Length: {}\r\n\r\n",
        file.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&file[..1 << 20]).await.unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let hung = loop {
        assert!(std::time::Instant::now() < deadline, "the upload begins");
        if let Some(first) = world.read::<Idempotency>(&entry("k5")).await
            && world.exists(&keys::state(&first.id)).await
        {
            break first.id;
        }
    };
    let answer = plain(&world, &two, "k5", &file).await;
    assert_eq!(answer.status(), 201);
    let id = id_of(&answer);
    assert_ne!(id, hung.as_str(), "what was given up is not gone on with");
    assert_eq!(world.video(&id).await.unwrap(), file);
    assert!(world.video(hung.as_str()).await.is_none());
    let again = plain(&world, &one, "k5", &file).await;
    assert_eq!(id_of(&again), id);
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1);
}

/// Every 2xx of a create that brings the whole tells a client of the draft that the whole is there.
#[tokio::test]
async fn a_repeated_draft_create_that_brings_the_whole_takes_the_place_of_its_first_try() {
    let world = World::new("k10").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(9 << 20);
    for (version, complete) in [("3", "Upload-Incomplete: ?0"), ("6", "Upload-Complete: ?1")] {
        let key = format!("d{version}");
        let mut socket = TcpStream::connect(one.address).await.unwrap();
        let head = format!(
            "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: {key}\r\n\
             X-Forwarded-For: 192.0.2.7\r\nUpload-Draft-Interop-Version: {version}\r\n{complete}\r\n\
             Content-Length: {}\r\n\r\n",
            file.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&file[..1 << 20]).await.unwrap();
        until("it is written into", || one.app.writers.len() == 1).await;
        drop(socket);
        until("its writer has ended", || one.app.writers.is_empty()).await;
        let (name, value) = complete.split_once(": ").unwrap();
        let again = world
            .ask(&two, "POST", "/v1/uploads")
            .header("Idempotency-Key", &key)
            .header("Upload-Draft-Interop-Version", version)
            .header(name, value)
            .body(file.clone());
        let answer = made(again).await;
        assert_eq!(answer.status(), 201, "{version}");
        assert_eq!(answer.headers()[name], value, "{version}");
        assert_eq!(
            world.video(&id_of(&answer)).await.unwrap(),
            file,
            "{version}"
        );
    }
}

/// Whoever repeats a create has to learn from the answer what the first one told.
#[tokio::test]
async fn the_answer_to_a_repeat_has_every_header_of_the_first_answer() {
    let world = World::new("k10").await;
    let replica = world.replica().await;
    let draft = |version, end: &'static str| {
        world
            .ask(&replica, "POST", "/v1/uploads")
            .header("Upload-Draft-Interop-Version", version)
            .header("Upload-Complete", end)
            .header("Idempotency-Key", format!("k10-{version}-{end}"))
    };
    for (name, request) in [
        ("tus", tus(&world, &replica, "k10-tus", 9_000)),
        ("a draft", draft("8", "?0")),
        ("its bytes", draft("6", "?0").body(video(9_000))),
        ("its whole", draft("8", "?1").body(video(9_000))),
    ] {
        let again = request.try_clone().unwrap();
        let (first, again) = (request.send().await.unwrap(), made(again).await);
        assert_eq!(id_of(&first), id_of(&again), "{name}");
        let (first, again) = (first.headers(), again.headers());
        for header in first.keys() {
            assert!(again.contains_key(header), "{name}: {header}");
        }
        for header in ["upload-limit", "upload-expires"] {
            let told = first.contains_key(header);
            assert_eq!(again.contains_key(header), told, "{name}: {header}");
        }
    }
}

#[tokio::test]
async fn old_keys_are_forgotten() {
    // A store of its own: other tests have keys in the shard that is swept.
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let args = StoreArgs::new(fake.endpoint(), BUCKET, fake.credentials_dir());
    let world = World::on("k6", args).await;
    let replica = world.replica().await;
    let first = id_of(&tus(&world, &replica, "k6", 9_000).send().await.unwrap());
    let entry = entry("k6");
    let hh = entry.split('/').nth(1).unwrap();
    let day = 24 * 3_600_000;
    sweep_idem(&replica.app, hh, 8 * day).await.unwrap();
    assert!(world.exists(&entry).await, "it is young");
    assert!(sweep_idem(&replica.app, hh, 0).await.unwrap() >= 1);
    let second = id_of(&tus(&world, &replica, "k6", 9_000).send().await.unwrap());
    assert_ne!(first, second);
}
