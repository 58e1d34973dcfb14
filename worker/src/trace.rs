//! The trace of a call: below the lease's, above the service's. Without a collector the lease's trace goes on as it is.

use kinora_protocol::dispatch::Lease;
use kinora_protocol::dispatch::outcome::Fact;
use kinora_telemetry::Traceparent;
use tracing::{Span, field};

use crate::report::Report;

/// The span of a lease's call; from now on the lease carries it, as far as it carries a trace.
pub(crate) fn begin(lease: &mut Lease) -> Span {
    let asked = Traceparent::parse(&lease.traceparent);
    if !kinora_telemetry::is_on() {
        lease.traceparent = asked.map_or_else(String::new, |trace| trace.as_str().to_owned());
        return Span::none();
    }
    let attempt = lease.attempt.as_ref();
    let span = tracing::debug_span!(
        "call",
        otel.kind = "client",
        otel.status_code = field::Empty,
        kinora.job.name = lease.name,
        kinora.job.uid = attempt.map(|attempt| attempt.job_uid.as_str()),
        kinora.attempt = attempt.map(|attempt| attempt.attempt),
        kinora.outcome = field::Empty,
    );
    if let Some(parent) = &asked {
        parent.adopt(&span);
    }
    let current = Traceparent::of(&span).or(asked);
    lease.traceparent = current.map_or_else(String::new, |trace| trace.as_str().to_owned());
    span
}

/// How the call ended.
pub(crate) fn end(span: &Span, report: &Report) {
    span.record("kinora.outcome", report.summary());
    if !matches!(report.fact, Fact::Succeeded(_)) {
        span.record("otel.status_code", "ERROR");
    }
}
