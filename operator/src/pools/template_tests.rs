//! The rendered Deployment as a reviewed file, and what must never be in it.

use serde_json::{Value, json};

use super::*;

fn pool(spec: &Value) -> VideoWorkerPool {
    serde_json::from_value(json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
        "metadata": {
            "name": "default", "namespace": "videos", "uid": "pool-uid",
            "labels": {"argocd.argoproj.io/instance": "app"},
            "annotations": {"argocd.argoproj.io/tracking-id": "app:kinora.dev/VideoWorkerPool:videos/default"},
        },
        "spec": spec,
    }))
    .unwrap()
}

fn worker_defaults() -> WorkerDefaults {
    WorkerDefaults {
        image: "kinora.local/kinora-worker:1".to_owned(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        operator_namespace: "kinora-system".to_owned(),
        log_level: "info".to_owned(),
        otlp_endpoint: None,
    }
}

fn minimal() -> Value {
    json!({"service": {"endpoint": "http://reference-service.videos.svc:50051", "outputs": ["video", "thumbnail"]}})
}

#[test]
fn workers_send_their_spans_where_the_operator_does() {
    let pool = pool(&json!({"service": {"endpoint": "http://svc:1"}}));
    let args = |endpoint: Option<&str>| {
        let defaults = WorkerDefaults {
            otlp_endpoint: endpoint.map(str::to_owned),
            ..worker_defaults()
        };
        let spec = pod_spec(&pool, &defaults, 1);
        spec.containers[0].args.clone().unwrap()
    };
    let flag = "--otlp-endpoint=http://collector:4318".to_owned();
    assert!(args(Some("http://collector:4318")).contains(&flag));
    assert!(!args(None).iter().any(|arg| arg.contains("otlp")));
}

#[test]
fn a_minimal_pool_renders_as_reviewed() {
    insta::assert_yaml_snapshot!(render(&pool(&minimal()), &worker_defaults(), 2).unwrap());
}

#[test]
fn everything_a_pool_may_decide_renders_as_reviewed() {
    let spec = json!({
        "service": {
            "protocol": "Http", "endpoint": "https://svc:443", "tlsSecretRef": {"name": "svc-tls"},
            "tokenSecretRef": {"name": "svc-token", "key": "bearer"}, "timeoutSeconds": 120,
        },
        "slotsPerWorker": 4,
        "scaling": {"drainSeconds": 10},
        "template": {
            "image": "example.com/worker:2",
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "topologySpread": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
            "priorityClassName": "low", "serviceAccountName": "workers",
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}}],
            "imagePullSecrets": [{"name": "regcred"}],
        },
    });
    insta::assert_yaml_snapshot!(render(&pool(&spec), &worker_defaults(), 0).unwrap());
}

#[test]
fn labels_and_annotations_of_the_parent_stay_with_the_parent() {
    let text =
        serde_json::to_string(&render(&pool(&minimal()), &worker_defaults(), 1).unwrap()).unwrap();
    assert!(!text.contains("argocd"), "{text}");
}

#[test]
fn the_hash_ignores_replicas_and_nothing_else() {
    let hash = |spec: &Value, defaults: &WorkerDefaults, replicas| {
        hash_of(&render(&pool(spec), defaults, replicas).unwrap())
            .unwrap()
            .to_owned()
    };
    let base = hash(&minimal(), &worker_defaults(), 1);
    assert_eq!(base, hash(&minimal(), &worker_defaults(), 7));
    let newer = WorkerDefaults {
        image: "kinora.local/kinora-worker:2".to_owned(),
        ..worker_defaults()
    };
    assert_ne!(base, hash(&minimal(), &newer, 1));
    let mut slots = minimal();
    slots["slotsPerWorker"] = json!(2);
    assert_ne!(base, hash(&slots, &worker_defaults(), 1));
}
