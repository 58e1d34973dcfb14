//! What a full house does with those who come still: the probes of the kubelet are on the same port, and it ends a replica
//! that does not answer them. So a few places more are kept for connections that are answered once and closed.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Parting, http1};
use crate::http::dress;
use crate::http::problem::Problem;
use crate::metrics::{Limit, Metrics};

/// What is answered all the same.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// From the connection's begin to its end: they are few, so a silent client may not hold one for long.
const WITHIN: Duration = Duration::from_secs(2);

/// The router of connections that have no place.
pub(crate) fn router(all: &Router, metrics: &Metrics) -> Router {
    let metrics = metrics.clone();
    all.clone().layer(from_fn_with_state(metrics, only_probes))
}

async fn only_probes(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    if PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    metrics.limited(Limit::Connections);
    dress(&request)(Problem::try_again("all connections are taken").into_response())
}

/// Answers one request, of HTTP/1.1 as the probes are.
pub(super) async fn turn_away(stream: TcpStream, peer: SocketAddr, router: Router) {
    let last = CancellationToken::new();
    last.cancel();
    let answered = http1(stream, peer, router, Parting::at(last), WITHIN);
    if let Ok(Err(error)) = tokio::time::timeout(WITHIN, answered).await {
        tracing::debug!(%error, "a connection broke");
    }
}
