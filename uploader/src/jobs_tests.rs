//! Answers of an API server, and what a job makes of them.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use serde_json::Value;

use super::*;

/// A sink whose API server answers every create like this.
async fn sink(code: u16, reason: &'static str, message: &'static str) -> KubeSink {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let answer = move || async move { status(code, reason, message) };
    let jobs = "/apis/kinora.dev/v1alpha1/namespaces/videos/videojobs";
    let router = axum::Router::new().route(jobs, post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut config = kube::Config::new(url.parse().unwrap());
    config.default_retry = false;
    KubeSink::new(kube::Client::try_from(config).unwrap(), "videos")
}

fn status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": message,
    });
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

fn job() -> VideoJob {
    let job: Value = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "metadata": {"name": "vj-a-01"},
        "spec": {"source": {"key": "videos/k"}},
    });
    serde_json::from_value(job).unwrap()
}

/// covers: F24, S11
#[tokio::test]
async fn a_full_cluster_is_told_from_one_that_is_away_and_from_one_that_refuses() {
    const QUOTA: &str = "videojobs.kinora.dev \"vj-a-01\" is forbidden: exceeded quota: videos, requested: \
                         count/videojobs.kinora.dev=1, used: count/videojobs.kinora.dev=100, limited: count/videojobs.kinora.dev=100";
    const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
    const NO_RIGHT: &str = "videojobs.kinora.dev is forbidden: User \"x\" cannot create resource";
    let table = [
        (403, "Forbidden", QUOTA, "full"),
        (500, "InternalError", NO_SPACE, "full"),
        (403, "Forbidden", NO_RIGHT, "refused"),
        (422, "Invalid", "spec.source.key is too long", "refused"),
        (
            500,
            "InternalError",
            "etcdserver: request timed out",
            "away",
        ),
        (503, "ServiceUnavailable", "etcdserver: no leader", "away"),
        (429, "TooManyRequests", "try again later", "away"),
    ];
    for (code, reason, message, want) in table {
        let error = sink(code, reason, message).await.create(&job()).await;
        let (got, cause) = match error.unwrap_err() {
            SinkError::Full { cause, .. } => ("full", cause),
            SinkError::Refused { cause, .. } => ("refused", cause),
            SinkError::Away { cause, .. } => ("away", cause),
            SinkError::Silent { action } => ("silent", action),
        };
        assert_eq!(got, want, "{message}");
        assert!(cause.contains(message), "{cause}");
    }
}
