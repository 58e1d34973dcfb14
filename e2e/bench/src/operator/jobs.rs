//! VideoJobs as the uploader creates them, the decisions that it stores beside them, and what the operator writes into
//! their status, so that the bare loop writes the same.

use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::Timestamp;
use kinora_crds::VideoJob;
use kinora_crds::names::{
    ANNOTATION_OUTBOX_TIME, ANNOTATION_TRACEPARENT, ANNOTATION_UPLOAD_ID, LABEL_ORIGIN,
    MANAGER_OPERATOR, MANAGER_UPLOADER, ORIGIN_UPLOAD, job_name,
};
use kinora_storage::documents::{Active, Checksums, Decision, Owner, Times, VERSION, encode};
use kinora_storage::{Cell, PutOptions, Store, UploadId, keys};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};

use super::access::JOBS_NAMESPACE;
use crate::null::NullStore;

/// Its call goes on until the benchmark lets it end.
pub(crate) const HELD: &str = "held";
/// Its call succeeds at once.
pub(crate) const PLAIN: &str = "default";
const SIZE: u64 = 21 << 20;
const CRC: &str = "b3l1S0pOWnM=";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OWNER: &str = "bench";

/// One to be created.
pub(crate) struct NewJob {
    pub(crate) name: String,
    pub(crate) job: VideoJob,
    /// Key and content of the decision.
    pub(crate) active: (String, Vec<u8>),
}

impl NewJob {
    /// Brings it to be as the uploader does: its decision first.
    pub(crate) async fn submit(&self, api: &Api<VideoJob>, store: &Decisions) -> Result<VideoJob> {
        let (key, decision) = (&self.active.0, self.active.1.clone());
        match store {
            Decisions::Null(store) => store.insert(key, decision),
            Decisions::Real(store) => {
                let put = store.put(key, decision.into(), PutOptions::default());
                put.await.context("store a decision")?;
            }
        }
        create(api, &self.job).await
    }
}

/// Where the decisions of uploads are stored.
#[derive(Clone)]
pub(crate) enum Decisions {
    Null(Arc<NullStore>),
    Real(Store),
}

/// The job of an upload that was made a moment ago.
pub(crate) fn new(pool: &str, profile: &str, ttl_seconds: u32) -> Result<NewJob> {
    let id = UploadId::mint(&Cell::default());
    let name = job_name(id.as_str());
    let key = keys::video(&id);
    let now = Timestamp::now();
    let job = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
        "metadata": {
            "name": name, "namespace": JOBS_NAMESPACE,
            "labels": {LABEL_ORIGIN: ORIGIN_UPLOAD},
            "annotations": {
                ANNOTATION_OUTBOX_TIME: now.to_string(), ANNOTATION_TRACEPARENT: TRACE,
                ANNOTATION_UPLOAD_ID: id.as_str(),
            },
        },
        "spec": {
            "source": {"key": key, "etag": "9bb58f26192e4ba00f01e2e7b136bbd8-3", "sizeBytes": SIZE,
                "checksum": format!("crc64nvme:{CRC}")},
            "profile": profile, "tenant": OWNER, "poolRef": {"name": pool},
            "ttlSecondsAfterFinished": ttl_seconds,
        },
    });
    let active = encode(&decision(&id, profile, job.clone(), now)).context("encode a decision")?;
    Ok(NewJob {
        name,
        job: serde_json::from_value(job).context("a VideoJob")?,
        active: (keys::active(&id), active),
    })
}

fn decision(id: &UploadId, profile: &str, job: Value, now: Timestamp) -> Active {
    let owner = Owner {
        iss: "apikey".to_owned(),
        sub: OWNER.to_owned(),
    };
    Active {
        v: VERSION,
        id: id.clone(),
        decision: Decision::Accepted,
        reason: None,
        redrives: 0,
        index_key: keys::user_index(&owner.hash(), id),
        owner,
        tenant: OWNER.to_owned(),
        profile: profile.to_owned(),
        key: keys::video(id),
        size: SIZE,
        checksum: Checksums {
            crc64nvme: Some(CRC.to_owned()),
            ..Checksums::default()
        },
        duration: Some(10.0),
        job,
        times: Times {
            created: Some(now),
            uploaded: Some(now),
            decided: Some(now),
            ..Times::default()
        },
        extra: Map::new(),
    }
}

/// All jobs, through one client.
pub(crate) fn api(client: &Client) -> Api<VideoJob> {
    Api::namespaced(client.clone(), JOBS_NAMESPACE)
}

/// As the uploader creates it.
pub(crate) async fn create(api: &Api<VideoJob>, job: &VideoJob) -> Result<VideoJob> {
    let params = PostParams {
        field_manager: Some(MANAGER_UPLOADER.to_owned()),
        ..PostParams::default()
    };
    let made = api.create(&params, job).await;
    made.with_context(|| format!("create {}", job.name_any()))
}

/// The two statuses that the operator writes in a job's life.
#[derive(Clone, Debug)]
pub(crate) struct Statuses {
    pub(crate) claim: Value,
    pub(crate) finish: Value,
}

impl Statuses {
    /// What was written, from the job as it was before, between and after: the fields that changed, and the two that are
    /// always sent.
    pub(crate) fn of(states: [&Value; 3]) -> Self {
        let [new, running, finished] = states.map(|job| &job["status"]);
        Self {
            claim: changed(new, running),
            finish: changed(running, finished),
        }
    }
}

fn changed(before: &Value, after: &Value) -> Value {
    let fields = after.as_object().cloned().unwrap_or_default();
    let sent = |name: &str, value: &Value| {
        matches!(name, "state" | "observedGeneration") || before.get(name) != Some(value)
    };
    Value::Object(
        fields
            .into_iter()
            .filter(|(name, value)| sent(name, value))
            .collect(),
    )
}

/// A status write as the operator makes it.
pub(crate) async fn patch(api: &Api<VideoJob>, job: &VideoJob, status: &Value) -> Result<VideoJob> {
    let params = PatchParams {
        field_manager: Some(MANAGER_OPERATOR.to_owned()),
        ..PatchParams::default()
    };
    let body = json!({"metadata": {"resourceVersion": job.resource_version()}, "status": status});
    let name = job.name_any();
    let written = api.patch_status(&name, &params, &Patch::Merge(&body)).await;
    written.with_context(|| format!("write the status of {name}"))
}

/// A delete as the operator makes it.
pub(crate) async fn delete(api: &Api<VideoJob>, job: &VideoJob) -> Result<()> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: job.uid(),
            resource_version: job.resource_version(),
        }),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let name = job.name_any();
    let deleted = api.delete(&name, &params).await;
    deleted.with_context(|| format!("delete {name}"))?;
    Ok(())
}

/// The job as the API server has it, in the bytes that etcd keeps.
pub(crate) async fn stored(admin: &Client, name: &str) -> Result<(Value, usize)> {
    let path = format!("/apis/kinora.dev/v1alpha1/namespaces/{JOBS_NAMESPACE}/videojobs/{name}");
    let request = http::Request::get(path).body(Vec::new())?;
    let text = admin.request_text(request).await;
    let text = text.with_context(|| format!("read {name}"))?;
    let bytes = text.trim_end().len();
    Ok((serde_json::from_str(&text)?, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_write_is_what_changed_and_the_two_fields_that_are_always_sent() {
        let job = |status: Value| json!({"status": status});
        let states = [
            job(json!({"state": "Queued", "observedGeneration": -1})),
            job(
                json!({"state": "Running", "observedGeneration": 1, "attempt": 1, "conditions": [1]}),
            ),
            job(
                json!({"state": "Succeeded", "observedGeneration": 1, "attempt": 1, "conditions": [2]}),
            ),
        ];
        let written = Statuses::of(states.each_ref());
        assert_eq!(
            written.claim,
            json!({"state": "Running", "observedGeneration": 1, "attempt": 1, "conditions": [1]})
        );
        assert_eq!(
            written.finish,
            json!({"state": "Succeeded", "observedGeneration": 1, "conditions": [2]})
        );
    }

    #[test]
    fn the_job_is_an_upload_s_and_its_decision_holds_it() {
        let new = new("bench", PLAIN, 0).unwrap();
        assert!(new.job.is_upload());
        let active: Active = kinora_storage::documents::decode(&new.active.1).unwrap();
        assert_eq!(active.job["metadata"]["name"], new.name.as_str());
        assert!(new.active.0.ends_with(active.id.as_str()));
    }
}
