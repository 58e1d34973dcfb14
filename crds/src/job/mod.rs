//! VideoJob: one video to be processed. The spec is what was asked for, by the uploader or by people in Git, and is
//! never written by the operator; the status is written by the operator alone.

mod status;

pub use status::{Failure, Output, Progress, VideoJobStatus, WorkerRef};

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{names, state};

/// What to process and within which limits. Only suspend, priority, cancelRequested and ttlSecondsAfterFinished may
/// change after creation.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kinora.dev",
    version = "v1alpha1",
    kind = "VideoJob",
    plural = "videojobs",
    namespaced,
    status = "VideoJobStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One video to be processed by a pool's processing service, with retries until it succeeded or is dead-lettered.",
    shortname = "vjob",
    shortname = "vjobs",
    category = "video",
    selectable = ".status.state",
    selectable = ".spec.tenant",
    selectable = ".spec.poolRef.name",
    selectable = ".status.poolName",
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state","description":"Queued, Running, Backoff, Suspended, Succeeded, DeadLettered or Cancelled."}"#,
    printcolumn = r#"{"name":"Attempt","type":"integer","jsonPath":".status.attempt","description":"Number of the latest attempt."}"#,
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".status.poolName","description":"The pool that processes the job."}"#,
    printcolumn = r#"{"name":"Duration","type":"integer","jsonPath":".status.durationSeconds","description":"Seconds the final attempt took."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Tenant","type":"string","jsonPath":".spec.tenant","priority":1,"description":"Whom the job is for."}"#,
    printcolumn = r#"{"name":"Worker","type":"string","jsonPath":".status.worker.podName","priority":1,"description":"Pod of the latest attempt."}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Succeeded\")].reason","priority":1,"description":"Why the job is in this state."}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Succeeded\")].message","priority":1,"description":"The same for people."}"#,
    printcolumn = r#"{"name":"Source","type":"string","jsonPath":".spec.source.key","priority":1,"description":"Key of the video in the cell's bucket."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VideoJobSpec {
    /// The video, an object in the cell's bucket.
    pub source: JobSource,
    /// How to process it: a word handed to the processing service as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub profile: Option<String>,
    /// Settings handed to the processing service as they are; at most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub parameters: BTreeMap<String, String>,
    /// Whom the job is for; shares and caps of a pool are by tenant. A job that people declare must name its own
    /// namespace, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub tenant: Option<String>,
    /// The pool to use. Absent: the namespace's oldest default pool, shown in status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<PoolRef>,
    /// Jobs with a higher number are claimed first; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: Option<i32>,
    /// Failed attempts after which the job is dead-lettered; the pool's number when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub max_failures: Option<i32>,
    /// Seconds after creation within which the first attempt must start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub start_deadline_seconds: Option<i64>,
    /// Seconds all attempts together may run; waiting does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub active_deadline_seconds: Option<i64>,
    /// Seconds after which a Succeeded or Cancelled job is deleted, once its record is stored. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 315_360_000))]
    pub ttl_seconds_after_finished: Option<i64>,
    /// Start no further attempt; a running one finishes and counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// End the job as Cancelled. Cannot be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<bool>,
}

/// An object in the cell's bucket: a key, never a bucket or a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSource {
    /// Key of the object. People may name `imports/<namespace>/…` and what the cell's operator allows their namespace.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^[^/\\\x00-\x1f\x7f][^\\\x00-\x1f\x7f]*$")
    )]
    pub key: String,
    /// The object's ETag when the job was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub etag: Option<String>,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub size_bytes: Option<i64>,
    /// Its checksum, `<algorithm>:<value>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub checksum: Option<String>,
}

/// A VideoWorkerPool in the job's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolRef {
    /// The pool's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

impl VideoJob {
    /// `status.state`, or what the schema would show before any write.
    #[must_use]
    pub fn state(&self) -> &str {
        match &self.status {
            Some(status) if !status.state.is_empty() => &status.state,
            _ => state::QUEUED,
        }
    }

    /// Whether the uploader made it (the label that only Kinora may set).
    #[must_use]
    pub fn is_upload(&self) -> bool {
        let labels = self.metadata.labels.as_ref();
        labels
            .and_then(|l| l.get(names::LABEL_ORIGIN))
            .is_some_and(|v| v == names::ORIGIN_UPLOAD)
    }

    /// Number of its life. Before the first claim of a job that was made again, only its annotation says.
    #[must_use]
    pub fn redrives(&self) -> u32 {
        let counted = self.status.as_ref().map_or(0, |status| status.redrives);
        let annotations = self.metadata.annotations.as_ref();
        let named = annotations.and_then(|all| all.get(names::ANNOTATION_REDRIVES)?.parse().ok());
        u32::try_from(counted).unwrap_or(0).max(named.unwrap_or(0))
    }
}
