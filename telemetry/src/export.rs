//! From ended spans to the collector: a bounded queue, and a task that sends what is in it in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Spans that wait at most.
const QUEUE: usize = 4096;
const BATCH: usize = 512;
/// A batch waits so long for company.
const LINGER: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Takes ended spans and never waits.
#[derive(Debug)]
pub(crate) struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: Arc<AtomicU64>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// What sends the spans; [`Exporting::run`] it.
#[derive(Debug)]
pub struct Exporting(Option<Pump>);

#[derive(Debug)]
struct Pump {
    spans: mpsc::Receiver<SpanData>,
    dropped: Arc<AtomicU64>,
    exporter: SpanExporter,
}

pub(crate) fn pair(endpoint: &str, resource: &Resource) -> Result<(Queue, Exporting), String> {
    // Never the system's list of authorities: our images have no system.
    let authorities = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|certificate| reqwest::Certificate::from_der(certificate).ok());
    let client = reqwest::Client::builder()
        .tls_certs_only(authorities)
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| error.to_string())?;
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    reqwest::Url::parse(&url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| format!("{endpoint:?} is no http or https URL"))?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(url)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| error.to_string())?;
    exporter.set_resource(resource);
    let (sender, spans) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let queue = Queue {
        spans: sender,
        dropped: Arc::clone(&dropped),
    };
    let pump = Pump {
        spans,
        dropped,
        exporter,
    };
    Ok((queue, Exporting(Some(pump))))
}

impl Exporting {
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    /// Sends spans until `end`, then what is left; at once over where none are made.
    pub async fn run(self, end: CancellationToken) {
        let Some(mut pump) = self.0 else { return };
        while !end.is_cancelled() {
            let mut batch = Vec::with_capacity(BATCH);
            tokio::select! {
                () = end.cancelled() => break,
                _ = pump.spans.recv_many(&mut batch, BATCH) => {}
            }
            if batch.is_empty() {
                return;
            }
            let full = tokio::time::sleep(LINGER);
            tokio::pin!(full);
            while batch.len() < BATCH {
                tokio::select! {
                    () = &mut full => break,
                    () = end.cancelled() => break,
                    Some(span) = pump.spans.recv() => batch.push(span),
                }
            }
            pump.send(batch).await;
        }
        pump.rest().await;
    }
}

impl Pump {
    async fn rest(&mut self) {
        let mut batch = Vec::new();
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
        }
        if !batch.is_empty() {
            self.send(batch).await;
        }
    }

    async fn send(&self, batch: Vec<SpanData>) {
        let spans = batch.len();
        if let Err(error) = self.exporter.export(batch).await {
            tracing::warn!(%error, spans, "spans are lost: the collector did not take them");
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "spans are lost: the collector is slow");
        }
    }
}
