//! VideoWorkerPool: a processing service, the limits it may be called with, and the workers that call it.
//! Absent fields have the defaults of [`defaults`], not of the schema, so that Git and cluster never differ by them.

pub mod defaults;
mod service;
mod status;
mod template;

pub use service::{
    Adaptive, Breaker, Limits, ProcessingService, Protocol, SecretKeyRef, SecretRef,
};
pub use status::VideoWorkerPoolStatus;
pub use template::{WorkerEnv, WorkerEnvSource, WorkerResources, WorkerTemplate};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which service to call, how hard, and with how many workers.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kinora.dev",
    version = "v1alpha1",
    kind = "VideoWorkerPool",
    plural = "videoworkerpools",
    namespaced,
    status = "VideoWorkerPoolStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A processing service and the workers that call it, scaled on the backlog of its VideoJobs.",
    shortname = "vpool",
    shortname = "vpools",
    category = "video",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether workers and service are fit."}"#,
    printcolumn = r#"{"name":"Desired","type":"integer","jsonPath":".status.desiredReplicas","description":"Workers wanted now."}"#,
    printcolumn = r#"{"name":"Workers","type":"integer","jsonPath":".status.replicas","description":"Workers there are."}"#,
    printcolumn = r#"{"name":"Busy","type":"integer","jsonPath":".status.busySlots","description":"Slots that hold a job."}"#,
    printcolumn = r#"{"name":"Queued","type":"integer","jsonPath":".status.queuedJobs","description":"Jobs that wait."}"#,
    printcolumn = r#"{"name":"Running","type":"integer","jsonPath":".status.runningJobs","description":"Jobs that run."}"#,
    printcolumn = r#"{"name":"Oldest","type":"date","jsonPath":".status.oldestQueuedTime","description":"Age of the oldest job that waits."}"#,
    printcolumn = r#"{"name":"Limit","type":"integer","jsonPath":".status.effectiveLimit","description":"Calls allowed at a time now."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VideoWorkerPoolSpec {
    /// Take the jobs of this namespace that name no pool. Of several the oldest acts, the others are Stalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// Leased (when absent): long-lived workers take one job after the other. PodPerAttempt: a pod for each attempt,
    /// for long or untrusted work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution>,
    /// The processing service.
    pub service: ProcessingService,
    /// Seconds a call usually takes, used for scaling until it is measured; 60 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub expected_seconds: Option<i64>,
    /// When failed attempts are tried again, and for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How tenants share the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fairness: Option<Fairness>,
    /// How long dead letters stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<PoolRetention>,
    /// PodPerAttempt: seconds within which an attempt's pod must report; 600 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86_400))]
    pub pod_start_deadline_seconds: Option<i64>,
    /// Calls a worker makes at a time; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub slots_per_worker: Option<i32>,
    /// Between which numbers, and by whom, the workers are scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Number of workers when scaling.mode is External: written by an HPA or by hand, ignored otherwise. Leave it out
    /// of Git.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: Option<i32>,
    /// How the workers' pods differ from what Kinora makes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<WorkerTemplate>,
    /// Write the progress of running jobs into their status, at most every 10 seconds and 5 points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_progress: Option<bool>,
    /// Start no further attempt in this pool; running ones finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// How a pool runs its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Execution {
    /// Long-lived workers take one lease after the other.
    #[default]
    Leased,
    /// One pod for each attempt.
    PodPerAttempt,
    /// A word of a newer API; such a pool is not served.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Retries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Failed attempts after which a job is dead-lettered; 5 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub max_failures: Option<i32>,
    /// Upper bound of the first wait in seconds; it doubles with each failure. 10 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600))]
    pub base_seconds: Option<i64>,
    /// Upper bound of every wait in seconds; 600 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub max_seconds: Option<i64>,
    /// Workers a job may take down before it is dead-lettered as Poison; 20 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub interruption_limit: Option<i32>,
}

/// Shares of tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fairness {
    /// Weight of a tenant that is not listed; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub default_weight: Option<i32>,
    /// Seconds after which a waiting job joins the aged lane, which gets at most half of the grants; 900 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub aging_seconds: Option<i64>,
    /// Tenants with a weight or cap of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub tenants: Vec<TenantShare>,
}

/// One tenant's share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantShare {
    /// The tenant.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its weight; the default weight when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub weight: Option<i32>,
    /// The most calls it may have in flight; no cap when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_in_flight: Option<i32>,
}

/// How long finished jobs stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolRetention {
    /// Seconds a dead-lettered upload job stays as an object; 1209600 (14 days) when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 900, max = 315_360_000))]
    pub dead_letter_seconds: Option<i64>,
}

/// Scaling of the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Internal (when absent): the operator scales on the backlog. External: spec.replicas is followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ScalingMode>,
    /// Fewest workers; 0 when absent, and then an idle pool has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: Option<i32>,
    /// Most workers; 10 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_replicas: Option<i32>,
    /// Seconds for which fewer workers must have been enough before any is taken away; 300 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub scale_down_stabilization_seconds: Option<i64>,
    /// Seconds a worker gets to finish its calls when its pod is deleted; service.timeoutSeconds when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub drain_seconds: Option<i64>,
}

/// Who decides the number of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// The operator, from the backlog.
    #[default]
    Internal,
    /// Whoever writes the scale subresource.
    External,
    /// A word of a newer API; such a pool is not scaled.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
