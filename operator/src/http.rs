//! The operator's plain HTTP: /livez, /readyz, /metrics and /admission. Answers from memory only.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use kinora_engine::watermark::Gate;
use kinora_telemetry::port;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::core::Admission;
use crate::metrics::Metrics;

/// What this replica waits for; `None`: it is ready.
pub type Readiness = Option<String>;

/// What the handlers read.
#[derive(Clone)]
pub struct Surface {
    readiness: watch::Receiver<Readiness>,
    admission: watch::Receiver<Option<Admission>>,
    gate: Arc<Mutex<Gate>>,
    metrics: Metrics,
}

#[derive(Serialize)]
struct AdmissionAnswer {
    v: u32,
    admit: bool,
    live: u64,
    watermark: u64,
}

impl Surface {
    /// `admission` is `None` until the jobs are counted.
    pub fn new(
        readiness: watch::Receiver<Readiness>,
        admission: watch::Receiver<Option<Admission>>,
        watermark: u64,
        metrics: Metrics,
    ) -> Self {
        let gate = Arc::new(Mutex::new(Gate::new(watermark)));
        metrics.admission(admission.clone(), gate.clone());
        Self {
            readiness,
            admission,
            gate,
            metrics,
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/admission", get(admission))
            .with_state(self)
    }
}

/// Serves until stopped.
pub async fn serve(listener: TcpListener, surface: Surface, stop: CancellationToken) {
    port::serve(listener, surface.router(), stop).await;
}

/// Binds, with an error that names the flag.
///
/// # Errors
/// When the address is taken or not ours.
pub async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| {
        format!("listen on {address}: {error}; free the port or choose another with {flag}")
    })
}

async fn readyz(State(surface): State<Surface>) -> Response {
    let readiness = surface.readiness.borrow().clone();
    match readiness {
        None => "ok\n".into_response(),
        Some(waits_for) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{waits_for}\n")).into_response()
        }
    }
}

async fn metrics(State(surface): State<Surface>) -> Response {
    match surface.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Before the jobs are counted there is no answer; the uploader takes that for open.
async fn admission(State(surface): State<Surface>) -> Response {
    let Some(Admission { live }) = *surface.admission.borrow() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "jobs are not counted yet\n",
        )
            .into_response();
    };
    let mut gate = surface.gate.lock().unwrap_or_else(PoisonError::into_inner);
    let admit = gate.admit(live);
    let watermark = gate.watermark();
    drop(gate);
    Json(AdmissionAnswer {
        v: 1,
        admit,
        live,
        watermark,
    })
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    /// covers: F9
    #[test]
    fn admission_closes_at_the_watermark_and_reopens_at_nine_tenths() {
        let mut gate = Gate::new(1000);
        let steps = [
            (0, true),
            (999, true),
            (1000, false),
            (950, false),
            (901, false),
            (900, true),
            (950, true),
            (2000, false),
            (0, true),
        ];
        for (live, want) in steps {
            assert_eq!(gate.admit(live), want, "at {live}");
        }
        let mut tiny = Gate::new(1);
        assert!(tiny.admit(0) && !tiny.admit(1) && tiny.admit(0));
    }

    async fn get(surface: &Surface, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = surface.clone().router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_replica_says_what_it_waits_for_and_then_answers() {
        let (ready, readiness) = watch::channel(Some("waits for the store".to_owned()));
        let (count, admission) = watch::channel(None);
        let surface = Surface::new(readiness, admission, 10, Metrics::default());
        assert_eq!(get(&surface, "/livez").await.0, StatusCode::OK);
        assert_eq!(
            get(&surface, "/readyz").await,
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "waits for the store\n".to_owned()
            )
        );
        assert_eq!(
            get(&surface, "/admission").await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        ready.send_replace(None);
        count.send_replace(Some(Admission { live: 11 }));
        assert_eq!(get(&surface, "/readyz").await.0, StatusCode::OK);
        let want = r#"{"v":1,"admit":false,"live":11,"watermark":10}"#;
        assert_eq!(
            get(&surface, "/admission").await,
            (StatusCode::OK, want.to_owned())
        );
        let (status, text) = get(&surface, "/metrics").await;
        assert!(
            status == StatusCode::OK && text.ends_with("# EOF\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn metrics_show_admission_as_the_gate_has_it() {
        let (count, admission) = watch::channel(None);
        let surface = Surface::new(watch::channel(None).1, admission, 20, Metrics::default());
        let (_, text) = get(&surface, "/metrics").await;
        assert!(text.contains("\nkinora_admission_closed 0\n"), "{text}");
        for (live, want) in [(19, 0), (20, 1), (19, 1), (18, 0), (19, 0)] {
            count.send_replace(Some(Admission { live }));
            let (_, text) = get(&surface, "/metrics").await;
            let want = format!("\nkinora_admission_closed {want}\n");
            assert!(text.contains(&want), "at {live}:\n{text}");
        }
    }
}
