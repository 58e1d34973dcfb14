//! The chart's values for the local cluster: its store, the reference service, short times.

use super::{
    BUCKET, JOBS_NAMESPACE, SERVICE_NAMESPACE, SHORT_LIVED, StackOptions, UPLOAD_TTL_SECONDS,
};

/// The chart's values for the local cluster.
pub(super) fn chart_values(options: &StackOptions) -> serde_json::Value {
    serde_json::json!({
        "image": {"registry": options.images.registry, "tag": options.images.tag, "pullPolicy": "IfNotPresent"},
        "operator": {"replicas": options.operator_replicas},
        "uploader": {"replicas": options.uploader_replicas},
        "store": {"endpoint": format!("http://{}:8333", crate::cluster::STORE_HOST), "bucket": BUCKET, "region": "us-east-1"},
        "jobs": {"namespace": JOBS_NAMESPACE},
        "insecure": options.upload_ttl_floor_seconds < UPLOAD_TTL_SECONDS,
        "uploadTtlFloorSeconds": options.upload_ttl_floor_seconds,
        "profiles": {
            "default": {"maxBytes": 300_000_000, "ttlSecondsAfterFinished": UPLOAD_TTL_SECONDS},
            (SHORT_LIVED): {"maxBytes": 300_000_000, "ttlSecondsAfterFinished": options.upload_ttl_floor_seconds},
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
