//! Whose worker a token makes somebody, against an API server in memory: tokens of pods that are gone, of others' pods, and
//! of pods that only look like the operator's.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::core::seams::AttemptPod;
use crate::pods::{self, PodWatch};

const KEY: [u8; 32] = [7; 32];

/// What the kubelet would give a pod; the API server here believes every one.
pub(super) fn token(pod: &str, uid: &str) -> String {
    let claims =
        json!({"aud": ["kinora-dispatch"], "kubernetes.io": {"pod": {"name": pod, "uid": uid}}});
    format!("eyJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// The pod of such a token.
pub(super) fn claimed(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap());
    let claims: Value = serde_json::from_slice(&claims.unwrap()).unwrap();
    claims["kubernetes.io"]["pod"].clone()
}

/// A review that vouches for the pod of such a token.
pub(super) fn vouched(token: &str) -> Value {
    let pod = claimed(token);
    json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {},
        "status": {
            "authenticated": true, "audiences": ["kinora-dispatch"],
            "user": {
                "username": "system:serviceaccount:videos:default",
                "extra": {
                    "authentication.kubernetes.io/pod-name": [pod["name"]],
                    "authentication.kubernetes.io/pod-uid": [pod["uid"]],
                },
            },
        },
    })
}

/// With these pods, by name, at the API server, and none in the index.
async fn auth(pods: Value) -> TokenAuth {
    let review = |Json(review): Json<Value>| async move {
        Json(vouched(review["spec"]["token"].as_str().unwrap()))
    };
    let read = |State(pods): State<Value>, Path(name): Path<String>| async move {
        match pods.get(&name) {
            Some(pod) => Ok(Json(pod.clone())),
            None => Err((
                StatusCode::NOT_FOUND,
                Json(
                    json!({"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound", "status": "Failure"}),
                ),
            )),
        }
    };
    let app = Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
        .route("/api/v1/namespaces/videos/pods/{name}", get(read))
        .with_state(pods);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    with_index(client).0
}

/// And the watch that fills its index of pods.
pub(super) fn with_index(client: Client) -> (TokenAuth, PodWatch) {
    let (events, _) = mpsc::channel(1);
    let (index, watch) = pods::new(client.clone(), Maker::new(&KEY), events);
    let (store, mut writer) = reflector::store();
    let pool: VideoWorkerPool = serde_json::from_value(json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
        "metadata": {"name": "films", "namespace": "videos", "uid": "pool-uid"},
        "spec": {"service": {"endpoint": "http://svc:1"}},
    }))
    .unwrap();
    writer.apply_watcher_event(&Event::Apply(pool));
    let auth = TokenAuth::new(client, index, store, Maker::new(&KEY));
    (auth, watch)
}

pub(super) fn attempt_pod(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let of = AttemptPod {
        namespace: "videos".to_owned(),
        job_name: "clip".to_owned(),
        job_uid: "job-uid".to_owned(),
        attempt: 1,
    };
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "videos", "uid": "u1",
            "labels": {
                "kinora.dev/pool": "films", "kinora.dev/job-uid": "job-uid", "kinora.dev/attempt": "1",
            },
            "annotations": {"kinora.dev/attempt-proof": Maker::new(&KEY).proof(&of)},
            "ownerReferences": [{
                "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "name": "clip", "uid": "job-uid",
                "controller": true,
            }],
        },
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running"},
    });
    change(&mut pod);
    pod
}

/// covers: S16, F59
#[tokio::test]
async fn only_a_living_pod_that_the_operator_made_is_the_worker_of_an_attempt() {
    let table: [(&str, &str, &str, Value, bool); 8] = [
        (
            "its own pod",
            "clip-a1",
            "u1",
            attempt_pod("clip-a1", |_| {}),
            true,
        ),
        (
            "a token of an earlier pod of that name",
            "clip-a1",
            "u0",
            attempt_pod("clip-a1", |_| {}),
            false,
        ),
        ("a pod that is gone", "clip-a9", "u1", json!(null), false),
        (
            "a pod that has ended",
            "clip-a1",
            "u1",
            attempt_pod("clip-a1", |pod| pod["status"]["phase"] = json!("Succeeded")),
            false,
        ),
        (
            "a pod that somebody else made",
            "clip-a1",
            "u1",
            attempt_pod("clip-a1", |pod| {
                pod["metadata"]["annotations"]["kinora.dev/attempt-proof"] = json!("00");
            }),
            false,
        ),
        (
            "a proof that was copied to another attempt",
            "clip-a2",
            "u1",
            attempt_pod("clip-a2", |pod| {
                pod["metadata"]["labels"]["kinora.dev/attempt"] = json!("2");
            }),
            false,
        ),
        (
            "a proof that was copied to another name",
            "evil",
            "u1",
            attempt_pod("evil", |_| {}),
            false,
        ),
        (
            "its own pod, whose pool is gone",
            "clip-a1",
            "u1",
            attempt_pod("clip-a1", |pod| {
                pod["metadata"]["labels"]["kinora.dev/pool"] = json!("gone");
            }),
            true,
        ),
    ];
    for (name, pod_name, uid, pod, want) in table {
        let pods = if pod.is_null() {
            json!({})
        } else {
            json!({ pod_name: pod.clone() })
        };
        let auth = auth(pods).await;
        let got = auth.authenticate(&token(pod_name, uid)).await;
        assert_eq!(got.is_ok(), want, "{name}: {got:?}");
        match got {
            Ok(who) => {
                let pool = &pod["metadata"]["labels"]["kinora.dev/pool"];
                assert_eq!(pool, who.pool.name.as_str(), "{name}");
                assert_eq!(who.attempt.unwrap().attempt, 1);
            }
            Err(error) => assert!(matches!(error, AuthError::Refused(_)), "{name}: {error}"),
        }
    }
}
