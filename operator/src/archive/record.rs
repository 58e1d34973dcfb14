//! The final record of a job: built from the job and, for uploads, from the decision the uploader left. Pure.

use kinora_crds::conditions::{self, reason};
use kinora_crds::{Output as StatusOutput, VideoJob, state};
use kinora_storage::documents::{
    Active, Checksums, JobRef, Output, Owner, Record, RecordState, Times, VERSION,
};
use kube::ResourceExt;
use serde_json::{Map, Value};

use super::keys::Filed;
use super::revive;

/// What is known beside the job.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The uploader's decision, if it is still there.
    pub active: Option<Active>,
    /// The record that this one replaces.
    pub stored: Option<Record>,
    /// The service's JSON.
    pub result: Option<Value>,
    /// Name of the bucket: outputs in it are recorded by key.
    pub bucket: String,
}

/// The record; `None` while the job has not ended.
pub fn build(job: &VideoJob, filed: &Filed, known: Known) -> Option<Record> {
    let status = job.status.clone().unwrap_or_default();
    let verdict = conditions::find(&status.conditions, conditions::SUCCEEDED);
    let why = verdict
        .map(|condition| condition.reason.clone())
        .unwrap_or_default();
    let state = match job.state() {
        state::SUCCEEDED => RecordState::Succeeded,
        state::CANCELLED => RecordState::Cancelled,
        state::DEAD_LETTERED if why == reason::REJECTED => RecordState::Rejected,
        state::DEAD_LETTERED => RecordState::Failed,
        _ => return None,
    };
    let namespace = job.namespace().unwrap_or_default();
    let profile = known.active.as_ref().map(|active| active.profile.clone());
    let upload = inherited(known.active, known.stored);
    let declared_size = job
        .spec
        .source
        .size_bytes
        .and_then(|size| u64::try_from(size).ok());
    let tenant = upload.tenant.or_else(|| job.spec.tenant.clone());
    let outputs = status
        .outputs
        .iter()
        .map(|output| recorded(output, &known.bucket));
    let dead_lettered = job.state() == state::DEAD_LETTERED;
    let mut record = Record {
        v: VERSION,
        id: filed.id.clone(),
        owner: upload.owner,
        tenant: tenant.unwrap_or_else(|| namespace.clone()),
        state,
        dead_lettered,
        job: Some(JobRef {
            namespace,
            name: job.name_any(),
            uid: filed.uid.clone(),
        }),
        reason: why,
        message: verdict
            .map(|condition| condition.message.clone())
            .filter(|message| !message.is_empty()),
        key: job.spec.source.key.clone(),
        size: upload.size.or(declared_size),
        checksum: upload.checksum,
        duration: upload.duration,
        attempts: i64::from(status.attempt),
        redrives: i64::from(job.redrives()),
        outputs: outputs.collect(),
        result: known.result,
        index_key: upload.index_key,
        times: times(job, &upload.times),
        extra: upload.extra,
    };
    if dead_lettered {
        revive::keep_for_redrive(&mut record, job, profile.as_deref());
    }
    Some(record)
}

/// What only the uploader knows.
#[derive(Default)]
struct Inherited {
    owner: Option<Owner>,
    tenant: Option<String>,
    size: Option<u64>,
    checksum: Checksums,
    duration: Option<f64>,
    index_key: Option<String>,
    times: Times,
    extra: Map<String, Value>,
}

/// From the decision; where it is gone, from the record of an earlier life. Unknown fields of the record survive.
fn inherited(active: Option<Active>, stored: Option<Record>) -> Inherited {
    let earlier = stored.map(|record| Inherited {
        owner: record.owner,
        tenant: Some(record.tenant),
        size: record.size,
        checksum: record.checksum,
        duration: record.duration,
        index_key: record.index_key,
        times: record.times,
        extra: record.extra,
    });
    let earlier = earlier.unwrap_or_default();
    match active {
        None => earlier,
        Some(active) => Inherited {
            owner: Some(active.owner),
            tenant: Some(active.tenant),
            size: Some(active.size),
            checksum: active.checksum,
            duration: active.duration,
            index_key: Some(active.index_key),
            times: active.times,
            extra: earlier.extra,
        },
    }
}

fn times(job: &VideoJob, earlier: &Times) -> Times {
    let status = job.status.as_ref();
    let created = job.metadata.creation_timestamp.as_ref();
    Times {
        created: earlier.created.or_else(|| created.map(|time| time.0)),
        started: status
            .and_then(|s| s.start_time.as_ref())
            .map(|time| time.0),
        finished: status
            .and_then(|s| s.finish_time.as_ref())
            .map(|time| time.0),
        ..earlier.clone()
    }
}

fn recorded(output: &StatusOutput, bucket: &str) -> Output {
    let key = output.uri.strip_prefix(&format!("s3://{bucket}/"));
    Output {
        name: output.name.clone(),
        uri: key.unwrap_or(&output.uri).to_owned(),
        size_bytes: output.size_bytes.and_then(|size| u64::try_from(size).ok()),
        checksum: output.checksum.clone(),
    }
}

/// What to do about a record that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// It ends this job: leave it.
    Keep,
    /// It ended an earlier life of this job: replace it by compare-and-swap.
    Replace,
}

/// A record of the same or a later redrive ends the job; one of an earlier redrive is replaced.
pub fn precedence(stored: &Record, new: &Record) -> Precedence {
    if stored.ends(new.redrives) || !new.may_follow(stored) {
        Precedence::Keep
    } else {
        Precedence::Replace
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::keys::filed;
    use super::*;

    const ID: &str = "a-01arz3ndektsv4rrffq69g5fav";

    fn job(state: &str, reason: &str) -> VideoJob {
        serde_json::from_value(json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
            "metadata": {
                "name": format!("vj-{ID}"), "namespace": "videos", "uid": "u1",
                "creationTimestamp": "2026-03-04T00:00:00Z", "labels": {"kinora.dev/origin": "upload"},
            },
            "spec": {"source": {"key": "videos/k", "sizeBytes": 9}, "tenant": "t"},
            "status": {
                "state": state, "attempt": 2, "startTime": "2026-03-04T00:00:01Z", "finishTime": "2026-03-04T00:00:02Z",
                "outputs": [
                    {"name": "video", "uri": "s3://kinora/outputs/x/video", "sizeBytes": 7, "checksum": "crc64nvme:AA"},
                    {"name": "labels", "uri": "https://service/labels/1"},
                ],
                "conditions": [{"type": "Succeeded", "status": "False", "reason": reason, "message": "why",
                                "lastTransitionTime": "2026-03-04T00:00:02Z"}],
            },
        }))
        .unwrap()
    }

    fn active() -> Active {
        serde_json::from_value(json!({
            "v": 1, "id": ID, "decision": "accepted", "owner": {"iss": "apikey", "sub": "demo"}, "tenant": "acme",
            "profile": "default", "key": "videos/k", "size": 10, "indexKey": "users/o/1", "job": {},
            "times": {"created": "2026-03-03T00:00:00Z"},
        }))
        .unwrap()
    }

    fn record(job: &VideoJob, active: Option<Active>) -> Option<Record> {
        let known = Known {
            active,
            bucket: "kinora".to_owned(),
            ..Known::default()
        };
        build(job, &filed(job).unwrap(), known)
    }

    #[test]
    fn each_end_state_has_its_record_and_others_have_none() {
        let table = [
            (
                "Succeeded",
                "Completed",
                Some((RecordState::Succeeded, false)),
            ),
            (
                "DeadLettered",
                "FailuresExhausted",
                Some((RecordState::Failed, true)),
            ),
            (
                "DeadLettered",
                "Rejected",
                Some((RecordState::Rejected, true)),
            ),
            (
                "Cancelled",
                "Cancelled",
                Some((RecordState::Cancelled, false)),
            ),
            ("Running", "Processing", None),
            ("Moonstruck", "", None),
        ];
        for (state, reason, want) in table {
            let got = record(&job(state, reason), Some(active()));
            assert_eq!(
                got.map(|r| (r.state, r.dead_lettered)),
                want,
                "{state}/{reason}"
            );
        }
    }

    #[test]
    fn the_decision_completes_the_record_of_an_upload() {
        let record = record(&job("Succeeded", "Completed"), Some(active())).unwrap();
        insta::assert_json_snapshot!(record);
    }

    #[test]
    fn without_the_decision_the_job_says_what_it_knows() {
        let record = record(&job("Succeeded", "Completed"), None).unwrap();
        assert_eq!(
            (record.tenant.as_str(), record.size, record.owner),
            ("t", Some(9), None)
        );
    }

    /// covers: T5, F3
    #[test]
    fn a_record_is_replaced_only_by_a_later_life() {
        let of = |redrives, attempts| {
            let mut record = record(&job("Cancelled", "Cancelled"), None).unwrap();
            (record.redrives, record.attempts) = (redrives, attempts);
            record
        };
        let table = [
            ("the same end again", of(0, 2), of(0, 2), Precedence::Keep),
            (
                "another end of the same life",
                of(0, 2),
                of(0, 3),
                Precedence::Keep,
            ),
            ("a redriven job", of(0, 2), of(1, 3), Precedence::Replace),
            (
                "a late writer of an earlier life",
                of(1, 3),
                of(0, 2),
                Precedence::Keep,
            ),
        ];
        for (name, stored, new, want) in table {
            assert_eq!(precedence(&stored, &new), want, "{name}");
        }
    }
}
