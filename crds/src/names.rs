//! Names that are expensive to change: group, labels, annotations, field managers, objects found by name.

/// API group of the three kinds.
pub const GROUP: &str = "kinora.dev";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";

/// Label on a VideoJob that says who made it. The admission policy lets only Kinora itself set [`ORIGIN_UPLOAD`].
pub const LABEL_ORIGIN: &str = "kinora.dev/origin";
/// Value of [`LABEL_ORIGIN`] on jobs the uploader made.
pub const ORIGIN_UPLOAD: &str = "upload";
/// Label on a pool's worker Deployment and its pods: the pool's name.
pub const LABEL_POOL: &str = "kinora.dev/pool";

/// Label on the pod of an attempt: the job's uid.
pub const LABEL_JOB_UID: &str = "kinora.dev/job-uid";
/// Label on the pod of an attempt: its number.
pub const LABEL_ATTEMPT: &str = "kinora.dev/attempt";

/// On the pod of an attempt: proof that the operator made it.
pub const ANNOTATION_ATTEMPT_PROOF: &str = "kinora.dev/attempt-proof";
/// When the outbox entry of an upload was written, RFC 3339.
pub const ANNOTATION_OUTBOX_TIME: &str = "kinora.dev/outbox-time";
/// Redrives a re-created job starts from; the first claim copies it into status.
pub const ANNOTATION_REDRIVES: &str = "kinora.dev/redrives";
/// The VideoJobRedrive that a job was re-created for.
pub const ANNOTATION_REDRIVEN_BY: &str = "kinora.dev/redriven-by";
/// W3C trace context of the upload.
pub const ANNOTATION_TRACEPARENT: &str = "kinora.dev/traceparent";
/// The upload a job was made for; AlreadyExists with the same value is success.
pub const ANNOTATION_UPLOAD_ID: &str = "kinora.dev/upload-id";
/// On the leader's Lease: `ip:port` of its dispatch listener.
pub const ANNOTATION_LEADER_ADDRESS: &str = "kinora.dev/dispatch-address";

/// Field manager of the operator.
pub const MANAGER_OPERATOR: &str = "kinora-operator";
/// Field manager of the uploader.
pub const MANAGER_UPLOADER: &str = "kinora-uploader";
/// Field manager of the default pool, which the operator applies for the chart.
pub const MANAGER_CHART: &str = "kinora-chart";

/// Service (and Lease, and Deployment) of the operator in the release namespace.
pub const OPERATOR_SERVICE: &str = "kinora-operator";
/// ConfigMap in the release namespace that holds the default pool.
pub const DEFAULT_POOL_CONFIGMAP: &str = "kinora-default-pool";
/// Key in [`DEFAULT_POOL_CONFIGMAP`]: one VideoWorkerPool as YAML.
pub const DEFAULT_POOL_KEY: &str = "pool.yaml";
/// Secret (CA key, release namespace) and ConfigMap (CA certificate, every namespace with a pool) of dispatch.
pub const DISPATCH_CA: &str = "kinora-dispatch-ca";
/// Key of the certificate in the ConfigMap [`DISPATCH_CA`].
pub const DISPATCH_CA_KEY: &str = "ca.crt";
/// Audience of the workers' projected tokens.
pub const DISPATCH_AUDIENCE: &str = "kinora-dispatch";
/// Secret with the object store's credentials, release namespace.
pub const STORE_SECRET: &str = "kinora-store";
/// Secret with the uploader's API keys, release namespace.
pub const API_KEYS_SECRET: &str = "kinora-api-keys";

/// Prefix of the names and of the keys that belong to uploads.
pub const JOB_NAME_PREFIX: &str = "vj-";

/// The VideoJob of an upload: `vj-<id>`, so that creating it twice gives one.
#[must_use]
pub fn job_name(upload_id: &str) -> String {
    format!("{JOB_NAME_PREFIX}{upload_id}")
}

/// The Deployment that runs a pool's workers.
#[must_use]
pub fn worker_deployment_name(pool: &str) -> String {
    format!("{pool}-workers")
}

/// The pod of an attempt, in pools with a pod for each. A name that is never used twice.
#[must_use]
pub fn attempt_pod_name(job: &str, attempt: u32) -> String {
    format!("{job}-a{attempt}")
}

/// Whether the API server's message says that there is no room: the words of the quota admission plugin and of etcd. Their codes
/// (403 and 500) are also those of other troubles.
#[must_use]
pub fn tells_full(message: &str) -> bool {
    ["exceeded quota", "database space exceeded"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_and_a_pool_always_get_the_same_names() {
        assert_eq!(job_name("a-01jd"), "vj-a-01jd");
        assert_eq!(worker_deployment_name("default"), "default-workers");
        assert_eq!(attempt_pod_name("vj-a-01jd", 3), "vj-a-01jd-a3");
    }
}
