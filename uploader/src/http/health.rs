//! `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::app::App;

pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.ready.check(&app.store) {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    look(&app);
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &app.metrics.registry()) {
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
