//! Worker and reference service together, with a fake operator and a small store: a lease in, real outputs out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, unreachable_pub)]
#[path = "../../../worker/tests/support/operator.rs"]
mod operator;
mod support;

use std::time::Duration;

use kinora_protocol::dispatch::outcome::Fact;
use kinora_protocol::dispatch::{Lease, Outcome, OutputTarget, to_worker};
use kinora_worker::config::{OperatorTarget, Protocol, ServiceTarget};
use kinora_worker::machine::Timings;
use kinora_worker::metrics::Metrics;
use kinora_worker::{Config, run};
use operator::FakeOperator;
use support::{Service, Store, sample};
use tokio::sync::mpsc;
use tonic::Code;

/// What `operator.rs` waits with.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(support::PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {:?}", support::PATIENCE))
}

fn config(operator: &FakeOperator, service: &Service) -> Config {
    Config {
        operator: OperatorTarget {
            host: "localhost".to_owned(),
            port: operator.address.port(),
            token_file: operator.dir.path().join("token"),
            ca_file: operator.dir.path().join("ca.crt"),
        },
        service: ServiceTarget {
            protocol: Protocol::Grpc,
            endpoint: format!("http://{}", service.address),
            tls_dir: None,
            token_file: None,
        },
        slots: 2,
        drain: Duration::from_secs(60),
        timings: Timings::default(),
        reconnect: (Duration::from_millis(10), Duration::from_millis(20)),
    }
}

fn lease(store: &Store, name: &str, source: &str, prefix: &str) -> Lease {
    let outputs = ["video", "thumbnail"].map(|output| OutputTarget {
        name: output.to_owned(),
        put_url: store.url(&format!("{prefix}/{output}")),
        headers: std::iter::once(("if-none-match".to_owned(), "*".to_owned())).collect(),
    });
    Lease {
        source_url: store.url(source),
        outputs: outputs.to_vec(),
        idempotency_key: format!("{source}.0"),
        ..operator::lease(name)
    }
}

fn code(outcome: &Outcome) -> Code {
    match &outcome.fact {
        Some(Fact::Grpc(status)) => Code::from_i32(status.code),
        other => panic!("{other:?}"),
    }
}

/// covers: F38
#[tokio::test]
async fn a_lease_makes_a_real_video_and_a_second_attempt_makes_its_own_copy() {
    let (mut operator, store) = (FakeOperator::start().await, Store::start().await);
    let service = Service::start(4).await;
    store.set("bunny", std::fs::read(sample("bigbuckbunny.mp4")).unwrap());
    store.set("text", "no video");
    let (_terminate, signals) = mpsc::channel(1);
    let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default(), 1);
    let worker = tokio::spawn(run(config(&operator, &service), metrics, signals));
    let (mut stream, _) = operator.stream().await;

    for (name, prefix) in [("job/1", "1-aa"), ("job/2", "2-bb")] {
        stream.say(to_worker::Message::Lease(lease(
            &store, name, "bunny", prefix,
        )));
        let outcome = stream.outcome().await;
        let Some(Fact::Succeeded(done)) = &outcome.fact else {
            panic!("{outcome:?}")
        };
        for output in &done.outputs {
            let bytes = store.get(&format!("{prefix}/{}", output.name)).unwrap();
            assert_eq!(output.size_bytes, bytes.len() as u64);
            assert!(output.checksum.starts_with("sha256:"));
        }
        stream.ack(name);
    }
    let counts = service.shared.ledger.counts();
    assert_eq!((counts.calls["bunny.0"], counts.remembered), (2, 1));

    stream.say(to_worker::Message::Lease(lease(
        &store, "txt/1", "text", "t",
    )));
    let outcome = stream.outcome().await;
    assert_eq!(code(&outcome), Code::InvalidArgument);
    assert!(
        outcome.message.contains("not a video"),
        "{}",
        outcome.message
    );
    stream.ack("txt/1");

    service.set(r#"{"throttleRate":1,"retryAfterMs":2500,"next":1}"#);
    stream.say(to_worker::Message::Lease(lease(
        &store, "job/3", "bunny", "3-cc",
    )));
    let outcome = stream.outcome().await;
    assert_eq!(
        (code(&outcome), outcome.retry_after_ms),
        (Code::ResourceExhausted, Some(2500))
    );
    worker.abort();
}

/// covers: F45
#[rstest::rstest]
#[case::polled_for("")]
#[case::waited_for("?wait=true")]
#[tokio::test]
async fn the_http_form_makes_the_same_video(#[case] query: &str) {
    let (mut operator, store) = (FakeOperator::start().await, Store::start().await);
    let service = Service::start(4).await;
    store.set("bunny", std::fs::read(sample("bigbuckbunny.mp4")).unwrap());
    store.set("text", "no video");
    let mut config = config(&operator, &service);
    config.service.protocol = Protocol::Http;
    config.service.endpoint = format!("http://{}/process{query}", service.http);
    let (_terminate, signals) = mpsc::channel(1);
    let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default(), 1);
    let worker = tokio::spawn(run(config, metrics, signals));
    let (mut stream, _) = operator.stream().await;

    stream.say(to_worker::Message::Lease(lease(
        &store, "job/1", "bunny", "1-aa",
    )));
    let outcome = stream.outcome().await;
    let Some(Fact::Succeeded(done)) = &outcome.fact else {
        panic!("{outcome:?}")
    };
    assert!(done.result_json.contains("durationSeconds"), "{done:?}");
    for output in &done.outputs {
        let bytes = store.get(&format!("1-aa/{}", output.name)).unwrap();
        assert_eq!(output.size_bytes, bytes.len() as u64);
    }
    stream.ack("job/1");

    stream.say(to_worker::Message::Lease(lease(
        &store, "txt/1", "text", "t",
    )));
    let outcome = stream.outcome().await;
    let Some(Fact::Http(status)) = &outcome.fact else {
        panic!("{outcome:?}")
    };
    assert_eq!(status.status, 422);
    assert!(outcome.message.contains("not a video"));
    stream.ack("txt/1");

    service.set(r#"{"throttleRate":1,"retryAfterMs":2500,"next":1}"#);
    stream.say(to_worker::Message::Lease(lease(
        &store, "job/2", "bunny", "2-bb",
    )));
    let outcome = stream.outcome().await;
    assert_eq!(outcome.retry_after_ms, Some(3000));
    worker.abort();
}

#[tokio::test]
async fn a_call_of_the_http_form_that_is_cancelled_ends_at_the_service() {
    let (mut operator, store) = (FakeOperator::start().await, Store::start().await);
    let service = Service::start(4).await;
    store.set("bunny", std::fs::read(sample("bigbuckbunny.mp4")).unwrap());
    service.set(r#"{"latencyMs":60000}"#);
    let mut config = config(&operator, &service);
    config.service.protocol = Protocol::Http;
    config.service.endpoint = format!("http://{}/process", service.http);
    let (_terminate, signals) = mpsc::channel(1);
    let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default(), 1);
    let worker = tokio::spawn(run(config, metrics, signals));
    let (mut stream, _) = operator.stream().await;
    stream.say(to_worker::Message::Lease(lease(
        &store, "job/1", "bunny", "1-aa",
    )));
    // Only a call that was taken over can be deleted; progress is what shows it.
    while !matches!(
        stream.next().await,
        kinora_protocol::dispatch::from_worker::Message::Progress(_)
    ) {}
    stream.cancel("job/1");
    support::until("the call is given up", || {
        service.shared.ledger.counts().cancelled == 1
    })
    .await;
    worker.abort();
}
