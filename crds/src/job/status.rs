//! Status of a VideoJob: the one place where an attempt is claimed and ended, always by compare-and-swap.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{conditions, is_zero, is_zero_i64};
use crate::{Condition, Time};

/// What became of the job. Counters are absent while zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VideoJobStatus {
    /// The spec's generation that this status is about; -1 before the operator has seen the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Queued, Running, Backoff, Suspended, Succeeded, DeadLettered or Cancelled. For people and field selectors;
    /// programs read the conditions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub state: String,
    /// The pool that processes the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub pool_name: Option<String>,
    /// Number of the latest attempt. It only rises, by one at each claim, and fences late results.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub attempt: i32,
    /// Attempts that failed and count against maxFailures.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub failures: i32,
    /// Attempts that took their worker down with them.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub interruptions: i32,
    /// Times the service called the input unfit while nothing of the pool succeeded.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub rejections: i32,
    /// Ends in a row that were charged to nothing: the exponent of their backoff.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub uncharged: i32,
    /// Times the job was brought back from the dead letters. It only rises.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub redrives: i32,
    /// uid of the VideoJobRedrive that brought it back last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub redriven_by: Option<String>,
    /// Whom the latest attempt was claimed for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerRef>,
    /// Not claimed before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// When the current attempt was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the job ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Seconds the final attempt took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub duration_seconds: Option<i64>,
    /// Seconds that earlier attempts ran, for activeDeadlineSeconds.
    #[serde(default, skip_serializing_if = "is_zero_i64")]
    #[schemars(range(min = 0))]
    pub active_seconds: i64,
    /// How far the running attempt is, for pools that report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the accepted attempt made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub outputs: Vec<Output>,
    /// The latest end of an attempt that was no success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    /// Until when calls of ended attempts may still run and hold a permit of the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub ghosts: Vec<Time>,
    /// Succeeded and Finished; Suspended, Reconciling and Stalled only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// The worker an attempt was claimed for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerRef {
    /// Name of its pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub pod_name: String,
    /// uid of its pod; with the attempt it decides whose result is accepted.
    #[serde(default, rename = "podUID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub pod_uid: String,
    /// Node of its pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub node_name: String,
}

/// How far an attempt is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// What the service is doing, in its own word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub step: String,
}

/// One result of the accepted attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Its name in the pool's list of outputs.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Where it is: `s3://<bucket>/<key>`, or a URI of the service's own.
    #[schemars(length(min = 1, max = 2048))]
    pub uri: String,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub size_bytes: Option<i64>,
    /// Its checksum, `<algorithm>:<value>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub checksum: Option<String>,
}

/// How an attempt ended that was no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Rejected, Failed, Throttled, Unavailable, Misconfigured, Interrupted, Lost or Released.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub class: String,
    /// The service's code, or the operator's word for what happened.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What the service said, cut at 1 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When the attempt ended.
    pub time: Time,
}
