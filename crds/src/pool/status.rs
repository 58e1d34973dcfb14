//! Status of a VideoWorkerPool: counts at most every 10 s, only when changed, at once when one leaves or reaches 0.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::conditions;
use crate::{Condition, Time};

/// How the pool is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VideoWorkerPoolStatus {
    /// The spec's generation that this status is about; -1 before the operator has seen the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Workers there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// Workers whose pods are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ready_replicas: Option<i32>,
    /// Slots that hold a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub busy_slots: Option<i32>,
    /// Slots of all connected workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total_slots: Option<i32>,
    /// Jobs that wait, those in backoff among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub queued_jobs: Option<i32>,
    /// Jobs that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub running_jobs: Option<i32>,
    /// Since when the oldest job waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_queued_time: Option<Time>,
    /// Workers wanted now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub desired_replicas: Option<i32>,
    /// Calls allowed at a time now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub effective_limit: Option<i32>,
    /// Closed, Open or HalfOpen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub breaker: Option<String>,
    /// Label selector of the workers' pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// When the number of workers was changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// Ready, ScalingLimited, ServiceHealthy; Suspended, Reconciling and Stalled only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
