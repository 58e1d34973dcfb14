//! Repeats of keyed creates whose first try came to a bad end.

use kinora_fake_s3::{Behaviour, Fault, Op, Rule};
use kinora_storage::keys;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::Stage;
use crate::harness::{KEY, id_of, offset_of, until, video};

const PARTS: usize = (8 << 20) + 300_000;
const RESUMABLE: (&str, &str) = ("Upload-Draft-Interop-Version", "8");

/// Whoever has the only copy left brings it again, and must not be told that it is there.
/// covers: F7, F12
#[tokio::test]
async fn what_the_store_lost_at_the_end_is_made_anew_by_a_repeat() {
    for draft in [false, true] {
        let stage = Stage::new(Behaviour::aws()).await;
        let file = video(PARTS);
        let send = async || {
            let request = stage.world.ask(&stage.replicas[0], "POST", "/v1/uploads");
            let mut request = request.header("Idempotency-Key", "k").body(file.clone());
            if draft {
                let (name, version) = RESUMABLE;
                request = request
                    .header(name, version)
                    .header("Upload-Complete", "?1");
            }
            request.send().await.unwrap()
        };
        let faults = stage.fake.faults();
        faults.add(Rule::on(Op::Complete, Fault::AbortedBefore).nth(0));
        assert_eq!(send().await.status(), 410, "draft: {draft}");
        let lost = stage.fake.keys("idem/");
        assert!(stage.fake.keys("videos/").is_empty());

        let again = send().await;
        assert!(again.status().is_success(), "draft: {draft}: {again:?}");
        let id = id_of(&again);
        assert!(stage.world.jobs.job(&id).is_some(), "draft: {draft}: a job");
        assert_eq!(stage.fake.keys("videos/").len(), 1);
        assert_eq!(stage.fake.keys("idem/"), lost, "the same entry");
        assert_eq!(id_of(&send().await), id, "from now on it is this one");
    }
}

/// covers: F7, F12
#[tokio::test]
async fn a_repeated_tus_create_is_never_told_the_offset_of_what_was_lost() {
    let stage = Stage::new(Behaviour::aws()).await;
    let file = video(PARTS);
    let create = async || {
        let request = stage.world.tus(&stage.replicas[0], "POST", "/v1/uploads");
        let request = request.header("Upload-Length", file.len());
        request.header("Idempotency-Key", "k").send().await.unwrap()
    };
    let send = async |id: &str| {
        let path = format!("/v1/uploads/{id}");
        let request = stage.world.tus(&stage.replicas[0], "PATCH", &path);
        let request = request.header("Upload-Offset", 0);
        let request = request.header("Content-Type", crate::harness::STREAM);
        request.body(file.clone()).send().await.unwrap().status()
    };
    let first = id_of(&create().await);
    let faults = stage.fake.faults();
    faults.add(Rule::on(Op::Complete, Fault::AbortedBefore).nth(0));
    assert_eq!(send(&first).await, 410);

    let again = create().await;
    assert_eq!(again.status(), 201);
    assert_eq!(offset_of(&again).unwrap_or(0), 0);
    let second = id_of(&again);
    assert_ne!(second, first);
    assert_eq!(send(&second).await, 204);
    assert!(stage.world.jobs.job(&second).is_some());
}

/// covers: F7, F60
#[tokio::test]
async fn a_repeat_that_may_get_no_id_lets_the_first_try_live() {
    let stage = Stage::new(Behaviour::aws()).await;
    let file = video(3 * PARTS);
    let mut first = TcpStream::connect(stage.replicas[0].address).await.unwrap();
    let head = format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: k\r\n\
         Content-Length: {}\r\n\r\n",
        file.len()
    );
    first.write_all(head.as_bytes()).await.unwrap();
    first.write_all(&file[..PARTS]).await.unwrap();
    let states = || {
        let keys = stage.fake.keys(keys::UPLOADS);
        keys.into_iter().find(|key| key.ends_with("state"))
    };
    until("it has a state", || states().is_some()).await;
    let state = async || {
        let key = states().expect("it is there");
        let found = stage.world.store.get_document(&key).await.unwrap();
        found.expect("it is there").bytes
    };
    let skew = async |seconds| {
        stage.fake.clock().skew(seconds);
        stage.world.store.head("control/absent").await.unwrap();
    };
    let repeat = async || {
        let request = stage.world.ask(&stage.replicas[1], "POST", "/v1/uploads");
        let request = request.header("Idempotency-Key", "k").body(file.clone());
        request.send().await.unwrap()
    };

    skew(400).await;
    assert_eq!(repeat().await.status(), 503);
    let text = String::from_utf8_lossy(&state().await).into_owned();
    assert!(!text.contains("\"dead\""), "{text}");
    skew(0).await;
    assert_eq!(repeat().await.status(), 201, "takes its place");
    assert_eq!(stage.world.jobs.jobs.lock().unwrap().len(), 1);
}
