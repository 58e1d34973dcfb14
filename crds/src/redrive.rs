//! VideoJobRedrive: brings dead letters back, paced. The operator works through the selection and counts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{conditions, is_zero};
use crate::{Condition, Time};

/// Which dead letters to bring back, and how fast. The selection cannot change once it is made.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kinora.dev",
    version = "v1alpha1",
    kind = "VideoJobRedrive",
    plural = "videojobredrives",
    namespaced,
    status = "VideoJobRedriveStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Brings dead-lettered VideoJobs of its namespace back to the queue, at a chosen pace.",
    shortname = "vredrive",
    shortname = "vredrives",
    category = "video",
    printcolumn = r#"{"name":"Matched","type":"integer","jsonPath":".status.matched","description":"Dead letters selected so far."}"#,
    printcolumn = r#"{"name":"Redriven","type":"integer","jsonPath":".status.redriven","description":"Jobs brought back."}"#,
    printcolumn = r#"{"name":"Skipped","type":"integer","jsonPath":".status.skipped","description":"Jobs left alone."}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.failed","description":"Jobs that could not be brought back."}"#,
    printcolumn = r#"{"name":"Finished","type":"string","jsonPath":".status.conditions[?(@.type==\"Finished\")].status","description":"Whether the redrive is over."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VideoJobRedriveSpec {
    /// Labels of the jobs; an empty selector takes all.
    pub selector: LabelSelector,
    /// Only jobs of this pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub pool_name: Option<String>,
    /// Only jobs dead-lettered for one of these reasons, such as FailuresExhausted; all when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub reasons: Vec<String>,
    /// Only jobs that ended before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_before: Option<Time>,
    /// Only jobs that ended after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_after: Option<Time>,
    /// Jobs brought back per second; 10 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub per_second: Option<i32>,
    /// Stop after this many jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_jobs: Option<i32>,
    /// Count what would be brought back and change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// End the redrive; what was brought back stays so. Cannot be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<bool>,
    /// Seconds after which the finished redrive is deleted. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 315_360_000))]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// How far the redrive is. After a fail-over the counts are "at least".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VideoJobRedriveStatus {
    /// The spec's generation that this status is about; -1 before the operator has seen the redrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Dead letters selected so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub matched: i32,
    /// Jobs brought back.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub redriven: i32,
    /// Jobs left alone, because they changed or were brought back by this redrive before.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub skipped: i32,
    /// Jobs that could not be brought back.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub failed: i32,
    /// Where to go on after a fail-over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub cursor: Option<String>,
    /// Succeeded and Finished; Suspended, Reconciling and Stalled only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
