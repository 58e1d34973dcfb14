//! A worker between a fake operator and a fake service, over real TLS and gRPC: the life of a lease, and lost streams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use kinora_protocol::dispatch::outcome::Fact;
use kinora_protocol::dispatch::{GrpcStatus, Outcome, from_worker, to_worker};
use kinora_telemetry::TraceArgs;
use kinora_telemetry::testing::Collector;
use support::operator::{FakeOperator, attempt, lease};
use support::service::FakeService;
use support::{config, soon, start};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing_subscriber::EnvFilter;

fn released(outcome: &Outcome) -> &str {
    match outcome.fact.as_ref().unwrap() {
        Fact::Released(released) => &released.reason,
        other => panic!("{other:?} is no release"),
    }
}

/// The one trace of upload, operator and worker: what the operator leased is the parent of the call, and the call of the service.
#[tokio::test]
async fn the_trace_of_a_lease_goes_on_in_its_call_and_to_the_service() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const ATTEMPT: &str = "b7ad6b7169203331";
    let (collector, url) = Collector::start().await.unwrap();
    let args = TraceArgs {
        otlp_endpoint: Some(url),
    };
    let exporting = kinora_telemetry::begin("kinora-worker", &args, EnvFilter::new("off")).unwrap();
    let over = CancellationToken::new();
    tokio::spawn(exporting.run(over.clone()));

    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let _worker = start(config(&operator, &service.endpoint()));
    let (mut stream, _) = operator.stream().await;
    let mut leased = lease("t/1");
    leased.traceparent = format!("00-{TRACE}-{ATTEMPT}-01");
    stream.say(to_worker::Message::Lease(leased));
    let call = service.call().await;
    let (header, body) = (
        call.metadata["traceparent"].clone(),
        call.request.traceparent.clone(),
    );
    call.succeed();
    stream.outcome().await;
    let spans = collector.trace(TRACE, &["call"]).await;
    let span = spans.iter().find(|span| span.name == "call").unwrap();
    assert_eq!(span.parent, ATTEMPT);
    assert_eq!(header, format!("00-{TRACE}-{}-01", span.span));
    assert_eq!(body, header);
    let outcome = ("kinora.outcome".to_owned(), "succeeded".to_owned());
    assert!(span.attributes.contains(&outcome), "{span:?}");
    over.cancel();
}

#[tokio::test]
async fn a_lease_becomes_one_call_and_its_outcome_is_acknowledged() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let _worker = start(config(&operator, &service.endpoint()));
    let (mut stream, hello) = operator.stream().await;
    assert_eq!((hello.protocol_version, hello.slots), (1, 2));
    assert_eq!(hello.instance.len(), 32);
    assert_eq!(
        operator.asked.lock().unwrap().as_slice(),
        ["Bearer token-1"]
    );

    stream.lease("a/1");
    let call = service.call().await;
    assert_eq!(call.request.idempotency_key, "a/1.0");
    assert_eq!(call.request.attempt, 1);
    assert_eq!(call.request.parameters["lang"], "de");
    assert_eq!(call.request.outputs[0].headers["if-none-match"], "*");
    call.progress(40, "transcode");
    loop {
        if let from_worker::Message::Progress(progress) = stream.next().await {
            assert_eq!(
                (progress.percent, progress.step.as_str()),
                (40, "transcode")
            );
            break;
        }
    }
    call.succeed();
    let outcome = stream.outcome().await;
    assert_eq!(outcome.attempt, Some(attempt("a/1")));
    let Some(Fact::Succeeded(succeeded)) = outcome.fact else {
        panic!("{outcome:?}")
    };
    assert_eq!(succeeded.outputs[0].name, "video");
    stream.ack("a/1");
    loop {
        let beat = stream.heartbeat().await;
        if beat.held.is_empty() && beat.unacked.is_empty() {
            break;
        }
    }
    assert!(service.is_quiet(), "one lease, one call");
}

/// covers: F40, F47
#[tokio::test]
async fn a_stream_lost_in_mid_call_comes_back_with_the_lease_and_the_outcome_survives() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let _worker = start(config(&operator, &service.endpoint()));
    let (stream, first) = operator.stream().await;
    stream.lease("a/3");
    let call = service.call().await;
    stream.end();

    let (stream, hello) = operator.stream().await;
    assert_eq!(hello.instance, first.instance);
    assert_eq!(hello.held, [attempt("a/3")]);
    operator.refuse(Some(Status::unavailable("no leader")));
    stream.end();
    call.succeed();
    let asked = operator.asked.lock().unwrap().len();
    soon("more tries", async {
        while operator.asked.lock().unwrap().len() < asked + 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    operator.refuse(None);

    let (mut stream, hello) = operator.stream().await;
    assert_eq!((hello.held, hello.unacked), (vec![], vec![attempt("a/3")]));
    assert!(matches!(
        stream.outcome().await.fact,
        Some(Fact::Succeeded(_))
    ));
    assert!(service.is_quiet(), "the lease was not called again");
}

#[tokio::test]
async fn an_outcome_is_repeated_until_it_is_acknowledged() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let mut config = config(&operator, &service.endpoint());
    config.timings.resend = Duration::from_millis(20);
    let _worker = start(config);
    let (mut stream, _) = operator.stream().await;
    stream.lease("a/1");
    service.call().await.succeed();
    for _ in 0..5 {
        assert_eq!(stream.outcome().await.attempt, Some(attempt("a/1")));
    }
    stream.ack("a/1");
    stream.lease("a/1");
    service.call().await;
}

#[tokio::test]
async fn a_silent_operator_is_left_and_found_again() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let mut config = config(&operator, &service.endpoint());
    config.timings.silence = Duration::from_secs(2);
    config.timings.heartbeat = Duration::from_millis(50);
    let _worker = start(config);
    let (stream, _) = operator.stream().await;
    stream.lease("a/1");
    let _call = service.call().await;
    stream
        .echo
        .store(false, std::sync::atomic::Ordering::SeqCst);
    let (_stream, hello) = operator.stream().await;
    assert_eq!(hello.held, [attempt("a/1")]);
}

/// covers: F39, F40
#[tokio::test]
async fn without_echoes_no_call_is_started() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let mut config = config(&operator, &service.endpoint());
    config.timings.heartbeat = Duration::from_millis(50);
    config.timings.fence = Duration::from_millis(300);
    config.timings.silence = Duration::from_secs(600);
    let _worker = start(config);
    let (mut stream, _) = operator.stream().await;
    stream
        .echo
        .store(false, std::sync::atomic::Ordering::SeqCst);
    // Eight heartbeats are 350 ms at least: the fence has fallen whatever the first echo was.
    for _ in 0..9 {
        stream.heartbeat().await;
    }
    stream.lease("a/1");
    assert_eq!(released(&stream.outcome().await), "not-started");
    assert!(service.is_quiet());
}

#[tokio::test]
async fn a_standby_s_word_is_followed_under_the_service_s_tls_name() {
    let (standby, service) = (FakeOperator::start().await, FakeService::start().await);
    let mut leader = standby.beside().await;
    // The certificate is for `localhost` only; the leader is named by its IP address.
    standby.follow(leader.address);
    let _worker = start(config(&standby, &service.endpoint()));
    let (_stream, _) = leader.stream().await;
    assert_eq!(standby.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_leader_that_is_gone_sends_the_worker_back_to_the_service() {
    let (mut operator, service) = (FakeOperator::start().await, FakeService::start().await);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    operator.follow(gone.local_addr().unwrap());
    drop(gone);
    let _worker = start(config(&operator, &service.endpoint()));
    soon("a second visit", async {
        while operator.asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    operator.refuse(None);
    operator.stream().await;
}

/// covers: F59
#[tokio::test]
async fn a_rotated_token_is_used_at_the_next_connect() {
    let (mut operator, service) = (FakeOperator::start().await, FakeService::start().await);
    let _worker = start(config(&operator, &service.endpoint()));
    let (stream, _) = operator.stream().await;
    std::fs::write(operator.dir.path().join("token"), "token-2").unwrap();
    stream.end();
    operator.stream().await;
    assert_eq!(operator.asked.lock().unwrap()[1], "Bearer token-2");
}

/// covers: F59
#[tokio::test]
async fn a_ca_that_was_added_to_the_file_is_trusted_at_the_next_connect() {
    let (old, mut new) = (FakeOperator::start().await, FakeOperator::start().await);
    let service = FakeService::start().await;
    // The replica that leads already serves a certificate of the new CA.
    old.follow(new.address);
    let _worker = start(config(&old, &service.endpoint()));
    soon("a second visit", async {
        while old.asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(new.asked.lock().unwrap().is_empty(), "not trusted yet");
    let file = |of: &FakeOperator| of.dir.path().join("ca.crt");
    let both = [file(&old), file(&new)].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(file(&old), both.concat()).unwrap();
    new.stream().await;
}

/// covers: S13
#[tokio::test]
async fn an_operator_with_another_ca_is_not_spoken_to() {
    let (real, mut forged) = (FakeOperator::start().await, FakeOperator::start().await);
    let service = FakeService::start().await;
    std::fs::copy(
        real.dir.path().join("ca.crt"),
        forged.dir.path().join("ca.crt"),
    )
    .unwrap();
    let _worker = start(config(&forged, &service.endpoint()));
    let stream = tokio::time::timeout(Duration::from_millis(500), forged.stream()).await;
    assert!(stream.is_err());
    assert!(forged.asked.lock().unwrap().is_empty(), "no token went out");
}

#[tokio::test]
async fn a_cancelled_call_ends_at_the_service_and_is_confirmed() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let _worker = start(config(&operator, &service.endpoint()));
    let (mut stream, _) = operator.stream().await;
    stream.lease("a/1");
    let call = service.call().await;
    stream.cancel("a/1");
    assert_eq!(released(&stream.outcome().await), "cancelled");
    call.given_up().await;
}

/// covers: F44
#[tokio::test]
async fn sigterm_finishes_the_running_call_and_ends_with_nothing_unacknowledged() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let mut worker = start(config(&operator, &service.endpoint()));
    let (mut stream, _) = operator.stream().await;
    stream.lease("a/1");
    let call = service.call().await;
    worker.terminate.send(()).await.unwrap();
    stream.draining().await;
    stream.lease("b/1");
    assert_eq!(released(&stream.outcome().await), "draining");
    stream.ack("b/1");
    call.succeed();
    assert!(matches!(
        stream.outcome().await.fact,
        Some(Fact::Succeeded(_))
    ));
    assert!(
        !worker.task.is_finished(),
        "it waits for the acknowledgement"
    );
    stream.ack("a/1");
    let exit = soon("the end", &mut worker.task).await.unwrap();
    assert_eq!(exit.unacknowledged, 0);
}

/// covers: F44
#[tokio::test]
async fn at_the_end_of_the_drain_time_the_call_is_cut_and_released() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let mut config = config(&operator, &service.endpoint());
    config.drain = Duration::from_millis(50);
    let mut worker = start(config);
    let (mut stream, _) = operator.stream().await;
    stream.lease("a/1");
    let call = service.call().await;
    worker.terminate.send(()).await.unwrap();
    assert_eq!(released(&stream.outcome().await), "draining");
    call.given_up().await;
    stream.ack("a/1");
    soon("the end", &mut worker.task).await.unwrap();
}

#[tokio::test]
async fn a_drain_by_the_operator_lets_the_call_finish_and_the_worker_live() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let worker = start(config(&operator, &service.endpoint()));
    let (mut stream, _) = operator.stream().await;
    stream.lease("a/1");
    let call = service.call().await;
    stream.drain();
    stream.draining().await;
    call.succeed();
    stream.outcome().await;
    stream.ack("a/1");
    stream.lease("b/1");
    assert_eq!(released(&stream.outcome().await), "draining");
    assert!(!worker.task.is_finished());
}

/// covers: F45
#[tokio::test]
async fn a_throttled_call_reports_code_and_retry_info() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let _worker = start(config(&operator, &service.endpoint()));
    let (mut stream, _) = operator.stream().await;
    stream.lease("a/1");
    service.call().await.fail(Status::with_error_details(
        Code::ResourceExhausted,
        "slow down: GET http://store/x?X-Amz-Signature=secret",
        ErrorDetails::with_retry_info(Some(Duration::from_secs(7))),
    ));
    let outcome = stream.outcome().await;
    let code = Code::ResourceExhausted as i32;
    assert_eq!(outcome.fact, Some(Fact::Grpc(GrpcStatus { code })));
    assert_eq!(outcome.retry_after_ms, Some(7000));
    assert_eq!(outcome.message, "slow down: GET http://store/x…");
}

/// covers: F41
#[tokio::test]
async fn the_lease_s_timeout_ends_the_call() {
    let (mut operator, mut service) = (FakeOperator::start().await, FakeService::start().await);
    let _worker = start(config(&operator, &service.endpoint()));
    let (mut stream, _) = operator.stream().await;
    let mut lease = support::operator::lease("a/1");
    // Long enough that the call begins within it on a busy machine.
    lease.timeout_ms = 3000;
    stream.say(kinora_protocol::dispatch::to_worker::Message::Lease(lease));
    let call = service.call().await;
    let outcome = stream.outcome().await;
    let code = Code::DeadlineExceeded as i32;
    assert_eq!(outcome.fact, Some(Fact::Grpc(GrpcStatus { code })));
    call.given_up().await;
}
