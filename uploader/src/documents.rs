//! What the finish sequence stores, built from the state of an upload: outbox entry, decision,
//! final record, VideoJob. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kinora_crds::names::{
    ANNOTATION_OUTBOX_TIME, ANNOTATION_TRACEPARENT, ANNOTATION_UPLOAD_ID, LABEL_ORIGIN,
    ORIGIN_UPLOAD, job_name,
};
use kinora_crds::{JobSource, PoolRef, VideoJob, VideoJobSpec};
use kinora_storage::documents::{
    Active, Checksums, Decision, Owner, Pending, Record, RecordState, Times, VERSION,
};
use kinora_storage::{UploadId, checksum, keys};
use kinora_upload_engine::State;

use crate::profiles::Profile;

/// What the store said about the finished object.
#[derive(Clone, Debug, Default)]
pub struct ObjectFacts {
    /// Its ETag, without quotes.
    pub etag: Option<String>,
    /// Whether only its parts were verified, as the running checksum was lost.
    pub parts_only: bool,
}

fn stamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// An engine's owner as documents have it.
#[must_use]
pub fn owner(owner: &kinora_upload_engine::Owner) -> Owner {
    Owner {
        iss: owner.iss.clone(),
        sub: owner.sub.clone(),
    }
}

/// Field of an outbox entry whose upload never had a state object: one request carried it whole,
/// and without an object under its key nobody was told of it.
pub const DIRECT: &str = "direct";

/// The outbox entry of an upload whose bytes are all there. A state of epoch 0 was never stored.
#[must_use]
pub fn pending(
    id: &UploadId,
    state: &State,
    profile: &Profile,
    namespace: &str,
    now: Timestamp,
) -> Pending {
    let owner = owner(&state.owner);
    let crc = state.crc.map(checksum::to_base64);
    let length = state.length.unwrap_or(state.offset);
    let job = job(id, state, profile, namespace, length, crc.as_deref());
    Pending {
        v: VERSION,
        id: id.clone(),
        index_key: keys::user_index(&owner.hash(), id),
        owner,
        tenant: state.tenant.clone(),
        profile: state.profile.clone(),
        length,
        part_size: state.part_size,
        key: state.key.clone(),
        multipart: state.multipart.clone(),
        crc,
        content_type: state.metadata.get("filetype").cloned(),
        // A VideoJob of plain types always has a JSON form.
        job: serde_json::to_value(job).unwrap_or_default(),
        times: Times {
            created: stamp(state.created_ms),
            uploaded: Some(now),
            ..Times::default()
        },
        extra: (state.epoch == 0)
            .then(|| (DIRECT.to_owned(), true.into()))
            .into_iter()
            .collect(),
    }
}

/// Whether the entry's upload never had a state object.
#[must_use]
pub fn is_direct(pending: &Pending) -> bool {
    pending
        .extra
        .get(DIRECT)
        .and_then(serde_json::Value::as_bool)
        == Some(true)
}

fn job(
    id: &UploadId,
    state: &State,
    profile: &Profile,
    namespace: &str,
    length: u64,
    crc: Option<&str>,
) -> VideoJob {
    let spec = VideoJobSpec {
        source: JobSource {
            key: state.key.clone(),
            etag: None,
            size_bytes: i64::try_from(length).ok(),
            checksum: crc.map(|crc| format!("crc64nvme:{crc}")),
        },
        profile: Some(state.profile.clone()),
        tenant: Some(state.tenant.clone()),
        pool_ref: profile.pool.clone().map(|name| PoolRef { name }),
        ttl_seconds_after_finished: Some(profile.ttl_seconds_after_finished),
        ..VideoJobSpec::default()
    };
    let mut job = VideoJob::new(&job_name(id.as_str()), spec);
    job.metadata.namespace = Some(namespace.to_owned());
    job.metadata.labels = Some(BTreeMap::from([(
        LABEL_ORIGIN.to_owned(),
        ORIGIN_UPLOAD.to_owned(),
    )]));
    let mut annotations = BTreeMap::from([(ANNOTATION_UPLOAD_ID.to_owned(), id.to_string())]);
    if let Some(trace) = crate::trace::of_state(state) {
        annotations.insert(ANNOTATION_TRACEPARENT.to_owned(), trace.as_str().to_owned());
    }
    job.metadata.annotations = Some(annotations);
    job
}

/// The decision on an upload, with the job as it is to be created.
#[must_use]
pub fn active(
    pending: &Pending,
    rejected: Option<&str>,
    object: &ObjectFacts,
    outbox_time: Timestamp,
    now: Timestamp,
) -> Active {
    let mut job = pending.job.clone();
    if let Some(etag) = &object.etag {
        job["spec"]["source"]["etag"] = etag.trim_matches('"').into();
    }
    job["metadata"]["annotations"][ANNOTATION_OUTBOX_TIME] = outbox_time.to_string().into();
    Active {
        v: VERSION,
        id: pending.id.clone(),
        decision: if rejected.is_some() {
            Decision::Rejected
        } else {
            Decision::Accepted
        },
        reason: rejected.map(str::to_owned),
        redrives: 0,
        owner: pending.owner.clone(),
        tenant: pending.tenant.clone(),
        profile: pending.profile.clone(),
        key: pending.key.clone(),
        size: pending.length,
        checksum: checksums(pending, object),
        duration: None,
        index_key: pending.index_key.clone(),
        job,
        times: Times {
            decided: Some(now),
            ..pending.times.clone()
        },
        extra: serde_json::Map::new(),
    }
}

fn checksums(pending: &Pending, object: &ObjectFacts) -> Checksums {
    Checksums {
        crc64nvme: pending.crc.clone(),
        sha256: None,
        crc: object.parts_only.then(|| "parts-only".to_owned()),
    }
}

/// The final record of an upload that never becomes a job.
#[must_use]
pub fn record(pending: &Pending, rejected: bool, reason: &str, now: Timestamp) -> Record {
    Record {
        v: VERSION,
        id: pending.id.to_string(),
        owner: Some(pending.owner.clone()),
        tenant: pending.tenant.clone(),
        state: if rejected {
            RecordState::Rejected
        } else {
            RecordState::Failed
        },
        dead_lettered: false,
        job: None,
        reason: reason.to_owned(),
        message: None,
        key: pending.key.clone(),
        size: Some(pending.length),
        checksum: Checksums {
            crc64nvme: pending.crc.clone(),
            ..Checksums::default()
        },
        duration: None,
        attempts: 0,
        redrives: 0,
        outputs: Vec::new(),
        result: None,
        index_key: Some(pending.index_key.clone()),
        times: Times {
            decided: Some(now),
            finished: Some(now),
            ..pending.times.clone()
        },
        extra: serde_json::Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_and_the_records_say_the_same_of_a_lost_video() {
        let of_engine = kinora_upload_engine::document::STORE_LOST;
        assert_eq!(of_engine, kinora_storage::documents::STORE_LOST);
    }

    /// covers: S14
    #[test]
    fn the_job_of_an_upload_names_its_source_and_nothing_of_the_client() {
        let id: UploadId = "a-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        let mut state = crate::drive::blank_state(&id, "acme", "default", Some(10), 8 << 20);
        state.offset = 10;
        state.crc = Some(7);
        state
            .metadata
            .insert("filename".into(), "../../etc/passwd".into());
        let profile = Profile {
            pool: Some("fast".into()),
            ..Profile::default()
        };
        let now = Timestamp::UNIX_EPOCH;
        let pending = pending(&id, &state, &profile, "videos", now);
        let object = ObjectFacts {
            etag: Some("\"abc\"".into()),
            parts_only: false,
        };
        let active = active(&pending, None, &object, now, now);
        let job: VideoJob = serde_json::from_value(active.job.clone()).unwrap();
        assert_eq!(
            job.metadata.name.as_deref(),
            Some("vj-a-01arz3ndektsv4rrffq69g5fav")
        );
        assert_eq!(job.metadata.namespace.as_deref(), Some("videos"));
        assert!(job.is_upload());
        assert_eq!(job.spec.source.etag.as_deref(), Some("abc"));
        assert_eq!(
            job.spec.pool_ref.map(|pool| pool.name).as_deref(),
            Some("fast")
        );
        let outbox = &job.metadata.annotations.unwrap()[ANNOTATION_OUTBOX_TIME];
        assert_eq!(outbox, "1970-01-01T00:00:00Z");
        assert!(!active.job.to_string().contains("passwd"));
    }
}
