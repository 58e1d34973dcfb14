//! The trace of a job: from its annotation to the lease, and to a collector.

use kinora_crds::names::ANNOTATION_TRACEPARENT;
use kinora_protocol::dispatch as wire;
use kinora_telemetry::testing::{Collector, Received};
use kinora_telemetry::{TraceArgs, Traceparent};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use wire::to_worker::Message;

use super::stage::Stage;
use super::succeeded;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const UPLOAD: &str = "00f067aa0ba902b7";

/// A declared job with this annotation, and the `traceparent` of its first lease.
async fn leased(stage: &Stage, name: &str, annotation: &str) -> (wire::Lease, String) {
    stage.declare(name, &json!({"source": {"key": "imports/videos/clip"}}));
    let mut job = stage.api.object(name).unwrap();
    job["metadata"]["annotations"] = json!({ANNOTATION_TRACEPARENT: annotation});
    stage.api.put(job);
    let mut worker = stage.worker().await;
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    worker.say(succeeded(lease.attempt.clone())).await;
    let state = |s: &Stage| s.api.object(name).unwrap()["status"]["state"].clone();
    stage.until("done", |s| state(s) == "Succeeded").await;
    let trace = lease.traceparent.clone();
    (lease, trace)
}

#[tokio::test]
async fn the_trace_of_an_upload_goes_on_in_its_attempt_and_in_the_lease() {
    let (collector, url) = Collector::start().await.unwrap();
    let args = TraceArgs {
        otlp_endpoint: Some(url),
    };
    let exporting =
        kinora_telemetry::begin("kinora-operator", &args, EnvFilter::new("off")).unwrap();
    let over = CancellationToken::new();
    tokio::spawn(exporting.run(over.clone()));

    let stage = Stage::leading().await;
    let annotation = format!("00-{TRACE}-{UPLOAD}-01");
    let (lease, trace) = leased(&stage, "clip", &annotation).await;
    let spans = collector.trace(TRACE, &["attempt", "finish"]).await;
    let by_name = |name: &str| -> &Received {
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} among {spans:?}"))
    };
    let attempt = by_name("attempt");
    assert_eq!(attempt.parent, UPLOAD);
    assert_eq!(by_name("finish").parent, attempt.span);
    assert_eq!(trace, format!("00-{TRACE}-{}-01", attempt.span));
    let told = |key: &str| {
        let found = attempt.attributes.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(told("kinora.outcome"), Some("Succeeded"));
    assert_eq!(told("kinora.attempt"), Some("1"));
    assert_eq!(told("kinora.pool"), Some("default"));
    assert_eq!(
        told("kinora.job.uid"),
        Some(lease.attempt.unwrap().job_uid.as_str())
    );

    let other = Stage::leading().await;
    let (_, trace) = leased(&other, "odd", "00-evil").await;
    let trace = Traceparent::parse(&trace);
    assert!(
        trace.is_some_and(|trace| !trace.as_str().contains(TRACE)),
        "what is no trace begins a new one"
    );
    over.cancel();
}
