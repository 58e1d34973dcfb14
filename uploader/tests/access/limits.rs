//! Limits: which is reached, when to come back, and who is not touched by it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use kinora_fake_s3::{Fault, Op, Rule};
use reqwest::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::stage::{STREAM, Stage, id_of, problem, secret, video};

async fn reached(answer: Response, limit: &str) {
    let after: u64 = answer.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=86_400).contains(&after));
    let (status, kind, body) = problem(answer).await;
    assert_eq!(
        (status, kind.as_str(), &body["field"]),
        (429, "limit-reached", &limit.into())
    );
    assert!(body["detail"].as_str().unwrap().contains(limit), "{body}");
}

/// covers: S10, S18
#[tokio::test]
async fn owasp_api4_a_client_that_asks_too_often_waits_and_its_neighbour_does_not() {
    let stage = Stage::new();
    stage.access("limits: {owner: {requestsPerSecond: 1}}");
    let replica = stage.replica(&[]).await;
    let mut last = stage.create(&replica, "phone", 9).await;
    for _ in 0..100 {
        if last.status() != 201 {
            break;
        }
        last = stage.create(&replica, "phone", 9).await;
    }
    reached(last, "owner.requestsPerSecond").await;
    assert_eq!(stage.create(&replica, "stranger", 9).await.status(), 201);
}

/// covers: S10
#[tokio::test]
async fn open_uploads_are_bounded_and_what_has_ended_counts_no_more() {
    let stage = Stage::new();
    stage.access("limits: {owner: {openUploads: 2}}");
    let replica = stage.replica(&[]).await;
    let first = id_of(&stage.create(&replica, "phone", 9).await);
    id_of(&stage.create(&replica, "phone", 9).await);
    reached(
        stage.create(&replica, "phone", 9).await,
        "owner.openUploads",
    )
    .await;
    // Ended at another replica.
    let other = stage.replica(&[]).await;
    let path = format!("/v1/uploads/{first}");
    let gone = stage
        .ask(&other, Some(&secret("phone")), "DELETE", &path)
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(stage.create(&replica, "phone", 9).await.status(), 201);
}

/// Its job is made when there is room for it, in hours maybe: its client is through.
/// covers: F9, S10
#[tokio::test]
async fn an_upload_that_only_waits_for_its_job_is_not_open() {
    let stage = Stage::new();
    stage.access("limits: {owner: {openUploads: 2}}");
    let replica = stage.replica(&[]).await;
    replica.app.admission.set_open(false);
    let file = video(5_000);
    for n in 0..4 {
        let created = stage.create(&replica, "phone", file.len()).await;
        assert_eq!(created.status(), 201, "{n}");
        let path = format!("/v1/uploads/{}", id_of(&created));
        let patch = stage.ask(&replica, Some(&secret("phone")), "PATCH", &path);
        let patch = patch
            .header("Upload-Offset", "0")
            .header("Content-Type", STREAM);
        let patch = patch.body(file.clone()).send().await.unwrap();
        assert_eq!(patch.status(), 204, "{n}");
    }
}

/// Its client has the URL before the answer, and goes on with a PATCH.
/// covers: S10
#[tokio::test]
async fn a_create_that_is_cut_after_its_url_was_told_is_counted() {
    for limit in ["openUploads", "uploadsPerDay"] {
        let stage = Stage::new();
        stage.access(&format!("limits: {{owner: {{{limit}: 1}}}}"));
        let replica = stage.replica(&[]).await;
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        let head = format!(
            "POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Upload-Draft-Interop-Version: 6\r\nUpload-Complete: ?1\r\nContent-Length: 5000\r\n\r\n",
            secret("phone")
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; 13];
        socket.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 104 ", "{limit}");
        drop(socket);
        let next = stage.create(&replica, "phone", 9).await;
        reached(next, &format!("owner.{limit}")).await;
    }
}

/// Nobody is kept from the upload that he has by that upload.
/// covers: S10
#[tokio::test]
async fn a_repeated_create_is_counted_once() {
    let stage = Stage::new();
    stage.access("limits: {owner: {openUploads: 2, uploadsPerDay: 2}}");
    let (one, two) = (stage.replica(&[]).await, stage.replica(&[]).await);
    let keyed = |replica, key: &'static str| {
        let request = stage.ask(replica, Some(&secret("phone")), "POST", "/v1/uploads");
        request
            .header("Upload-Length", 9)
            .header("Idempotency-Key", key)
            .send()
    };
    let id = id_of(&keyed(&one, "first").await.unwrap());
    let item = serde_json::json!({"length": 9, "idempotencyKey": "first"});
    let batch = serde_json::json!({"items": [item.clone(), item]});
    for replica in [&one, &two, &one] {
        assert_eq!(id_of(&keyed(replica, "first").await.unwrap()), id);
        let request = stage.ask(replica, Some(&secret("phone")), "POST", "/v1/batches");
        let request = request.header("Content-Type", "application/json");
        let answer = request.body(batch.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let second = id_of(&keyed(&one, "second").await.unwrap());
    reached(keyed(&one, "third").await.unwrap(), "owner.openUploads").await;
    assert_eq!(id_of(&keyed(&one, "second").await.unwrap()), second);
}

/// A body that does not say how long it is ends where the quota does.
/// covers: S10
#[tokio::test]
async fn a_body_of_untold_size_brings_no_more_than_the_day_has_left() {
    const LENGTH: usize = 2 << 20;
    let stage = Stage::new();
    stage.access("limits: {owner: {bytesPerDay: 30000}}");
    let replica = stage.replica(&[]).await;
    let id = id_of(&stage.create(&replica, "phone", LENGTH).await);
    let path = format!("/v1/uploads/{id}");
    let patch = |offset: &str| {
        stage
            .ask(&replica, Some(&secret("phone")), "PATCH", &path)
            .header("Upload-Offset", offset.to_owned())
            .header("Content-Type", STREAM)
    };
    let file = video(LENGTH);
    let pieces: Vec<_> = file.chunks(10_000).map(<[u8]>::to_vec).collect();
    let pieces = futures::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let sent = patch("0").body(reqwest::Body::wrap_stream(pieces)).send();
    let sent = sent.await.unwrap();
    let told = sent.headers()["upload-offset"].clone();
    reached(sent, "owner.bytesPerDay").await;
    let head = stage.ask(&replica, Some(&secret("phone")), "HEAD", &path);
    let head = head.send().await.unwrap();
    let offset = head.headers()["upload-offset"].to_str().unwrap();
    let had: usize = offset.parse().unwrap();
    assert!((1..LENGTH / 4).contains(&had), "{had}");
    assert_eq!(told, offset, "the refusal tells how far it came");
    let next = patch(offset).body(file[had..].to_vec()).send().await;
    reached(next.unwrap(), "owner.bytesPerDay").await;
}

/// covers: S10
#[tokio::test]
async fn a_create_with_a_body_of_untold_size_is_told_which_limit_it_reached() {
    const LENGTH: usize = 1 << 20;
    let stage = Stage::new();
    stage.access("limits: {owner: {bytesPerDay: 30000}}");
    let replica = stage.replica(&[]).await;
    let pieces: Vec<_> = video(LENGTH).chunks(10_000).map(<[u8]>::to_vec).collect();
    let pieces = futures::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let create = stage
        .ask(&replica, Some(&secret("phone")), "POST", "/v1/uploads")
        .header("Upload-Length", LENGTH)
        .header("Content-Type", STREAM)
        .body(reqwest::Body::wrap_stream(pieces));
    reached(create.send().await.unwrap(), "owner.bytesPerDay").await;
}

/// covers: S10, S18
#[tokio::test]
async fn owasp_api6_a_day_s_quota_holds_over_all_replicas() {
    let stage = Stage::new();
    stage.access("limits: {owner: {bytesPerDay: 30000, uploadsPerDay: 3}}");
    let (one, two) = (stage.replica(&[]).await, stage.replica(&[]).await);
    let id = id_of(&stage.create(&one, "phone", 20_000).await);
    let path = format!("/v1/uploads/{id}");
    let patch = stage
        .ask(&one, Some(&secret("phone")), "PATCH", &path)
        .header("Upload-Offset", "0")
        .header("Content-Type", STREAM)
        .body(video(20_000));
    assert_eq!(patch.send().await.unwrap().status(), 204);
    one.app.limits.quotas().share(&one.app.store).await;

    let direct = |bytes: usize| {
        let request = stage.ask(&two, Some(&secret("phone")), "POST", "/v1/uploads");
        request
            .header("Upload-Length", bytes)
            .header("Content-Type", STREAM)
            .body(video(bytes))
    };
    reached(direct(15_000).send().await.unwrap(), "owner.bytesPerDay").await;
    assert_eq!(
        direct(5_000).send().await.unwrap().status(),
        201,
        "what is left"
    );
    assert_eq!(stage.create(&two, "phone", 9).await.status(), 201);
    reached(stage.create(&two, "phone", 9).await, "owner.uploadsPerDay").await;
    let head = stage
        .ask(&two, Some(&secret("phone")), "HEAD", &path)
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200, "questions are answered");
    assert_eq!(stage.create(&two, "stranger", 9).await.status(), 201);

    // Whoever cannot be counted writes nothing.
    stage
        .s3
        .faults()
        .add(Rule::on(Op::List, Fault::InternalError).times(100));
    let (status, kind, _) = problem(stage.create(&two, "backend", 9).await).await;
    assert_eq!((status, kind.as_str()), (503, "try-again"));
}

/// covers: F9
#[tokio::test]
async fn new_uploads_wait_while_the_operator_is_full_and_the_outbox_is_old() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let begun = id_of(&stage.create(&replica, "phone", 5000).await);
    let full = r#"{"v":1,"admit":false,"live":100000,"watermark":100000}"#;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/admission", listener.local_addr().unwrap());
    let operator = Router::new().route("/admission", get(move || async move { full }));
    let (away, end) = (CancellationToken::new(), CancellationToken::new());
    let gone = away.clone();
    let serving = tokio::spawn(async move {
        axum::serve(listener, operator)
            .with_graceful_shutdown(gone.cancelled_owned())
            .await
    });
    let admission = replica.app.admission.clone();
    tokio::spawn(admission.clone().watch(url, end.clone()));
    until(|| !admission.is_open()).await;
    assert_eq!(
        stage.create(&replica, "phone", 9).await.status(),
        201,
        "the outbox takes it"
    );
    admission.set_oldest_pending(7 * 3600);
    let refused = stage.create(&replica, "phone", 9).await;
    assert_eq!(refused.headers()["retry-after"], "300");
    let (status, kind, _) = problem(refused).await;
    assert_eq!((status, kind.as_str()), (429, "overloaded"));
    let patch = stage
        .ask(
            &replica,
            Some(&secret("phone")),
            "PATCH",
            &format!("/v1/uploads/{begun}"),
        )
        .header("Upload-Offset", "0")
        .header("Content-Type", STREAM)
        .body(video(5000));
    assert_eq!(
        patch.send().await.unwrap().status(),
        204,
        "what was begun goes on"
    );
    away.cancel();
    until(|| admission.is_open()).await;
    assert_eq!(
        stage.create(&replica, "phone", 9).await.status(),
        201,
        "no answer means open"
    );
    end.cancel();
    let _ = serving.await;
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// covers: F7, S7
#[tokio::test]
async fn heads_that_are_too_large_are_refused_and_addresses_have_so_many_connections() {
    let stage = Stage::new();
    stage.access("limits: {address: {connections: 2}}");
    let replica = stage.replica(&[]).await;
    let mut large = TcpStream::connect(replica.address).await.unwrap();
    let head = format!(
        "GET /v1/videos HTTP/1.1\r\nHost: x\r\nX-Pad: {}\r\n\r\n",
        "p".repeat(17 << 10)
    );
    large.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    large.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");

    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        socket
            .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut byte = [0; 1];
        socket.read_exact(&mut byte).await.unwrap();
        held.push(socket);
    }
    let mut third = TcpStream::connect(replica.address).await.unwrap();
    let closed = third.read(&mut [0; 1]).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "it is turned away");
}

/// A request on a connection of its own; its answer up to where the server closes.
async fn once(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let answered =
        tokio::time::timeout(Duration::from_secs(60), socket.read_to_string(&mut answer));
    answered.await.expect("no answer").unwrap();
    answer.to_lowercase()
}

/// covers: F6, S7
#[tokio::test]
async fn a_full_replica_answers_probes_and_turns_others_away() {
    let stage = Stage::new();
    stage.access("limits: {connections: 20}");
    let replica = stage.replica(&[]).await;
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        socket
            .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut begun = [0; 15];
        socket.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200 OK");
        kept.push(socket);
    }
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(replica.address).await.unwrap());
    }
    for (path, want) in [
        ("/livez", " 200 "),
        ("/readyz", " 200 "),
        ("/metrics", " 200 "),
        ("/v1/videos", " 503 "),
        ("/nothing", " 503 "),
    ] {
        let answer = once(replica.address, path).await;
        assert!(answer.contains(want), "{path}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{path}: {answer}");
    }
    let counted = once(replica.address, "/metrics").await;
    let counted = counted.contains("limits_reached_total{limit=\"connections\"} 2\n");
    assert!(counted, "those who were turned away");
    drop(kept);
    let request = || stage.ask(&replica, None, "GET", "/v1/videos");
    let begun = Instant::now();
    while request().send().await.unwrap().status() != 401 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it stays full");
    }
}
