//! Logs and traces of a component: JSON lines to standard output, and, when an endpoint is named, spans over OTLP/HTTP.
//!
//! Without an endpoint no span is made and nothing runs. Spans wait in a bounded queue; what does not fit is dropped and
//! counted, so a collector that is slow or away never slows a request down.
//!
//! Here is also the [`port`] on which metrics are read.

mod context;
pub mod door;
mod export;
pub mod exposed;
mod labels;
pub mod port;
#[cfg(feature = "testing")]
pub mod testing;

use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use context::Traceparent;
pub use export::Exporting;

/// Where traces go.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TraceArgs {
    /// Base URL of an OTLP/HTTP collector, such as `http://collector:4318`; spans go to its `/v1/traces` [default: no traces].
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

impl TraceArgs {
    /// The endpoint, if there is one; an empty one is none.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref().filter(|url| !url.is_empty())
    }
}

/// Spans cannot be sent as configured.
#[derive(Debug)]
pub struct TraceError(String);

impl std::fmt::Display for TraceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(why) = self;
        write!(
            f,
            "--otlp-endpoint: {why}; give the base URL of an OTLP/HTTP collector, such as http://collector:4318"
        )
    }
}

impl std::error::Error for TraceError {}

/// Kept for the life of the process: a provider that is dropped makes no more spans.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Whether spans are made.
#[must_use]
pub fn is_on() -> bool {
    PROVIDER.get().is_some()
}

/// Begins logs and traces of `service`; only the first call of a process does. Run the answer in the runtime.
///
/// # Errors
/// The endpoint is no URL.
pub fn begin(
    service: &'static str,
    args: &TraceArgs,
    logs: EnvFilter,
) -> Result<Exporting, TraceError> {
    let json = tracing_subscriber::fmt::layer().json().with_filter(logs);
    let Some(endpoint) = args.endpoint() else {
        // Somebody else's subscriber is there already in tests.
        let _ = tracing_subscriber::registry().with(json).try_init();
        return Ok(Exporting::nothing());
    };
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let (queue, exporting) = export::pair(endpoint, &resource).map_err(TraceError)?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(queue)
        .build();
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // What the exporter's own client does must not become spans that it then exports.
        .with_filter(filter_fn(|at| {
            at.is_span() && at.target().starts_with("kinora")
        }));
    let _ = PROVIDER.set(provider);
    let _ = tracing_subscriber::registry()
        .with(json)
        .with(spans)
        .try_init();
    Ok(exporting)
}
