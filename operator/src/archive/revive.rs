//! From a final record back to a job: what a dead letter's record keeps for that, and the decision of its next life. Pure.

use kinora_crds::{VideoJob, names};
use kinora_storage::UploadId;
use kinora_storage::documents::{Active, Decision, Record, VERSION};
use serde_json::{Map, Value, json};

/// Field of a dead letter's record: the whole VideoJob to POST.
const JOB: &str = "videoJob";
/// Field of a dead letter's record: the pool that took it.
const POOL: &str = "poolName";
/// Field of a dead letter's record: profile of the upload.
const PROFILE: &str = "profile";

/// The VideoJob as it would be made again: names, labels, our own annotations, spec; nothing of its life.
pub fn manifest(job: &VideoJob) -> Value {
    let own = |(name, _): &(&String, &String)| name.starts_with(names::GROUP);
    let annotations: Map<String, Value> = job
        .metadata
        .annotations
        .iter()
        .flatten()
        .filter(own)
        .filter(|(name, _)| *name != names::ANNOTATION_REDRIVES)
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let mut spec = json!(job.spec);
    if let Some(spec) = spec.as_object_mut() {
        // Wishes about the old life.
        spec.remove("cancelRequested");
        spec.remove("suspend");
    }
    json!({
        "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
        "kind": "VideoJob",
        "metadata": {
            "name": job.metadata.name,
            "namespace": job.metadata.namespace,
            "labels": job.metadata.labels.clone().unwrap_or_default(),
            "annotations": annotations,
        },
        "spec": spec,
    })
}

/// Puts into a dead letter's record what bringing it back takes once its VideoJob is gone.
pub fn keep_for_redrive(record: &mut Record, job: &VideoJob, profile: Option<&str>) {
    record.extra.insert(JOB.to_owned(), manifest(job));
    let status = job.status.as_ref();
    if let Some(pool) = status.and_then(|status| status.pool_name.as_deref()) {
        record.extra.insert(POOL.to_owned(), json!(pool));
    }
    let profile = profile.or(job.spec.profile.as_deref());
    if let Some(profile) = profile {
        record
            .extra
            .entry(PROFILE)
            .or_insert_with(|| json!(profile));
    }
}

/// The pool that took a dead letter, as its record says.
pub fn pool_of(record: &Record) -> Option<&str> {
    record.extra.get(POOL)?.as_str()
}

/// The VideoJob to POST for the next life of a dead letter; `None`: its record was written without one.
pub fn job_of(record: &Record, redrives: u32, by: &str) -> Option<VideoJob> {
    let manifest = record.extra.get(JOB)?.clone();
    with_redrives(manifest, redrives, by)
}

/// A VideoJob to POST that starts with so many redrives.
pub fn with_redrives(mut manifest: Value, redrives: u32, by: &str) -> Option<VideoJob> {
    if redrives > 0 {
        let metadata = manifest.get_mut("metadata")?.as_object_mut()?;
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        let annotations = annotations.as_object_mut()?;
        annotations.insert(
            names::ANNOTATION_REDRIVES.to_owned(),
            json!(redrives.to_string()),
        );
        if !by.is_empty() {
            annotations.insert(names::ANNOTATION_REDRIVEN_BY.to_owned(), json!(by));
        }
    }
    serde_json::from_value(manifest).ok()
}

/// The decision of the next life of an upload, from its record.
pub fn decision(id: UploadId, record: &Record, job: Value, redrives: u32) -> Active {
    let profile = record.extra.get(PROFILE).and_then(Value::as_str);
    Active {
        v: VERSION,
        id,
        decision: Decision::Accepted,
        reason: None,
        redrives: redrives.into(),
        owner: record.owner.clone().unwrap_or_default(),
        tenant: record.tenant.clone(),
        profile: profile.unwrap_or("default").to_owned(),
        key: record.key.clone(),
        size: record.size.unwrap_or(0),
        checksum: record.checksum.clone(),
        duration: record.duration,
        index_key: record.index_key.clone().unwrap_or_default(),
        job,
        times: record.times.clone(),
        extra: Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a-01arz3ndektsv4rrffq69g5fav";

    fn job() -> VideoJob {
        serde_json::from_value(json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
            "metadata": {
                "name": format!("vj-{ID}"), "namespace": "videos", "uid": "u1", "resourceVersion": "7",
                "labels": {"kinora.dev/origin": "upload"},
                "annotations": {"kinora.dev/upload-id": ID, "kinora.dev/redrives": "1", "argocd.argoproj.io/x": "y"},
            },
            "spec": {"source": {"key": "videos/k"}, "tenant": "acme", "suspend": true, "cancelRequested": true},
            "status": {"state": "DeadLettered", "attempt": 4},
        }))
        .unwrap()
    }

    fn record() -> Record {
        let mut record: Record = serde_json::from_value(json!({
            "v": 1, "id": ID, "tenant": "acme", "state": "failed", "deadLettered": true, "reason": "Poison",
            "key": "videos/k", "size": 9, "owner": {"iss": "apikey", "sub": "demo"}, "indexKey": "users/o/1",
        }))
        .unwrap();
        keep_for_redrive(&mut record, &job(), Some("clips"));
        record
    }

    #[test]
    fn a_dead_letter_is_made_again_from_its_record_without_its_old_life() {
        let again = job_of(&record(), 2, "r-1").unwrap();
        assert_eq!(again.metadata.uid, None);
        assert_eq!(again.metadata.resource_version, None);
        assert_eq!(again.spec.tenant.as_deref(), Some("acme"));
        assert_eq!(again.spec.suspend, None);
        assert_eq!(again.spec.cancel_requested, None);
        let annotations = again.metadata.annotations.unwrap();
        let want = [
            ("kinora.dev/redrives", "2"),
            ("kinora.dev/redriven-by", "r-1"),
            ("kinora.dev/upload-id", ID),
        ];
        let want = want.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(annotations, want.into(), "nobody else's annotations");
        assert!(again.status.is_none_or(|s| s.attempt == 0));
    }

    #[test]
    fn its_decision_carries_owner_profile_and_the_number_of_its_life() {
        let active = decision(ID.parse().unwrap(), &record(), manifest(&job()), 2);
        assert_eq!((active.redrives, active.size), (2, 9));
        assert_eq!(active.profile, "clips");
        assert_eq!(active.owner.sub, "demo");
        assert_eq!(active.index_key, "users/o/1");
        assert_eq!(active.job["spec"]["source"]["key"], "videos/k");
    }

    #[test]
    fn a_record_of_an_older_version_cannot_be_made_a_job_again() {
        let mut old = record();
        old.extra.clear();
        assert!(job_of(&old, 1, "r-1").is_none());
    }
}
