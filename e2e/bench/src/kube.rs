//! The least Kubernetes that an uploader needs: an API server that takes every VideoJob and forgets it. What a real one
//! costs is not the uploader's, and is measured elsewhere.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::serve;

/// A running API server.
#[derive(Debug)]
pub(crate) struct Kube {
    server: serve::Server,
}

impl Kube {
    /// Starts it.
    pub(crate) async fn start() -> Result<Self> {
        let server = serve::start(answer).await?;
        Ok(Self { server })
    }

    /// Writes the file that leads clients here.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("kubeconfig");
        let address: SocketAddr = self.server.address;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench", "namespace": "videos"}}],
        });
        std::fs::write(&path, config.to_string()).context("write a kubeconfig")?;
        Ok(path)
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let create = *request.method() == Method::POST && request.uri().path().ends_with("/videojobs");
    let body = request.into_body().collect().await;
    let body = body
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    Ok(if create { created(&body) } else { absent() })
}

fn created(body: &[u8]) -> Response<Full<Bytes>> {
    let Ok(mut job) = serde_json::from_slice::<Value>(body) else {
        return json_answer(
            StatusCode::BAD_REQUEST,
            &json!({"kind": "Status", "code": 400}),
        );
    };
    job["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    job["metadata"]["resourceVersion"] = json!("1");
    job["metadata"]["creationTimestamp"] = json!(jiff::Timestamp::now().to_string());
    json_answer(StatusCode::CREATED, &job)
}

fn absent() -> Response<Full<Bytes>> {
    json_answer(
        StatusCode::NOT_FOUND,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "nothing is kept here", "reason": "NotFound", "code": 404}),
    )
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    answer
}
