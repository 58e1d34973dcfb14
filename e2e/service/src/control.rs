//! The control port: fault knobs, counts, health.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::faults::Faults;
use crate::job::Shared;

/// `GET`/`PUT /faults`, `GET`/`DELETE /calls`, `/livez`, `/readyz`.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/faults", get(show).put(set))
        .route("/calls", get(calls).delete(reset))
        .with_state(shared)
}

async fn show(State(shared): State<Arc<Shared>>) -> Json<Faults> {
    Json(shared.faults.get())
}

/// The body is parsed by hand: people send it with curl, which names another content type.
async fn set(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let set = serde_json::from_str::<Faults>(&body)
        .map_err(|error| error.to_string())
        .and_then(|faults| shared.faults.set(faults));
    match set {
        Ok(()) => Json(shared.faults.get()).into_response(),
        Err(problem) => (StatusCode::BAD_REQUEST, format!("faults: {problem}\n")).into_response(),
    }
}

async fn calls(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    Json(shared.ledger.counts())
}

async fn reset(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.ledger.reset();
    StatusCode::NO_CONTENT
}
