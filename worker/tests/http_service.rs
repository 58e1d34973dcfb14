//! The HTTP form of the processing protocol over real sockets: what a service may answer, and what it may not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use kinora_protocol::dispatch::outcome::Fact;
use kinora_protocol::dispatch::{HttpStatus, Lease, Outcome, from_worker, to_worker};
use kinora_worker::Config;
use kinora_worker::config::Protocol;
use kinora_worker::metrics::Metrics;
use prometheus_client::registry::Registry;
use support::http_service::{Exchange, HttpService, bytes};
use support::operator::{FakeOperator, Stream, pki};
use support::{Worker, config, soon, start};
use tokio::runtime::Builder;
use tonic::Code;

struct Scene {
    _operator: FakeOperator,
    _worker: Worker,
    stream: Stream,
}

/// A worker with one lease to an HTTP service at this endpoint.
async fn leased(endpoint: &str, change: impl FnOnce(&mut Config)) -> Scene {
    with_lease(endpoint, change, support::operator::lease("a/1")).await
}

async fn with_lease(endpoint: &str, change: impl FnOnce(&mut Config), lease: Lease) -> Scene {
    let mut operator = FakeOperator::start().await;
    let mut config = config(&operator, endpoint);
    config.service.protocol = Protocol::Http;
    change(&mut config);
    let worker = start(config);
    let (stream, _) = operator.stream().await;
    stream.say(to_worker::Message::Lease(lease));
    Scene {
        _operator: operator,
        _worker: worker,
        stream,
    }
}

#[track_caller]
fn assert_code(outcome: &Outcome, want: Code) {
    let Some(Fact::Grpc(status)) = &outcome.fact else {
        panic!("{outcome:?}")
    };
    assert_eq!(Code::from_i32(status.code), want, "{}", outcome.message);
}

#[tokio::test]
async fn a_lease_is_one_post_and_a_200_its_result() {
    let mut service = HttpService::start().await;
    let mut scene = leased(&service.url("/v1/process?model=2"), |_| {}).await;
    let exchange = service.next().await;
    assert_eq!(exchange.line, "POST /v1/process?model=2");
    assert_eq!(exchange.headers["idempotency-key"], "a/1.0");
    assert_eq!(exchange.headers["content-type"], "application/json");
    assert!(!exchange.headers.contains_key("traceparent"));
    let left: u64 = exchange.headers["kinora-timeout-ms"].parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    let request: serde_json::Value = serde_json::from_slice(&exchange.body).unwrap();
    assert_eq!(request["idempotencyKey"], "a/1.0");
    assert_eq!(request["attempt"], 1);
    assert_eq!(request["outputs"][0]["headers"]["if-none-match"], "*");
    let body = r#"{"outputs":[{"name":"video","sizeBytes":7,"checksum":"sha256:00"}],"result":{"label":"cat"}}"#;
    exchange.answer("200 OK", &[], body).await;
    let outcome = scene.stream.outcome().await;
    let Some(Fact::Succeeded(result)) = outcome.fact else {
        panic!("{outcome:?}")
    };
    assert_eq!(result.result_json, r#"{"label":"cat"}"#);
    assert_eq!(result.outputs[0].size_bytes, 7);
}

#[tokio::test]
async fn a_202_is_asked_again_at_its_location_until_there_is_a_result() {
    let mut service = HttpService::start().await;
    let mut scene = leased(&service.url("/v1/process"), |_| {}).await;
    let accepted = [("location", "/jobs/7"), ("retry-after", "0")];
    service
        .next()
        .await
        .answer("202 Accepted", &accepted, "")
        .await;
    let poll = service.next().await;
    assert_eq!(poll.line, "GET /jobs/7");
    assert!(poll.body.is_empty());
    let progress = r#"{"percent":40,"step":"encode"}"#;
    poll.answer("202 Accepted", &[("retry-after", "0")], progress)
        .await;
    loop {
        if let from_worker::Message::Progress(told) = scene.stream.next().await {
            assert_eq!((told.percent, told.step.as_str()), (40, "encode"));
            break;
        }
    }
    // A question that fails is no end of the call.
    let poll = service.next().await;
    poll.answer("503 Service Unavailable", &[], "").await;
    let poll = service.next().await;
    assert_eq!(poll.line, "GET /jobs/7");
    poll.answer("200 OK", &[], r#"{"outputs":[]}"#).await;
    let outcome = scene.stream.outcome().await;
    assert!(
        matches!(outcome.fact, Some(Fact::Succeeded(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_cancelled_call_deletes_what_the_service_works_on() {
    let mut service = HttpService::start().await;
    let mut scene = leased(&service.url("/v1/process"), |_| {}).await;
    let accepted = [("location", "/jobs/7"), ("retry-after", "0")];
    service
        .next()
        .await
        .answer("202 Accepted", &accepted, "")
        .await;
    let poll = service.next().await;
    scene.stream.cancel("a/1");
    let outcome = scene.stream.outcome().await;
    assert!(
        matches!(outcome.fact, Some(Fact::Released(_))),
        "{outcome:?}"
    );
    drop(poll);
    assert_eq!(service.next().await.line, "DELETE /jobs/7");
}

/// As the process does it: what is not told when the worker has ended is never told.
#[tokio::test]
async fn a_call_that_is_given_up_at_the_end_is_told_before_it() {
    let mut service = HttpService::start().await;
    let mut operator = FakeOperator::start().await;
    let mut config = config(&operator, &service.url("/v1/process"));
    config.service.protocol = Protocol::Http;
    let (terminate, signals) = tokio::sync::mpsc::channel(4);
    let process = std::thread::spawn(move || {
        let metrics = Metrics::new(&mut Registry::default(), 1);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(kinora_worker::run(config, metrics, signals))
    });
    let (mut stream, _) = operator.stream().await;
    stream.lease("a/1");
    let accepted = [("location", "/jobs/7"), ("retry-after", "0")];
    let post = service.next().await;
    post.answer("202 Accepted", &accepted, "").await;
    let poll = service.next().await;
    // The second one asks for an end at once.
    terminate.send(()).await.unwrap();
    terminate.send(()).await.unwrap();
    let outcome = stream.outcome().await;
    assert!(
        matches!(outcome.fact, Some(Fact::Released(_))),
        "{outcome:?}"
    );
    stream.ack("a/1");
    drop(poll);
    let delete = service.next().await;
    assert_eq!(delete.line, "DELETE /jobs/7");
    // It hears no answer, and gives the service some time for it.
    let heard = Instant::now();
    let exit = tokio::task::spawn_blocking(move || process.join().unwrap());
    assert_eq!(soon("its end", exit).await.unwrap().unacknowledged, 0);
    assert!(heard.elapsed() > Duration::from_millis(500));
}

/// covers: F45, F50
#[rstest::rstest]
#[case::no_video("422 Unprocessable Content", &[], 422, None)]
#[case::throttled("429 Too Many Requests", &[("retry-after", "9")], 429, Some(9_000))]
#[case::throttled_for_ever("429 Too Many Requests", &[("retry-after", "99999999999")], 429, Some(86_400_000))]
#[case::a_date_that_is_past("503 Service Unavailable", &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], 503, Some(0))]
#[case::no_sense("503 Service Unavailable", &[("retry-after", "soon")], 503, None)]
#[case::failed("500 Internal Server Error", &[], 500, None)]
#[case::no_such_route("404 Not Found", &[], 404, None)]
#[tokio::test]
async fn statuses_are_raw_facts(
    #[case] status: &str,
    #[case] headers: &[(&str, &str)],
    #[case] want: u32,
    #[case] want_ms: Option<u64>,
) {
    let mut service = HttpService::start().await;
    let script = async {
        let exchange = service.exchanges.recv().await.unwrap();
        exchange.answer(status, headers, "why it is so").await;
    };
    let url = format!("http://{}/v1/process", service.address);
    let mut scene = leased(&url, |_| {}).await;
    let (outcome, ()) = tokio::join!(scene.stream.outcome(), script);
    assert_eq!(outcome.fact, Some(Fact::Http(HttpStatus { status: want })));
    assert_eq!(outcome.retry_after_ms, want_ms);
    assert_eq!(outcome.message, "why it is so");
}

/// covers: S15
#[tokio::test]
async fn neither_a_redirect_nor_a_foreign_location_is_followed() {
    let (mut service, mut elsewhere) = (HttpService::start().await, HttpService::start().await);
    for status in ["302 Found", "307 Temporary Redirect", "202 Accepted"] {
        let target = elsewhere.url("/steal");
        let script = async {
            let exchange = service.exchanges.recv().await.unwrap();
            exchange.answer(status, &[("location", &target)], "").await;
        };
        let url = format!("http://{}/", service.address);
        let mut scene = leased(&url, |_| {}).await;
        let (outcome, ()) = tokio::join!(scene.stream.outcome(), script);
        match status.starts_with('3') {
            true => assert!(matches!(outcome.fact, Some(Fact::Http(_))), "{outcome:?}"),
            false => assert_code(&outcome, Code::Unimplemented),
        }
    }
    assert!(elsewhere.is_quiet());
}

/// covers: F48, S15
#[rstest::rstest]
#[case::cut_short(
    bytes("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"outputs\":"),
    Code::DataLoss
)]
#[case::a_chunk_cut_short(
    bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{"),
    Code::DataLoss
)]
#[case::rubbish(
    bytes("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\u{1}\u{2}\u{3}"),
    Code::DataLoss
)]
#[case::a_web_page(
    bytes("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"),
    Code::DataLoss
)]
#[case::oversized(bytes(&format!("HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n\"{}", "x".repeat(1_999_999))), Code::DataLoss)]
#[case::no_body(bytes("HTTP/1.1 204 No Content\r\n\r\n"), Code::DataLoss)]
#[case::no_location(
    bytes("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"),
    Code::DataLoss
)]
#[case::no_http(bytes("220 smtp.example.com ESMTP\r\n"), Code::DataLoss)]
#[case::closed_without_a_word(bytes(""), Code::Unavailable)]
#[tokio::test]
async fn broken_answers(#[case] raw: Vec<u8>, #[case] want: Code) {
    let mut service = HttpService::start().await;
    let url = service.url("/");
    let script = async {
        let exchange: Exchange = service.exchanges.recv().await.unwrap();
        exchange.raw(&raw).await;
    };
    let mut scene = leased(&url, |_| {}).await;
    let (outcome, ()) = tokio::join!(scene.stream.outcome(), script);
    assert_code(&outcome, want);
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let service = HttpService::start().await;
    let url = service.url("/");
    drop(service);
    let mut scene = leased(&url, |_| {}).await;
    assert_code(&scene.stream.outcome().await, Code::Unavailable);
}

/// covers: F41
#[tokio::test]
async fn the_lease_s_timeout_ends_a_call_that_is_polled_for() {
    let mut service = HttpService::start().await;
    let mut lease = support::operator::lease("a/1");
    lease.timeout_ms = 1500;
    lease.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    let mut scene = with_lease(&service.url("/"), |_| {}, lease).await;
    let post = service.next().await;
    assert!(post.headers["traceparent"].starts_with("00-0af7"));
    let accepted = [("location", "/jobs/7"), ("retry-after", "50")];
    post.answer("202 Accepted", &accepted, "").await;
    assert_code(&scene.stream.outcome().await, Code::DeadlineExceeded);
    assert_eq!(service.next().await.line, "DELETE /jobs/7");
}

/// A service that refuses questions is misconfigured, and no job's fault.
/// covers: F41, F59
#[tokio::test]
async fn a_call_whose_questions_are_refused_until_its_time_is_up_tells_the_refusal() {
    let mut service = HttpService::start().await;
    let mut lease = support::operator::lease("a/1");
    lease.timeout_ms = 2500;
    let mut scene = with_lease(&service.url("/"), |_| {}, lease).await;
    let accepted = [("location", "/jobs/7"), ("retry-after", "0")];
    let post = service.next().await;
    post.answer("202 Accepted", &accepted, "").await;
    let refusals = async {
        loop {
            let asked = service.next().await;
            if asked.line.starts_with("DELETE") {
                break;
            }
            asked.answer("401 Unauthorized", &[], "").await;
        }
    };
    let (outcome, ()) = tokio::join!(scene.stream.outcome(), refusals);
    assert_eq!(
        outcome.fact,
        Some(Fact::Http(HttpStatus { status: 401 })),
        "{outcome:?}"
    );
}

/// covers: F59, S13
#[tokio::test]
async fn a_token_is_sent_with_every_request_and_read_again_for_each() {
    let mut service = HttpService::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let url = service.url("/");
    let set = |config: &mut Config| config.service.token_file = Some(file.clone());
    let mut scene = leased(&url, set).await;
    assert_code(&scene.stream.outcome().await, Code::Unauthenticated);

    std::fs::write(&file, "first\n").unwrap();
    let mut scene = leased(&url, set).await;
    let post = service.next().await;
    assert_eq!(post.headers["authorization"], "Bearer first");
    std::fs::write(&file, "second\n").unwrap();
    let accepted = [("location", "/jobs/7"), ("retry-after", "0")];
    post.answer("202 Accepted", &accepted, "").await;
    let poll = service.next().await;
    assert_eq!(poll.headers["authorization"], "Bearer second");
    std::fs::write(&file, "third\n").unwrap();
    poll.answer("401 Unauthorized", &[], "").await;
    let poll = service.next().await;
    assert_eq!(
        (poll.line.as_str(), poll.headers["authorization"].as_str()),
        ("GET /jobs/7", "Bearer third")
    );
    poll.answer("200 OK", &[], r#"{"outputs":[]}"#).await;
    let outcome = scene.stream.outcome().await;
    assert!(
        matches!(outcome.fact, Some(Fact::Succeeded(_))),
        "{outcome:?}"
    );
}

/// covers: S13
#[tokio::test]
async fn only_the_authority_of_the_pool_is_trusted() {
    let (real, other) = (pki(), pki());
    let service = HttpService::start_tls(&real).await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.crt");
    let url = format!("https://localhost:{}/", service.address.port());
    let set = |config: &mut Config| config.service.tls_dir = Some(dir.path().to_owned());
    std::fs::write(&ca, &other.ca).unwrap();
    let mut scene = leased(&url, set).await;
    assert_code(&scene.stream.outcome().await, Code::Unauthenticated);

    std::fs::write(&ca, &real.ca).unwrap();
    let mut service = service;
    let script = async {
        let exchange = service.exchanges.recv().await.unwrap();
        exchange.answer("200 OK", &[], r#"{"outputs":[]}"#).await;
    };
    let mut scene = leased(&url, set).await;
    let (outcome, ()) = tokio::join!(scene.stream.outcome(), script);
    assert!(
        matches!(outcome.fact, Some(Fact::Succeeded(_))),
        "{outcome:?}"
    );
}

/// A call may outlive an authority, or a client's certificate; the mounted file may come later than what the service shows.
/// covers: S13, F59
#[rstest::rstest]
#[case::the_file_is_first(false)]
#[case::a_handshake_fails_before(true)]
#[tokio::test]
async fn a_call_that_is_polled_for_goes_on_over_a_rotation(#[case] late: bool) {
    let (old, new) = (pki(), pki());
    let mut service = HttpService::start_tls(&old).await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.crt");
    std::fs::write(&ca, &old.ca).unwrap();
    let url = format!("https://localhost:{}/", service.address.port());
    let set = |config: &mut Config| config.service.tls_dir = Some(dir.path().to_owned());
    let mut scene = leased(&url, set).await;
    let post = service.next().await;
    service.show(&new);
    if !late {
        std::fs::write(&ca, &new.ca).unwrap();
    }
    let accepted = [("location", "/jobs/7"), ("retry-after", "0")];
    post.answer("202 Accepted", &accepted, "").await;
    if late {
        soon("a handshake fails", service.failed()).await;
        std::fs::write(&ca, &new.ca).unwrap();
    }
    let poll = service.next().await;
    poll.answer("200 OK", &[], r#"{"outputs":[]}"#).await;
    let outcome = scene.stream.outcome().await;
    assert!(
        matches!(outcome.fact, Some(Fact::Succeeded(_))),
        "{outcome:?}"
    );
}
