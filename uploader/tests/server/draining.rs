//! Replicas that end while bodies come in, and replicas that are not ready.

use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
use kinora_storage::StoreArgs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Replica, World, half_a_patch, offset_of, video};

const LENGTH: usize = 20 << 20;

/// Waits until the bodies at this replica have brought so many bytes.
async fn until_received(replica: &Replica, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while replica.app.metrics.received_bytes.get() < bytes {
        assert!(Instant::now() < deadline, "the replica does not read on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The status line of the answer on a bare socket; the client then hangs up.
async fn answer(mut socket: TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.windows(2).any(|two| two == b"\r\n") {
        match socket.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}

/// covers: F8
#[tokio::test]
async fn uploads_outlive_replicas_that_end_again_and_again() {
    let world = World::new("dr").await;
    let mut replica = world.replica().await;
    let files: Vec<Vec<u8>> = (0..4).map(|n| video(LENGTH + n)).collect();
    let mut ids = Vec::new();
    for file in &files {
        ids.push(world.create(&replica, file.len()).await);
    }
    // Inside a part, at its end, and in the next one.
    for (from, to) in [(0, 3_000_000), (3_000_000, 8 << 20), (8 << 20, 17_000_001)] {
        let before = replica.app.metrics.received_bytes.get();
        let mut sockets = Vec::new();
        for (id, file) in ids.iter().zip(&files) {
            let rest = file.len() - from;
            sockets.push(half_a_patch(&replica, id, from, rest, &file[from..to]).await);
        }
        let sent = ids.len() * (to - from);
        until_received(&replica, before + sent as u64).await;
        let next = world.replica().await;
        let answers = join_all(sockets.into_iter().map(answer));
        let (statuses, ()) = join(answers, replica.terminate()).await;
        for status in statuses {
            assert!(
                !status.contains(" 2"),
                "half a body is no success: {status}"
            );
        }
        for id in &ids {
            let there = offset_of(&world.head(&next, id).await);
            assert_eq!(there, Some(to), "nothing that was received is lost");
        }
        replica = next;
    }
    for (id, file) in ids.iter().zip(&files) {
        let answer = world
            .patch(&replica, id, 17_000_001, &file[17_000_001..])
            .await;
        assert_eq!(answer.status(), 204);
        assert_eq!(world.video(id).await.as_ref(), Some(file));
        assert!(world.jobs.job(id).is_some());
    }
    let creates = world.jobs.creates.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(creates, ids.len(), "one job each");
}

/// What a proxy has under way on a kept connection when the replica ends is answered, and the next goes elsewhere.
/// covers: F8
#[tokio::test]
async fn a_kept_connection_ends_with_an_answer_and_not_under_a_request() {
    let world = World::new("dk").await;
    let replica = world.replica().await;
    let mut kept = Vec::new();
    for _ in 0..4 {
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        let alive = ask(&mut socket).await;
        assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
        assert!(!alive.contains("connection: close"), "{alive}");
        kept.push(socket);
    }
    let idle = kept.pop().unwrap();
    replica.stop.cancel();
    for socket in &mut kept {
        let last = ask(socket).await;
        assert!(last.starts_with("HTTP/1.1 200"), "{last}");
        assert!(last.contains("connection: close"), "{last}");
        assert_eq!(socket.read(&mut [0]).await.unwrap(), 0, "closed");
    }
    assert_eq!(answer(idle).await, "", "in the end it is closed as well");
    replica.terminate().await;
}

/// One request on a connection that stays, and the head of its answer.
async fn ask(socket: &mut TcpStream) -> String {
    let request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0, "no answer");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_replica_that_ends_takes_no_new_upload_and_lets_the_running_one_end() {
    let world = World::new("dn").await;
    let replica = world.replica().await;
    replica.app.ready.drain();
    let ready = world.ask(&replica, "GET", "/readyz").send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("shutting down"));
    let create = world.ask(&replica, "POST", "/v1/uploads");
    let answer = create.body(video(20_000)).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
}

/// covers: F60
#[tokio::test]
async fn a_replica_whose_clock_is_five_minutes_off_mints_no_id_until_it_is_mended() {
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let args = StoreArgs::new(fake.endpoint(), BUCKET, fake.credentials_dir());
    let world = World::on("dc", args).await;
    let replica = world.replica().await;
    for (skew, want) in [(0, 200), (-299, 200), (302, 503), (-302, 503), (0, 200)] {
        fake.clock().skew(skew);
        world.store.head("control/absent").await.unwrap();
        let ready = world.ask(&replica, "GET", "/readyz").send().await.unwrap();
        assert_eq!(ready.status(), want, "{skew} s");
        let create = world.tus(&replica, "POST", "/v1/uploads");
        let answer = create.header("Upload-Length", 20_000).send().await.unwrap();
        let created = if want == 200 { 201 } else { 503 };
        assert_eq!(answer.status(), created, "{skew} s");
    }
}
