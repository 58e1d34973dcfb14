//! A video as clients see it, from its VideoJob, its final record or less. Pure, but for the signing of URLs.

use std::time::Duration;

use kinora_crds::{VideoJob, conditions, state};
use kinora_storage::documents::{Record, RecordState, STORE_LOST, Times};
use kinora_storage::{Store, StoreError, UploadId, keys};
use kinora_upload_engine::{Phase, State};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// URLs of outputs in answers are good for this long.
const URL_LIFE: Duration = Duration::from_secs(15 * 60);

/// Where a video stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VideoState {
    /// Bytes are missing.
    Uploading,
    /// Complete and safe; its job is still to be made, or Kubernetes cannot be asked.
    Stored,
    /// Waits for a worker.
    Queued,
    /// Is being processed.
    Running,
    /// Waits for its next attempt.
    Backoff,
    /// Held back by an administrator.
    Suspended,
    /// Outputs are there.
    Succeeded,
    /// Processing failed for good; an operator can redrive it.
    Failed,
    /// No video by the uploader's or the service's verdict.
    Rejected,
    /// By its owner.
    Cancelled,
}

impl VideoState {
    /// All states, in the order of a video's life.
    pub const ALL: [Self; 10] = [
        Self::Uploading,
        Self::Stored,
        Self::Queued,
        Self::Running,
        Self::Backoff,
        Self::Suspended,
        Self::Succeeded,
        Self::Failed,
        Self::Rejected,
        Self::Cancelled,
    ];

    /// The word of answers and of the `state` parameter.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Stored => "stored",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Suspended => "suspended",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens to the video, but for a redrive.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Rejected | Self::Cancelled => true,
            Self::Uploading
            | Self::Stored
            | Self::Queued
            | Self::Running
            | Self::Backoff
            | Self::Suspended => false,
        }
    }
}

/// Moments of a video's life; absent until they happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = std::collections::BTreeMap<String, String>,
         example = json!({"created": "2026-03-04T05:06:07Z", "finished": "2026-03-04T05:07:09Z"}))]
pub struct VideoTimes(pub Times);

/// What processing made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VideoOutput {
    /// As the pool names it.
    pub name: String,
    /// Reads the output for 15 minutes; or the service's own URI.
    pub url: String,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// As the service or the store says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// A video and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Video {
    /// Its id.
    #[schema(example = "a-01arz3ndektsv4rrffq69g5fav")]
    pub id: String,
    /// Where it stands.
    pub state: VideoState,
    /// Bytes of the file, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Bytes that are safe, while nobody writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Attempts of processing so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// Why it stands there, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Moments of its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<VideoTimes>,
    /// What the service says about it: any JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// What processing made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<VideoOutput>,
}

impl Video {
    /// Whether the store lost it before anything was made of it.
    pub(in crate::http) fn is_lost(&self) -> bool {
        let before = self.attempt.unwrap_or(0) == 0;
        let why = self.reason.as_deref();
        self.state == VideoState::Failed && before && why == Some(STORE_LOST)
    }
}

/// A video whose outputs are named as they are stored: nothing of it is signed yet.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::http) struct View {
    pub(in crate::http) video: Video,
    /// Uid of the job whose outputs these are.
    job_uid: Option<String>,
    /// It is told by its job: of an end, the result and the times are still to come, with the record.
    unrecorded: bool,
}

impl View {
    pub(super) fn new(id: &UploadId, state: VideoState, size: Option<u64>) -> Self {
        let video = Video {
            id: id.to_string(),
            state,
            size_bytes: size,
            offset: None,
            attempt: None,
            reason: None,
            message: None,
            times: None,
            result: None,
            outputs: Vec::new(),
        };
        Self {
            video,
            job_uid: None,
            unrecorded: false,
        }
    }

    /// Whether this is all that there will be, but for a redrive.
    pub(super) fn is_final(&self) -> bool {
        self.video.state.is_final() && !self.unrecorded
    }

    /// Of an upload whose bytes are not all there.
    pub(super) fn uploading(id: &UploadId, doc: &State) -> Self {
        let mut view = Self::new(id, VideoState::Uploading, doc.length);
        // While a request writes, the offset is nobody's to tell; nor is that of the end before the outbox has the upload:
        // a client may forget its file then.
        let tellable = doc.phase == Phase::Closed && doc.length != Some(doc.offset);
        view.video.offset = Some(doc.offset).filter(|_| tellable);
        view
    }

    pub(super) fn times(mut self, times: &Times) -> Self {
        self.video.times = Some(VideoTimes(times.clone())).filter(|t| t.0 != Times::default());
        self
    }

    pub(super) fn of_job(mut self, job: &VideoJob) -> Self {
        self.job_uid.clone_from(&job.metadata.uid);
        self.unrecorded = true;
        let status = job.status.as_ref();
        let verdict = status.and_then(|status| {
            let mut all = status.conditions.iter();
            all.find(|condition| condition.type_ == conditions::SUCCEEDED)
        });
        let rejected = verdict.is_some_and(|v| v.reason == conditions::reason::REJECTED);
        self.video.state = match job.state() {
            state::RUNNING => VideoState::Running,
            state::BACKOFF => VideoState::Backoff,
            state::SUSPENDED => VideoState::Suspended,
            state::SUCCEEDED => VideoState::Succeeded,
            state::DEAD_LETTERED if rejected => VideoState::Rejected,
            state::DEAD_LETTERED => VideoState::Failed,
            state::CANCELLED => VideoState::Cancelled,
            _ => VideoState::Queued,
        };
        self.video.reason = verdict.map(|v| v.reason.clone());
        self.video.message = verdict.map(|v| v.message.clone());
        let Some(status) = status else {
            return self;
        };
        self.video.attempt = Some(i64::from(status.attempt));
        let outputs = status.outputs.iter().map(|output| VideoOutput {
            name: output.name.clone(),
            url: output.uri.clone(),
            size_bytes: output.size_bytes.and_then(|size| u64::try_from(size).ok()),
            checksum: output.checksum.clone(),
        });
        self.video.outputs = outputs.collect();
        self
    }

    pub(super) fn of_record(id: &UploadId, record: &Record) -> Self {
        let state = match record.state {
            RecordState::Succeeded => VideoState::Succeeded,
            RecordState::Failed => VideoState::Failed,
            RecordState::Rejected => VideoState::Rejected,
            RecordState::Cancelled => VideoState::Cancelled,
        };
        let mut view = Self::new(id, state, record.size).times(&record.times);
        view.job_uid = record.job.as_ref().map(|job| job.uid.clone());
        view.video.attempt = Some(record.attempts);
        view.video.reason = Some(record.reason.clone());
        view.video.message.clone_from(&record.message);
        view.video.result.clone_from(&record.result);
        let outputs = record.outputs.iter().map(|output| VideoOutput {
            name: output.name.clone(),
            url: output.uri.clone(),
            size_bytes: output.size_bytes,
            checksum: output.checksum.clone(),
        });
        view.video.outputs = outputs.collect();
        view
    }

    /// Differs whenever the video does; the same on every replica.
    pub(super) fn tag(&self) -> String {
        let text = serde_json::to_vec(&self.video).unwrap_or_default();
        format!("\"{}\"", hex::encode(&Sha256::digest(text)[..12]))
    }

    /// For an answer: URLs of the job's own outputs are presigned, the service's own URIs stay as they are.
    pub(super) fn signed(mut self, store: &Store) -> Result<Video, StoreError> {
        let uid = self.job_uid.as_deref().unwrap_or_default();
        for output in &mut self.video.outputs {
            if let Some(key) = own_key(&output.url, store.bucket(), uid) {
                output.url = store.presign_get(key, URL_LIFE)?;
            }
        }
        Ok(self.video)
    }

    /// For a listing: what is large or costs a signature is left to the video's own URL.
    pub(super) fn brief(self) -> Video {
        Video {
            result: None,
            outputs: Vec::new(),
            ..self.video
        }
    }
}

/// The key behind an output of this job. The VideoJob names it as `s3://<bucket>/<key>`, the record as a key; what a
/// service claims to be its own URI must not open another job's outputs.
fn own_key<'a>(uri: &'a str, bucket: &str, job_uid: &str) -> Option<&'a str> {
    let key = uri
        .strip_prefix("s3://")
        .and_then(|rest| rest.strip_prefix(bucket)?.strip_prefix('/'))
        .unwrap_or(uri);
    let of_job = key.split('/').nth(3).filter(|uid| !uid.is_empty());
    let own = key.starts_with(keys::OUTPUTS) && of_job == Some(job_uid);
    own.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::blank_state;

    /// covers: T26
    #[test]
    fn only_the_jobs_own_outputs_are_presigned() {
        let key = "outputs/2026-01-02/ab/uid-1/1-12345678/video";
        let as_uri = format!("s3://kinora/{key}");
        for (uri, want) in [
            (key, Some(key)),
            (as_uri.as_str(), Some(key)),
            (
                "s3://other/outputs/2026-01-02/ab/uid-1/1-12345678/video",
                None,
            ),
            ("outputs/2026-01-02/ab/uid-2/1-12345678/video", None),
            ("outputs/2026-01-02/ab/uid-2/1-12345678/uid-1", None),
            ("s3://kinora/videos/2026-01-02/ab/uid-1", None),
            ("https://service.example/labels/1", None),
        ] {
            assert_eq!(own_key(uri, "kinora", "uid-1"), want, "{uri}");
        }
        assert_eq!(
            own_key("outputs/a/b//c", "kinora", ""),
            None,
            "no job, no outputs"
        );
    }

    #[test]
    fn the_words_are_those_of_the_json() {
        for state in VideoState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }

    #[test]
    fn the_offset_is_told_while_nobody_writes_and_bytes_are_missing() {
        let id: UploadId = "a-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        let cases = [
            ("half", Phase::Closed, Some(10), None, Some(5)),
            ("of unknown length", Phase::Closed, None, None, Some(5)),
            ("while somebody writes", Phase::Open, Some(10), None, None),
            ("full", Phase::Closed, Some(5), None, None),
            (
                "full, its end unsaid",
                Phase::Closed,
                Some(5),
                Some(false),
                None,
            ),
        ];
        for (name, phase, length, complete, want) in cases {
            let mut doc = blank_state(&id, "acme", "default", length, 8 << 20);
            (doc.offset, doc.phase, doc.complete) = (5, phase, complete);
            assert_eq!(View::uploading(&id, &doc).video.offset, want, "{name}");
        }
    }

    #[test]
    fn a_tag_tells_two_stands_apart() {
        let id: UploadId = "a-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        let of = |state| View::new(&id, state, Some(7)).tag();
        assert_eq!(of(VideoState::Queued), of(VideoState::Queued));
        assert_ne!(of(VideoState::Queued), of(VideoState::Running));
    }
}
