//! Services that break, over the real transport: each finding must come out in the code the wire has for it, because some
//! codes that the transport makes up would otherwise end a job for good (`OUT_OF_RANGE`) or open the breaker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response};
use axum::routing::post;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use kinora_protocol::dispatch::outcome::Fact;
use kinora_protocol::dispatch::{Outcome, to_worker};
use kinora_worker::Config;
use kinora_worker::config::Protocol;
use support::operator::{FakeOperator, lease, pki};
use support::service::{Deaf, FakeService, result, wire};
use support::{config, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Status};

/// One lease to a service at this endpoint.
async fn outcome_of(endpoint: &str, change: impl FnOnce(&mut Config)) -> Outcome {
    outcome_within(60_000, endpoint, change).await
}

async fn outcome_within(
    timeout_ms: u64,
    endpoint: &str,
    change: impl FnOnce(&mut Config),
) -> Outcome {
    let mut operator = FakeOperator::start().await;
    let mut config = config(&operator, endpoint);
    change(&mut config);
    let _worker = start(config);
    let (mut stream, _) = operator.stream().await;
    let mut leased = lease("a/1");
    leased.timeout_ms = timeout_ms;
    stream.say(to_worker::Message::Lease(leased));
    stream.outcome().await
}

#[track_caller]
fn assert_code(outcome: &Outcome, want: Code) {
    let Some(Fact::Grpc(status)) = &outcome.fact else {
        panic!("{outcome:?}")
    };
    assert_eq!(Code::from_i32(status.code), want, "{}", outcome.message);
}

/// covers: F48, S15
#[rstest::rstest]
#[case::an_end_without_a_result(&[], None, Code::DataLoss)]
#[case::two_results(&["", ""], None, Code::DataLoss)]
#[case::json_that_is_none(&["{oops"], None, Code::DataLoss)]
#[case::a_status_after_the_result(&["{}"], Some(Status::aborted("no")), Code::Aborted)]
#[case::no_video(&[], Some(Status::invalid_argument("no video")), Code::InvalidArgument)]
#[case::cancelled_by_the_service(&[], Some(Status::cancelled("no")), Code::Cancelled)]
#[tokio::test]
async fn answers(#[case] results: &[&str], #[case] end: Option<Status>, #[case] want: Code) {
    let mut service = FakeService::start().await;
    let endpoint = service.endpoint();
    let script = async {
        let call = service.call().await;
        for json in results {
            call.update(Ok(result(json)));
        }
        if let Some(status) = end {
            call.fail(status);
        }
    };
    let (outcome, ()) = tokio::join!(outcome_of(&endpoint, |_| {}), script);
    assert_code(&outcome, want);
}

/// covers: F48, S15
#[tokio::test]
async fn a_message_above_the_limit_is_a_broken_answer_not_a_rejection() {
    let mut service = FakeService::start().await;
    let endpoint = service.endpoint();
    let huge = "x".repeat(2 * 1024 * 1024);
    let script = async { service.call().await.update(Ok(result(&huge))) };
    let (outcome, ()) = tokio::join!(outcome_of(&endpoint, |_| {}), script);
    assert_code(&outcome, Code::DataLoss);
}

/// covers: F47
#[tokio::test]
async fn a_connection_that_breaks_in_mid_call_is_unavailable() {
    let mut service = FakeService::start().await;
    let (address, cut) = wire(service.address).await;
    let script = async {
        let call = service.call().await;
        cut.cancel();
        call.given_up().await;
    };
    let endpoint = format!("http://{address}");
    let (outcome, ()) = tokio::join!(outcome_of(&endpoint, |_| {}), script);
    assert_code(&outcome, Code::Unavailable);
}

/// However little time a call has: DEADLINE_EXCEEDED would be the video's fault, and a sign that the service is there.
/// covers: F47
#[rstest::rstest]
#[case::grpc(Protocol::Grpc)]
#[case::http(Protocol::Http)]
#[tokio::test]
async fn a_service_that_is_not_reached_within_the_call_s_time_is_unavailable(
    #[case] protocol: Protocol,
) {
    let service = Deaf::start().await;
    let endpoint = format!("http://{}", service.address);
    let change = |config: &mut Config| config.service.protocol = protocol;
    let outcome = outcome_within(1000, &endpoint, change).await;
    assert_code(&outcome, Code::Unavailable);
}

/// covers: F47
#[tokio::test]
async fn an_answer_that_a_proxy_cuts_without_an_error_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.read_exact(&mut [0; 24]).await.unwrap();
        tcp.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        // Until the request has ended.
        loop {
            let mut head = [0; 9];
            tcp.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            tcp.read_exact(&mut payload).await.unwrap();
            if head[3] == DATA && head[4] & END != 0 {
                break;
            }
        }
        // `:status: 200` and `content-type: application/grpc`.
        let headers = [&[0x88, 0x0f, 0x10, 16], b"application/grpc".as_slice()].concat();
        let progress = [0, 0, 0, 0, 2, 0x0a, 0];
        let no_error = [0; 4];
        let answer = [
            frame(SETTINGS, END, 0, &[]),
            frame(HEADERS, END_HEADERS, 1, &headers),
            frame(DATA, 0, 1, &progress),
            frame(RST_STREAM, 0, 1, &no_error),
        ];
        tcp.write_all(&answer.concat()).await.unwrap();
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    });
    let outcome = outcome_of(&endpoint, |_| {}).await;
    assert_code(&outcome, Code::Unavailable);
    assert_eq!(outcome.message, "the answer was cut");
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
/// END_STREAM of DATA, ACK of SETTINGS.
const END: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let head = [0, 0, length, kind, flags, 0, 0, 0, stream];
    [head.as_slice(), payload].concat()
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let outcome = outcome_of(&endpoint, |_| {}).await;
    assert_code(&outcome, Code::Unavailable);
    assert!(outcome.message.contains("refused"), "{}", outcome.message);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_unavailable() {
    let outcome = outcome_of("http://no-such-host.invalid:1", |_| {}).await;
    assert_code(&outcome, Code::Unavailable);
}

/// covers: F48
#[rstest::rstest]
#[case::rubbish_in_a_good_frame(Answer::grpc(&[0, 0, 0, 0, 3, 0xff, 0xff, 0xff], Some("0")), Code::DataLoss)]
#[case::a_frame_cut_short(Answer::grpc(&[0, 0, 0, 0, 9, 1], Some("0")), Code::DataLoss)]
#[case::an_unknown_compression_flag(Answer::grpc(&[7, 0, 0, 0, 0], Some("0")), Code::DataLoss)]
#[case::no_trailers(Answer::grpc(&[], None), Code::DataLoss)]
#[case::a_web_page(Answer::http(200), Code::DataLoss)]
#[case::http_503(Answer::http(503), Code::Unavailable)]
#[case::http_404(Answer::http(404), Code::Unimplemented)]
#[case::http_401(Answer::http(401), Code::Unauthenticated)]
#[case::http_429(Answer::http(429), Code::ResourceExhausted)]
#[case::a_redirect(Answer::http(302), Code::Unimplemented)]
#[tokio::test]
async fn raw_answers(#[case] answer: Answer, #[case] want: Code) {
    let outcome = outcome_of(&answer.serve().await, |_| {}).await;
    assert_code(&outcome, want);
    // Every raw answer carries the header; only a throttling one is asked for it by the operator.
    if want == Code::ResourceExhausted {
        assert_eq!(outcome.retry_after_ms, Some(9000));
    }
}

/// covers: S13
#[tokio::test]
async fn a_service_with_another_ca_is_a_tls_failure() {
    let (real, other) = (pki(), pki());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let server = Server::builder()
        .tls_config(
            ServerTlsConfig::new().identity(Identity::from_pem(&real.certificate, &real.key)),
        )
        .unwrap()
        .add_routes(Router::new().into())
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), &other.ca).unwrap();
    let set = |config: &mut Config| config.service.tls_dir = Some(dir.path().to_owned());
    assert_code(&outcome_of(&endpoint, set).await, Code::Unauthenticated);

    // With its own CA the same service is reached: it knows no such method.
    std::fs::write(dir.path().join("ca.crt"), &real.ca).unwrap();
    let set = |config: &mut Config| config.service.tls_dir = Some(dir.path().to_owned());
    assert_code(&outcome_of(&endpoint, set).await, Code::Unimplemented);
}

#[tokio::test]
async fn a_token_for_the_service_is_sent_and_a_missing_one_is_told() {
    let mut service = FakeService::start().await;
    let endpoint = service.endpoint();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let set = |config: &mut Config| config.service.token_file = Some(file.clone());
    assert_code(&outcome_of(&endpoint, set).await, Code::Unauthenticated);

    std::fs::write(&file, "s3cret\n").unwrap();
    let script = async {
        let call = service.call().await;
        assert_eq!(call.metadata["authorization"], "Bearer s3cret");
        call.fail(Status::unauthenticated("no"));
    };
    let (outcome, ()) = tokio::join!(outcome_of(&endpoint, set), script);
    assert_code(&outcome, Code::Unauthenticated);
}

/// What a server that is no gRPC server of ours answers.
struct Answer {
    status: u16,
    content_type: &'static str,
    data: Bytes,
    grpc_status: Option<&'static str>,
}

impl Answer {
    fn grpc(data: &[u8], grpc_status: Option<&'static str>) -> Self {
        Self {
            status: 200,
            content_type: "application/grpc",
            data: Bytes::copy_from_slice(data),
            grpc_status,
        }
    }

    fn http(status: u16) -> Self {
        Self {
            status,
            content_type: "text/html",
            data: Bytes::from_static(b"<html>"),
            grpc_status: None,
        }
    }

    async fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answer = std::sync::Arc::new(self);
        let path = "/kinora.processing.v1.Processing/Process";
        let routes = Router::new().route(path, post(async move || answer.response()));
        let server = Server::builder()
            .add_routes(routes.into())
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        endpoint
    }

    fn response(&self) -> Response<Body> {
        let mut frames: Vec<Result<Frame<Bytes>, std::convert::Infallible>> =
            vec![Ok(Frame::data(self.data.clone()))];
        if let Some(status) = self.grpc_status {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            frames.push(Ok(Frame::trailers(trailers)));
        }
        Response::builder()
            .status(self.status)
            .header("content-type", self.content_type)
            .header("retry-after", "9")
            .body(Body::new(StreamBody::new(tokio_stream::iter(frames))))
            .unwrap()
    }
}
