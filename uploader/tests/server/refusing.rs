//! What a look into the container leads to. covers: S7

use kinora_storage::{PutOptions, UploadId, keys};
use kinora_uploader::documents;
use kinora_uploader::drive::blank_state;
use kinora_uploader::profiles::Profile;
use kinora_uploader::sweep::sweep_outbox;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{KEY, Replica, World, id_of, video, video_of};

/// Bytes that begin as a video does, and none in them.
fn spaces(length: usize) -> Vec<u8> {
    let mut bytes = b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2".to_vec();
    bytes.extend((length as u32 - 24).to_be_bytes());
    bytes.extend(b"mdat");
    bytes.resize(length, 0x20);
    bytes
}

/// Uploads over tus, in two pieces; the last answer, and the id.
async fn upload(world: &World, replica: &Replica, file: &[u8]) -> (String, reqwest::Response) {
    let id = world.create(replica, file.len()).await;
    let half = file.len() / 2;
    let first = world.patch(replica, &id, 0, &file[..half]).await;
    assert_eq!(first.status(), 204);
    let answer = world.patch(replica, &id, half, &file[half..]).await;
    (id, answer)
}

async fn refused_for_good(world: &World, replica: &Replica, id: &str, reason: &str) {
    assert_eq!(world.head(replica, id).await.status(), 410, "{reason}");
    let status = world.status(replica, id).await;
    assert_eq!(
        (&status["state"], &status["reason"]),
        (&"rejected".into(), &reason.into()),
        "{status}"
    );
    assert!(world.video(id).await.is_none(), "the object goes");
    assert!(world.jobs.job(id).is_none(), "there is no job");
    let id: UploadId = id.parse().unwrap();
    assert!(!world.exists(&keys::active(&id)).await);
    world.gone(&keys::pending(&id)).await;
    world.gone(&keys::state(&id)).await;
}

#[tokio::test]
async fn a_file_that_is_no_short_video_is_refused_at_its_end_and_stays_so() {
    let world = World::new("r1").await;
    let replica = world.replica().await;
    let cases = [
        ("NotAVideo", spaces(20_000)),
        ("TooLong", video_of(16, 20_000)),
        ("Truncated", video(20_000)[..19_999].to_vec()),
        ("TooLong", video_of(400, 21_000_000)),
        ("NotAVideo", spaces(9_000_000)),
    ];
    for (reason, file) in cases {
        let (id, answer) = upload(&world, &replica, &file).await;
        assert_eq!(answer.status(), 422, "{reason}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: serde_json::Value = answer.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{detail}");
        assert_eq!(detail.contains("15 s"), reason == "TooLong", "{detail}");
        refused_for_good(&world, &replica, &id, reason).await;
    }
}

#[tokio::test]
async fn a_refusal_in_one_request_and_by_the_sweep_is_the_same() {
    let world = World::new("r2").await;
    let replica = world.replica().await;
    let request = world.ask(&replica, "POST", "/v1/uploads");
    let answer = request.body(video_of(60, 9_999)).send().await.unwrap();
    assert_eq!(answer.status(), 422);

    // A crash between the object and the decision.
    let id = replica.app.mint();
    let file = video_of(60, 50_000);
    let mut doc = blank_state(&id, "acme", "default", Some(50_000), 8 << 20);
    doc.offset = 50_000;
    doc.crc = None;
    let mut pending =
        documents::pending(&id, &doc, &Profile::default(), "videos", world.store.now());
    pending.owner.iss = "apikey".into();
    pending.owner.sub = "phone".into();
    let bytes = kinora_storage::documents::encode(&pending).unwrap();
    let (key, options) = (keys::pending(&id), PutOptions::default());
    world.store.put(&key, bytes.into(), options).await.unwrap();
    let options = PutOptions {
        metadata: [("upload-id".to_owned(), id.to_string())].into(),
        ..PutOptions::default()
    };
    let key = keys::video(&id);
    world.store.put(&key, file.into(), options).await.unwrap();
    assert!(sweep_outbox(&replica.app, 0).await.finished >= 1);
    refused_for_good(&world, &replica, id.as_str(), "TooLong").await;
}

#[tokio::test]
async fn how_long_an_accepted_video_plays_is_kept() {
    let world = World::new("r3").await;
    let replica = world.replica().await;
    let request = world.ask(&replica, "POST", "/v1/uploads");
    let answer = request.body(video_of(15, 9_999)).send().await.unwrap();
    let id: UploadId = id_of(&answer).parse().unwrap();
    let stored = world.store.get(&keys::active(&id)).await.unwrap();
    let active: serde_json::Value = serde_json::from_slice(&stored.unwrap().bytes).unwrap();
    assert_eq!(active["duration"], 15.0);
}

/// A client that asked for leave has it from the first read on, and sends: it is to see the refusal, and no broken pipe.
/// covers: F8
#[tokio::test]
async fn a_refusal_in_the_middle_of_a_body_that_had_leave_arrives() {
    let world = World::new("f9").await;
    let replica = world.replica().await;
    let body = vec![b'x'; 8 << 20];
    let mut socket = TcpStream::connect(replica.address).await.unwrap();
    let head = format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut leave = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    socket.read_exact(&mut leave).await.unwrap();
    assert_eq!(leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(&body).await.unwrap();
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 415");
}
