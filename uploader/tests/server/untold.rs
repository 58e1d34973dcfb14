//! Bodies that are not of the length that was told for the file, or beyond what its profile takes; most of them chunked,
//! so that their size shows at their end only.

use kinora_uploader::profiles::Profiles;
use reqwest::{Body, RequestBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{KEY, Replica, STREAM, World, id_of, offset_of, problem_of, video};

/// A profile of 100,000 bytes beside the default one.
const SMALL: &str = "small: {maxBytes: 100000}";

fn chunked(bytes: &[u8]) -> Body {
    let pieces: Vec<_> = bytes.chunks(100_000).map(<[u8]>::to_vec).collect();
    let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
    Body::wrap_stream(futures::stream::iter(pieces))
}

/// In the words of version 8, whether it is named or not: only then is the URL of a whole file told before its body.
fn draft(
    world: &World,
    replica: &Replica,
    named: bool,
    method: &str,
    path: &str,
    end: bool,
) -> RequestBuilder {
    let request = world.ask(replica, method, path);
    let request = request.header("Upload-Complete", if end { "?1" } else { "?0" });
    if named {
        request.header("Upload-Draft-Interop-Version", "8")
    } else {
        request
    }
}

fn no_job(world: &World) -> bool {
    world.jobs.jobs.lock().unwrap().is_empty()
}

#[tokio::test]
async fn a_tus_create_beyond_its_length_leaves_nothing() {
    let world = World::new("ut1").await;
    let replica = world.replica().await;
    let file = video((9 << 20) + 5);
    for key in [None, Some("ut1")] {
        let create = || {
            let request = world.tus(&replica, "POST", "/v1/uploads");
            let request = request.header("Upload-Length", 9 << 20);
            match key {
                Some(key) => request.header("Idempotency-Key", key),
                None => request,
            }
        };
        let with_body = create().header("Content-Type", STREAM);
        let answer = with_body.body(chunked(&file)).send().await.unwrap();
        assert_eq!(problem_of(answer).await, (413, "too-large".into()));
        assert!(no_job(&world), "{key:?}");
        let again = create().send().await.unwrap();
        assert_eq!(again.status(), 201, "{key:?}");
        let head = world.head(&replica, &id_of(&again)).await;
        assert_eq!(offset_of(&head), Some(0), "{key:?}: a new one");
    }
}

#[tokio::test]
async fn bodies_of_a_draft_that_do_not_fit_are_told_apart_by_what_was_said() {
    let world = World::new("ut2").await;
    let replica = world
        .replica_of(Profiles::parse(SMALL, false).unwrap())
        .await;
    let inconsistent = (400, "inconsistent-upload-length");
    let too_large = (413, "too-large");
    // Method, flag, told length, bytes of the body, answer.
    let cases = [
        ("POST", true, Some(9_000), 5_000, inconsistent),
        ("POST", true, Some(9_000), 9_001, inconsistent),
        ("POST", false, Some(9_000), 9_001, inconsistent),
        ("POST", true, Some(9 << 20), (9 << 20) + 1, inconsistent),
        ("POST", false, Some(9 << 20), (9 << 20) + 1, inconsistent),
        ("PATCH", true, Some(9_000), 5_000, inconsistent),
        ("PATCH", true, Some(9_000), 9_001, inconsistent),
        ("PATCH", false, Some(9_000), 9_001, inconsistent),
        ("POST", true, None, 100_001, too_large),
        ("POST", false, None, 100_001, too_large),
        ("PATCH", true, None, 100_001, too_large),
        ("PATCH", false, None, 100_001, too_large),
    ];
    for named in [true, false] {
        for (method, end, length, size, (status, kind)) in cases {
            let name = format!("{named} {method} {end} {length:?} {size}");
            let told = |request: RequestBuilder| match length {
                Some(length) => request.header("Upload-Length", length),
                None => request.header("Kinora-Profile", "small"),
            };
            let ask =
                |method: &str, path: &str, end| draft(&world, &replica, named, method, path, end);
            let request = if method == "POST" {
                told(ask("POST", "/v1/uploads", end))
            } else {
                let create = told(ask("POST", "/v1/uploads", false));
                let create = create.send().await.unwrap();
                assert_eq!(create.status(), 201, "{name}");
                let path = format!("/v1/uploads/{}", id_of(&create));
                ask("PATCH", &path, end)
                    .header("Upload-Offset", 0)
                    .header("Content-Type", "application/partial-upload")
            };
            // Whole at its length, with more behind.
            let mut file = video(length.unwrap_or(size));
            file.resize(size, 0);
            let answer = request.body(chunked(&file)).send().await.unwrap();
            let (got, word) = problem_of(answer).await;
            assert_eq!(got, status, "{name}: {word}");
            assert!(word.ends_with(kind), "{name}: {word}");
        }
    }
}

#[tokio::test]
async fn a_told_size_beyond_the_limit_is_refused_before_the_body_comes() {
    let world = World::new("ut3").await;
    let replica = world.replica().await;
    let tus = "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n";
    let partial = "Upload-Complete: ?0\r\nContent-Type: application/partial-upload\r\n";
    let create = world.tus(&replica, "POST", "/v1/uploads");
    let create = create.header("Upload-Defer-Length", "1").send();
    let one = format!("/v1/uploads/{}", id_of(&create.await.unwrap()));
    let create = draft(&world, &replica, true, "POST", "/v1/uploads", false).send();
    let other = format!("/v1/uploads/{}", id_of(&create.await.unwrap()));
    for (method, path, words) in [
        (
            "POST",
            "/v1/uploads",
            format!("{tus}Upload-Defer-Length: 1\r\n"),
        ),
        ("POST", "/v1/uploads", "Upload-Complete: ?0\r\n".into()),
        ("PATCH", &one, format!("{tus}Upload-Offset: 0\r\n")),
        ("PATCH", &other, format!("{partial}Upload-Offset: 0\r\n")),
    ] {
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{words}\
             Content-Length: 5000000000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 413 "),
            "{method} {words}: {answer}"
        );
    }
}

#[tokio::test]
async fn whoever_tells_a_length_and_sends_more_learns_the_room_of_that_length() {
    let world = World::new("ut4").await;
    let replica = world.replica().await;
    let create = world.tus(&replica, "POST", "/v1/uploads");
    let create = create.header("Upload-Defer-Length", "1").send();
    let path = format!("/v1/uploads/{}", id_of(&create.await.unwrap()));
    let patch = world.tus(&replica, "PATCH", &path);
    let patch = patch
        .header("Upload-Offset", 0)
        .header("Upload-Length", 9_000)
        .header("Content-Type", STREAM);
    let answer = patch.body(video(9_001)).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    let problem: serde_json::Value = answer.json().await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("room for 9000 more"), "{detail}");
}

#[tokio::test]
async fn a_draft_that_ends_before_its_length_is_told_so_under_a_key_too() {
    let world = World::new("ut3").await;
    let replica = world.replica().await;
    let whole = video(9_000);
    let create = |size: usize| {
        let create = draft(&world, &replica, false, "POST", "/v1/uploads", true);
        let create = create.header("Upload-Length", whole.len());
        let create = create.header("Idempotency-Key", "ut3");
        create.body(chunked(&whole[..size])).send()
    };
    let short = create(5_000).await.unwrap();
    assert!(!short.headers().contains_key("Upload-Offset"), "of nothing");
    let (status, kind) = problem_of(short).await;
    assert_eq!(status, 400, "{kind}");
    assert!(kind.ends_with("inconsistent-upload-length"), "{kind}");
    assert!(no_job(&world));
    assert_eq!(create(whole.len()).await.unwrap().status(), 201);
}
