//! `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::app::App;
use crate::metrics::Metrics;

pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.ready.check(&app.store) {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    look(&app);
    told(&app.metrics)
}

/// Before the store has passed its test: not ready, and everything at 0.
pub(super) async fn metrics_at_zero() -> Response {
    told(&Metrics::default())
}

fn told(metrics: &Metrics) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &metrics.registry()) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What is read at the scrape.
fn look(app: &App) {
    let metrics = &app.metrics;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    metrics.active_writers.set(number(app.writers.len() as u64));
    metrics.budget_bytes.set(number(app.budget.all()));
    let used = app.budget.all().saturating_sub(app.budget.free());
    metrics.budget_used_bytes.set(number(used));
    metrics
        .budget_waiting
        .set(number(app.budget.waiting() as u64));
    metrics
        .ready
        .set(i64::from(app.ready.check(&app.store).is_ok()));
    metrics
        .clock_skew_seconds
        .set(app.store.store_time().unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower::ServiceExt;

    use crate::http::waiting_router;

    #[tokio::test]
    async fn a_replica_that_waits_for_the_store_shows_that_it_is_not_ready() {
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let answer = waiting_router().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let text = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(text.contains("\nkinora_uploader_ready 0\n"), "{text}");
    }
}
