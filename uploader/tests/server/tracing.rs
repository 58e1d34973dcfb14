//! Traces: from the client's `traceparent` over two replicas to the VideoJob, and to a collector.

use kinora_crds::names::ANNOTATION_TRACEPARENT;
use kinora_telemetry::TraceArgs;
use kinora_telemetry::testing::Collector;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::harness::{World, video};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn a_clients_trace_reaches_the_collector_and_the_job_over_two_replicas() {
    let (collector, url) = Collector::start().await.unwrap();
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
    let ours = collector.trace(TRACE, &want).await;
    let by_name = |name: &str| {
        let found = ours.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} among {ours:?}"))
    };
    for request in ["POST uploads", "PATCH upload"] {
        assert_eq!(by_name(request).parent, CLIENT_SPAN, "{request}");
    }
    let patch = by_name("PATCH upload");
    assert_eq!(by_name("finish").parent, patch.span);
    by_name("upload_part");
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
