//! A collector in the process of a test: takes what an exporter sends over OTLP/HTTP, and keeps the spans.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// A span takes no longer to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was received of one span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its name.
    pub name: String,
    /// Hex digits.
    pub trace: String,
    /// Hex digits.
    pub span: String,
    /// Hex digits; empty at a root.
    pub parent: String,
    /// Keys and values, those that are text.
    pub attributes: Vec<(String, String)>,
}

/// Spans of every exporter that sends here; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Collector(Arc<Mutex<Vec<Received>>>);

impl Collector {
    /// Listens on a free port of loopback; gives the endpoint to export to.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start() -> std::io::Result<(Self, String)> {
        let collector = Self::default();
        let router = Router::new()
            .route("/v1/traces", post(receive))
            .with_state(collector.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((collector, url))
    }

    /// The spans of this trace, once there are some of all these names; those that came in time, if not.
    pub async fn trace(&self, trace: &str, names: &[&str]) -> Vec<Received> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let ours: Vec<Received> = all.into_iter().filter(|s| s.trace == trace).collect();
            let is_there = |name: &&str| ours.iter().any(|span| span.name == *name);
            if names.iter().all(is_there) || Instant::now() > deadline {
                return ours;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn receive(State(collector): State<Collector>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    let resources = request.resource_spans.into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans).map(received);
    let mut kept = collector.0.lock().unwrap_or_else(PoisonError::into_inner);
    kept.extend(spans);
    StatusCode::OK
}

fn received(span: Span) -> Received {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let text = |value: Value| match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    };
    let attributes = span.attributes.into_iter().filter_map(|pair| {
        let value = pair.value?.value.and_then(text)?;
        Some((pair.key, value))
    });
    Received {
        name: span.name,
        trace: hex(&span.trace_id),
        span: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: attributes.collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
