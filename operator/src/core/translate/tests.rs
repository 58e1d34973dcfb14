use std::time::Duration;

use kinora_crds::{Output, VideoJob, WorkerRef};
use kinora_engine::action::Cause;
use kinora_engine::outcome::Class;
use kinora_engine::{Job, Phase, PoolPolicy, Rv, Status, Wall};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

mod golden;
mod newer;
mod poison;

const NOW: Wall = Wall(1_700_000_100_000);
const POD: &str = "8f1c2d3e-0000-4000-8000-000000000001";

fn terms() -> Terms {
    Terms {
        upload_ttl_floor: Duration::from_secs(900),
    }
}

/// A VideoJob as the API server returns it after create.
fn created() -> Value {
    json!({
        "apiVersion": "kinora.dev/v1alpha1",
        "kind": "VideoJob",
        "metadata": {
            "name": "vj-a-01", "namespace": "videos", "generation": 1, "resourceVersion": "41",
            "uid": "3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a11",
            "creationTimestamp": "2023-11-14T22:13:20Z",
            "labels": {"kinora.dev/origin": "upload"},
        },
        "spec": {
            "source": {"key": "videos/2023-11-14/0a/a-01"}, "tenant": "acme",
            "ttlSecondsAfterFinished": 60,
        },
        "status": {"observedGeneration": -1, "state": "Queued"},
    })
}

fn parse(value: &Value) -> VideoJob {
    serde_json::from_value(value.clone()).unwrap()
}

/// RFC 7386, as the API server applies it.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}

struct Stored {
    object: Value,
    names: Names,
}

impl Stored {
    fn new(object: Value) -> Stored {
        Stored {
            object,
            names: Names::default(),
        }
    }

    fn facts(&mut self) -> Job {
        facts(&parse(&self.object), &mut self.names, terms()).unwrap()
    }

    /// Writes a status as the core does; gives the patch.
    fn write(&mut self, after: &Status, cause: Cause, extras: &Extras) -> Value {
        let before = self.facts();
        let patch = status_patch(
            before.rv,
            &before.status,
            after,
            cause,
            extras,
            NOW,
            &self.names,
        );
        merge(&mut self.object, &patch);
        self.object["metadata"]["resourceVersion"] = json!((before.rv.0 + 1).to_string());
        patch
    }
}

fn worker_extras() -> Extras {
    Extras {
        worker: Some(WorkerRef {
            pod_name: "default-workers-x".into(),
            pod_uid: POD.into(),
            node_name: "n1".into(),
        }),
        ..Extras::default()
    }
}

fn claimed() -> Stored {
    let mut stored = Stored::new(created());
    let job = stored.facts();
    let pool = stored.names.intern("default");
    let after = job.claimed(uid_of(POD), pool, NOW);
    stored.write(&after, Cause::Claimed, &worker_extras());
    assert_eq!(stored.facts().status, after);
    stored
}

fn ended(class: Class) -> (Stored, Value, Status) {
    let mut stored = claimed();
    let job = stored.facts();
    let verdict = kinora_engine::job::machine::Verdict::of(class);
    let after = job.ended(verdict, &PoolPolicy::default(), NOW, &mut rand::rng());
    let mut extras = worker_extras();
    if class == Class::Succeeded {
        extras.outputs = vec![Output {
            name: "video".into(),
            uri: "s3://kinora/outputs/x".into(),
            size_bytes: Some(7),
            checksum: None,
        }];
    } else {
        extras.failure = Some(FailureText {
            reason: "INTERNAL".into(),
            message: "ffmpeg fell over".into(),
        });
    }
    let patch = stored.write(&after, Cause::Ended(class), &extras);
    (stored, patch, after)
}

fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == type_)
}

#[test]
fn a_new_upload_is_queued_and_its_ttl_is_never_below_the_floor() {
    let job = Stored::new(created()).facts();
    assert_eq!(job.status, Status::default());
    assert_eq!(job.rv, Rv(41));
    assert_eq!(job.spec.ttl, Some(Duration::from_secs(900)));
    assert!(job.spec.own_source && !job.spec.declared && !job.spec.late);
}

#[test]
fn a_job_made_long_after_its_outbox_entry_is_late() {
    let mut object = created();
    object["metadata"]["annotations"] = json!({"kinora.dev/outbox-time": "2023-11-14T22:12:19Z"});
    assert!(Stored::new(object.clone()).facts().spec.late);
    object["metadata"]["annotations"] = json!({"kinora.dev/outbox-time": "2023-11-14T22:12:20Z"});
    assert!(!Stored::new(object).facts().spec.late);
}

#[test]
fn a_state_of_a_newer_operator_is_left_alone() {
    let mut object = created();
    object["status"]["state"] = json!("Pondering");
    let mut names = Names::default();
    assert!(facts(&parse(&object), &mut names, terms()).is_none());
}

#[test]
fn the_claim_is_just_this_patch() {
    let mut stored = Stored::new(created());
    let job = stored.facts();
    let pool = stored.names.intern("default");
    let after = job.claimed(uid_of(POD), pool, NOW);
    let patch = stored.write(&after, Cause::Claimed, &worker_extras());
    let at = "2023-11-14T22:15:00Z";
    let condition = |type_: &str, status: &str| {
        json!({
            "type": type_, "status": status, "reason": "Processing", "message": "",
            "observedGeneration": 1, "lastTransitionTime": at,
        })
    };
    assert_eq!(
        patch,
        json!({
            "metadata": {"resourceVersion": "41"},
            "status": {
                "observedGeneration": 1, "state": "Running", "attempt": 1, "startTime": at, "poolName": "default",
                "worker": {"podName": "default-workers-x", "podUID": POD, "nodeName": "n1"},
                "conditions": [
                    condition("Succeeded", "Unknown"),
                    condition("Finished", "False"),
                    condition("Reconciling", "True"),
                ],
            },
        })
    );
}

#[rstest]
#[case::succeeded(Class::Succeeded)]
#[case::failed(Class::Failed)]
#[case::rejected(Class::Rejected)]
#[case::throttled(Class::Throttled)]
#[case::lost(Class::Lost)]
#[case::interrupted(Class::Interrupted)]
fn what_was_written_is_read_back_as_the_same_status(#[case] class: Class) {
    let (mut stored, _, after) = ended(class);
    assert_eq!(stored.facts().status, after);
}

#[test]
fn a_finished_job_has_the_conditions_of_the_table() {
    let (stored, patch, after) = ended(Class::Succeeded);
    assert_eq!(after.phase, Phase::Succeeded);
    let object = &stored.object;
    assert_eq!(condition(object, "Succeeded").unwrap()["status"], "True");
    assert_eq!(
        condition(object, "Succeeded").unwrap()["reason"],
        "Completed"
    );
    assert_eq!(condition(object, "Finished").unwrap()["status"], "True");
    for absent in ["Reconciling", "Stalled", "Suspended"] {
        assert!(condition(object, absent).is_none(), "{absent}");
    }
    assert_eq!(patch["status"]["durationSeconds"], 0);
    assert_eq!(object["status"]["outputs"][0]["name"], "video");
    assert!(object["status"].get("lastFailure").is_none());
}

#[test]
fn a_failure_says_why_and_the_next_one_leaves_no_old_words() {
    let (mut stored, _, _) = ended(Class::Failed);
    let failure = &stored.object["status"]["lastFailure"];
    assert_eq!(failure["class"], "Failed");
    assert_eq!(failure["message"], "ffmpeg fell over");
    let message = &condition(&stored.object, "Succeeded").unwrap()["message"];
    assert_eq!(message, "Failed: ffmpeg fell over");
    let job = stored.facts();
    let pool = stored.names.intern("default");
    let after = job.claimed(uid_of(POD), pool, NOW);
    stored.write(&after, Cause::Claimed, &worker_extras());
    let job = stored.facts();
    let verdict = kinora_engine::job::machine::Verdict::of(Class::Lost);
    let after = job.ended(verdict, &PoolPolicy::default(), NOW, &mut rand::rng());
    stored.write(&after, Cause::Ended(Class::Lost), &Extras::default());
    let failure = &stored.object["status"]["lastFailure"];
    assert_eq!(failure["class"], "Lost");
    assert!(failure.get("message").is_none());
    assert!(stored.object["status"].get("worker").is_none());
}

#[test]
fn transition_times_move_only_when_a_status_flips() {
    let mut stored = claimed();
    let job = stored.facts();
    let later = Wall(NOW.0 + 60_000);
    let verdict = kinora_engine::job::machine::Verdict::of(Class::Throttled);
    let after = job.ended(verdict, &PoolPolicy::default(), later, &mut rand::rng());
    stored.write(&after, Cause::Ended(Class::Throttled), &worker_extras());
    let at = &condition(&stored.object, "Succeeded").unwrap()["lastTransitionTime"];
    assert_eq!(at, "2023-11-14T22:15:00Z");
    let job = stored.facts();
    let end = job.cancelled(Duration::ZERO, false, later);
    stored.write(&end, Cause::Cancelled, &Extras::default());
    let at = &condition(&stored.object, "Succeeded").unwrap()["lastTransitionTime"];
    assert_eq!(at, "2023-11-14T22:16:00Z");
    assert_eq!(
        condition(&stored.object, "Succeeded").unwrap()["status"],
        "False"
    );
    assert!(condition(&stored.object, "Stalled").is_none());
}

#[test]
fn a_suspended_job_is_suspended_and_not_reconciling() {
    let mut stored = Stored::new(created());
    let after = stored.facts().suspended(NOW);
    stored.write(&after, Cause::Suspension, &Extras::default());
    assert_eq!(
        condition(&stored.object, "Suspended").unwrap()["status"],
        "True"
    );
    assert!(condition(&stored.object, "Reconciling").is_none());
    assert_eq!(stored.facts().status, after);
}

#[test]
fn redrives_of_a_recreated_job_come_from_its_annotation_into_the_first_claim() {
    let mut object = created();
    object["metadata"]["annotations"] = json!({"kinora.dev/redrives": "2"});
    let mut stored = Stored::new(object);
    let job = stored.facts();
    assert_eq!(job.status.redrives, 2);
    let pool = stored.names.intern("default");
    let after = job.claimed(uid_of(POD), pool, NOW);
    let patch = stored.write(&after, Cause::Claimed, &worker_extras());
    assert_eq!(patch["status"]["redrives"], 2);
    assert_eq!(stored.facts().status, after);
}

#[test]
fn a_uid_is_the_number_it_spells_and_anything_else_a_stable_one() {
    assert_eq!(uid_text(uid_of(POD)), POD);
    assert_eq!(uid_of("node/static-pod"), uid_of("node/static-pod"));
    assert_ne!(uid_of("a"), uid_of("b"));
    let odd = uid_of("not-a-uuid");
    assert_eq!(uid_of(&uid_text(odd)), odd);
}
