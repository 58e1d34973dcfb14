//! The trace that a request belongs to: read from `traceparent`, kept with the upload it creates, and, where traces are
//! exported, the parent of the request's own span. Without an endpoint nothing but the header's text is handled.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use kinora_telemetry::Traceparent;
use serde_json::{Map, Value};
use tracing::{Instrument, Span, field};

use crate::metrics::{Route, Verb};

/// Member of a state document, and name of the header.
pub const TRACEPARENT: &str = "traceparent";

tokio::task_local! {
    static CURRENT: Option<Traceparent>;
}

/// Runs the request in its trace.
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    let asked = asked(request.headers());
    if !kinora_telemetry::is_on() {
        return CURRENT.scope(asked, next.run(request)).await;
    }
    let span = span(&request);
    if let Some(parent) = &asked {
        parent.adopt(&span);
    }
    let current = Traceparent::of(&span).or(asked);
    let answered = Box::pin(async {
        let answer = next.run(request).await;
        let status = answer.status();
        Span::current().record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            Span::current().record("otel.status_code", "ERROR");
        }
        answer
    });
    CURRENT.scope(current, answered.instrument(span)).await
}

fn asked(headers: &HeaderMap) -> Option<Traceparent> {
    Traceparent::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// Names and attributes as OpenTelemetry's conventions for HTTP servers have them; nothing a client writes is among them.
fn span(request: &Request) -> Span {
    let pattern = request.extensions().get().map(MatchedPath::as_str);
    let verb = Verb::of(request.method()).word();
    tracing::debug_span!(
        "request",
        otel.name = format!("{verb} {}", Route::of(pattern).word()),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = verb,
        http.route = pattern,
        http.response.status_code = field::Empty,
    )
}

/// Work that goes on beside the request, in the same trace.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(current(), work.in_current_span())
}

fn current() -> Option<Traceparent> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// What a new state document keeps of the trace it begins in.
pub(crate) fn kept() -> Map<String, Value> {
    let trace = current().map(|trace| (TRACEPARENT.to_owned(), trace.as_str().into()));
    trace.into_iter().collect()
}

/// The trace that a state document was begun in.
pub(crate) fn of_state(state: &kinora_upload_engine::State) -> Option<Traceparent> {
    Traceparent::parse(state.extra.get(TRACEPARENT)?.as_str()?)
}
