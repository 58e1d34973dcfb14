//! Traces: from the client's `traceparent` over two replicas to the VideoJob, and to a collector.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use kinora_crds::names::ANNOTATION_TRACEPARENT;
use kinora_telemetry::TraceArgs;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::harness::{World, video};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

/// What a collector has received.
type Spans = Arc<Mutex<Vec<Span>>>;

async fn receive(State(spans): State<Spans>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request
        .resource_spans
        .into_iter()
        .flat_map(|r| r.scope_spans);
    spans.lock().unwrap().extend(scopes.flat_map(|s| s.spans));
}

async fn collector() -> (String, Spans) {
    let spans = Spans::default();
    let router = Router::new()
        .route("/v1/traces", post(receive))
        .with_state(spans.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, spans)
}

#[tokio::test]
async fn a_clients_trace_reaches_the_collector_and_the_job_over_two_replicas() {
    let (url, spans) = collector().await;
    let args = TraceArgs {
        otlp_endpoint: Some(url),
    };
    let exporting =
        kinora_telemetry::begin("kinora-uploader", &args, EnvFilter::new("off")).unwrap();
    let end = CancellationToken::new();
    tokio::spawn(exporting.run(end.clone()));

    let world = World::new("tr").await;
    let (first, second) = (world.replica().await, world.replica().await);
    let header = format!("00-{TRACE}-{CLIENT_SPAN}-01");
    let file = video(9 << 20);
    let created = world
        .tus(&first, "POST", "/v1/uploads")
        .header("Upload-Length", file.len())
        .header("traceparent", &header);
    let created = created.send().await.unwrap();
    assert_eq!(created.status(), 201);
    let id = crate::harness::id_of(&created);
    let patched = world
        .tus(&second, "PATCH", &format!("/v1/uploads/{id}"))
        .header("Upload-Offset", 0)
        .header("Content-Type", crate::harness::STREAM)
        .header("traceparent", &header)
        .body(file);
    assert_eq!(patched.send().await.unwrap().status(), 204);

    let job = world.jobs.job(&id).unwrap();
    let annotation = job.metadata.annotations.unwrap()[ANNOTATION_TRACEPARENT].clone();
    let (trace, span) = annotation[3..].split_at(32);
    assert_eq!(trace, TRACE);
    assert_ne!(
        &span[1..17],
        CLIENT_SPAN,
        "the job belongs to the create's own span"
    );

    let want = ["POST uploads", "PATCH upload", "upload_part", "finish"];
    let deadline = Instant::now() + Duration::from_secs(60);
    let ours = loop {
        let all = spans.lock().unwrap().clone();
        let ours: Vec<Span> = all
            .into_iter()
            .filter(|span| hex::encode(&span.trace_id) == TRACE)
            .collect();
        let names: BTreeSet<&str> = ours.iter().map(|span| span.name.as_str()).collect();
        if want.iter().all(|name| names.contains(name)) {
            break ours;
        }
        assert!(
            Instant::now() < deadline,
            "{names:?} lacks some of {want:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let by_name = |name: &str| ours.iter().find(|span| span.name == name).unwrap();
    for request in ["POST uploads", "PATCH upload"] {
        let parent = hex::encode(&by_name(request).parent_span_id);
        assert_eq!(parent, CLIENT_SPAN, "{request}");
    }
    let patch = by_name("PATCH upload");
    assert_eq!(by_name("finish").parent_span_id, patch.span_id);
    end.cancel();
}

#[tokio::test]
async fn a_traceparent_that_is_none_leaves_no_annotation_of_it() {
    let world = World::new("tb").await;
    let replica = world.replica().await;
    for odd in ["00-0-0-01", "evil\u{e9}", "\"><script>"] {
        let request = world
            .ask(&replica, "POST", "/v1/uploads")
            .header("traceparent", odd.as_bytes())
            .body(video(20_000));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201, "{odd}");
        let id = crate::harness::id_of(&answer);
        let annotations = world.jobs.job(&id).unwrap().metadata.annotations.unwrap();
        let kept = annotations.get(ANNOTATION_TRACEPARENT);
        assert!(
            kept.is_none_or(|kept| !odd.contains(&kept[3..])),
            "{kept:?}"
        );
        assert!(kept.is_none_or(|kept| !kept.contains(odd)), "{kept:?}");
    }
}
