//! The chart's values for the local cluster: its store, the reference service, short times.

use super::{
    BUCKET, CROWD, JOBS_NAMESPACE, SERVICE_NAMESPACE, SHORT_LIVED, StackOptions, UPLOAD_TTL_SECONDS,
};

/// So that cases need not wait ten minutes for the audit.
const AUDIT_GRACE_SECONDS: u32 = 10;

/// The chart's values for the local cluster.
pub(super) fn chart_values(options: &StackOptions) -> serde_json::Value {
    let insecure = options.upload_ttl_floor_seconds < UPLOAD_TTL_SECONDS;
    let grace = serde_json::json!({"name": "KINORA_AUDIT_GRACE_SECONDS", "value": AUDIT_GRACE_SECONDS.to_string()});
    let extra: Vec<_> = insecure.then_some(grace).into_iter().collect();
    serde_json::json!({
        "image": {"registry": options.images.registry, "tag": options.images.tag, "pullPolicy": "IfNotPresent"},
        "operator": {"replicas": options.operator_replicas, "extraEnv": extra},
        "uploader": {"replicas": options.uploader_replicas},
        "store": {"endpoint": format!("http://{}:8333", crate::cluster::STORE_HOST), "bucket": BUCKET, "region": "us-east-1"},
        "jobs": {"namespace": JOBS_NAMESPACE},
        "insecure": insecure,
        "uploadTtlFloorSeconds": options.upload_ttl_floor_seconds,
        "profiles": {
            "default": {"maxBytes": 300_000_000, "ttlSecondsAfterFinished": UPLOAD_TTL_SECONDS},
            (SHORT_LIVED): {"maxBytes": 300_000_000, "ttlSecondsAfterFinished": options.upload_ttl_floor_seconds},
            (CROWD): {"maxBytes": 1_000_000, "ttlSecondsAfterFinished": UPLOAD_TTL_SECONDS, "pool": CROWD},
        },
        "pool": {"spec": {
            "default": true,
            "service": {
                "protocol": "Grpc",
                "endpoint": format!("http://reference-service.{SERVICE_NAMESPACE}.svc:50051"),
                "outputs": ["video", "thumbnail"],
                "timeoutSeconds": 120,
            },
            "expectedSeconds": 10,
            "retry": {"baseSeconds": 1, "maxSeconds": 2, "maxFailures": 5},
            "slotsPerWorker": 1,
            "scaling": {
                "mode": "Internal", "minReplicas": 0, "maxReplicas": 3,
                "scaleDownStabilizationSeconds": options.scale_down_seconds, "drainSeconds": 60,
            },
        }},
    })
}
