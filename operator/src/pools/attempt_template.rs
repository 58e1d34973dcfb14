//! Renders the pod of one attempt: a pool's worker with one slot that is never restarted. Pure.
//!
//! It carries our own labels only, and belongs to its job: whoever deletes the job deletes the pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kinora_crds::{VideoWorkerPool, names};
use kube::ResourceExt;

use super::template::{WorkerDefaults, pod_spec};
use crate::core::seams::AttemptPod;

/// The pod.
pub fn render(
    pool: &VideoWorkerPool,
    defaults: &WorkerDefaults,
    of: &AttemptPod,
    proof: String,
) -> Pod {
    let mut spec = pod_spec(pool, defaults, 1);
    spec.restart_policy = Some("Never".to_owned());
    let attempt = of.attempt.to_string();
    let labels = [
        // Another name than that of a pool's long-lived workers, whose Deployment selects by it.
        ("app.kubernetes.io/name", "kinora-attempt"),
        ("app.kubernetes.io/managed-by", names::MANAGER_OPERATOR),
        (names::LABEL_POOL, &pool.name_any()),
        (names::LABEL_JOB_UID, &of.job_uid),
        (names::LABEL_ATTEMPT, &attempt),
    ];
    let owner = OwnerReference {
        api_version: format!("{}/{}", names::GROUP, names::VERSION),
        kind: "VideoJob".to_owned(),
        name: of.job_name.clone(),
        uid: of.job_uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    };
    Pod {
        metadata: ObjectMeta {
            name: Some(names::attempt_pod_name(&of.job_name, of.attempt)),
            namespace: Some(of.namespace.clone()),
            labels: Some(owned(labels)),
            annotations: Some([(names::ANNOTATION_ATTEMPT_PROOF.to_owned(), proof)].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_pod_of_an_attempt_renders_as_reviewed() {
        let pool = json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
            "metadata": {
                "name": "films", "namespace": "videos", "uid": "pool-uid",
                "labels": {"argocd.argoproj.io/instance": "app"},
            },
            "spec": {
                "execution": "PodPerAttempt", "slotsPerWorker": 4,
                "service": {"endpoint": "http://svc:50051"},
                "template": {"resources": {"requests": {"cpu": "2"}}},
            },
        });
        let defaults = WorkerDefaults {
            image: "kinora.local/kinora-worker:1".to_owned(),
            image_pull_policy: None,
            operator_namespace: "kinora-system".to_owned(),
            log_level: "info".to_owned(),
            otlp_endpoint: None,
        };
        let of = AttemptPod {
            namespace: "videos".to_owned(),
            job_name: "clip".to_owned(),
            job_uid: "3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a11".to_owned(),
            attempt: 3,
        };
        let pool = serde_json::from_value(pool).unwrap();
        let pod = render(&pool, &defaults, &of, "proof".to_owned());
        insta::assert_yaml_snapshot!(pod);
    }
}
