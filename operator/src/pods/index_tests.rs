//! What each kind of change of a pod tells the core, and what it must not.

use serde_json::{Value, json};

use super::*;

const T1: &str = "2026-01-01T00:00:01Z";
const T1_MS: i64 = 1_767_225_601_000;

fn pod(change: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "w-1", "namespace": "videos", "uid": "u1", "labels": {"kinora.dev/pool": "default"}},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    merge(&mut pod, change);
    serde_json::from_value(pod).unwrap()
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn ended(field: &str, code: i32) -> Value {
    let state = json!({"terminated": {"exitCode": code, "finishedAt": T1}});
    json!({"status": {"containerStatuses": [{"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 1, field: state}]}})
}

fn with(mut a: Value, b: &Value) -> Value {
    merge(&mut a, b);
    a
}

fn gone(by_itself: bool) -> PodEvent {
    PodEvent::Gone {
        pod_uid: "u1".to_owned(),
        by_itself,
    }
}

fn container_ended(by_itself: bool) -> PodEvent {
    PodEvent::ContainerEnded {
        pod_uid: "u1".to_owned(),
        finished_at_ms: T1_MS,
        by_itself,
    }
}

fn draining() -> PodEvent {
    PodEvent::Draining {
        pod_uid: "u1".to_owned(),
    }
}

#[test]
fn a_change_of_a_running_pod_means_what_it_proves() {
    let deleting = json!({"metadata": {"deletionTimestamp": T1}});
    let disrupted =
        json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}});
    let failed = json!({"status": {"phase": "Failed"}});
    let table: Vec<(&str, Value, Vec<PodEvent>)> = vec![
        ("nothing changed", json!({}), vec![]),
        (
            "deletionTimestamp means draining, nothing lost",
            deleting.clone(),
            vec![draining()],
        ),
        ("so does an eviction", disrupted.clone(), vec![draining()]),
        (
            "a container killed by OOM and waiting for its restart",
            ended("state", 137),
            vec![container_ended(true)],
        ),
        (
            "one that was restarted already",
            ended("lastState", 1),
            vec![container_ended(true)],
        ),
        (
            "a clean exit interrupts nothing",
            ended("lastState", 0),
            vec![container_ended(false)],
        ),
        (
            "an end under deletion is no interruption",
            with(ended("state", 137), &deleting),
            vec![draining(), container_ended(false)],
        ),
        (
            "an end under eviction is no interruption",
            with(ended("state", 137), &disrupted),
            vec![draining(), container_ended(false)],
        ),
        (
            "phase Failed by itself",
            with(ended("state", 1), &failed),
            vec![gone(true)],
        ),
        (
            "phase Failed with no word of the container proves nothing",
            failed.clone(),
            vec![gone(false)],
        ),
        (
            "phase Failed by eviction",
            with(with(ended("state", 1), &failed), &disrupted),
            vec![gone(false), draining()],
        ),
    ];
    for (name, change, want) in table {
        let mut index = PodIndex::default();
        assert_eq!(index.apply(&pod(&json!({}))), vec![], "{name}: first sight");
        let seen = pod(&change);
        assert_eq!(index.apply(&seen), want, "{name}");
        assert_eq!(index.apply(&seen), vec![], "{name}: a repeat says nothing");
    }
}

#[test]
fn a_vanished_pod_is_gone_and_never_by_itself() {
    let mut index = PodIndex::default();
    index.apply(&pod(&json!({})));
    assert_eq!(index.remove("u1"), vec![gone(false)]);
    assert_eq!(index.remove("u1"), vec![], "once");
    index.apply(&pod(&json!({"status": {"phase": "Succeeded"}})));
    assert_eq!(
        index.remove("u1"),
        vec![],
        "it was gone when its phase ended"
    );
}

#[test]
fn a_listing_removes_what_it_does_not_name() {
    let mut index = PodIndex::default();
    index.apply(&pod(&json!({})));
    index.begin();
    index.apply(&pod(&json!({"metadata": {"uid": "u2", "name": "w-2"}})));
    assert_eq!(index.finish(), vec![gone(false)]);
    assert!(index.get("u1").is_none() && index.get("u2").is_some());
    assert_eq!(
        index.finish(),
        vec![],
        "outside a listing nothing is missing"
    );
}

#[test]
fn a_pool_sees_only_its_own_pods() {
    let mut index = PodIndex::default();
    index.apply(&pod(&json!({})));
    index.apply(&pod(
        &json!({"metadata": {"uid": "u2", "namespace": "elsewhere"}}),
    ));
    index.apply(&pod(
        &json!({"metadata": {"uid": "u3", "labels": {"kinora.dev/pool": "other"}}}),
    ));
    let own: Vec<_> = index
        .of_pool("videos", "default")
        .into_iter()
        .map(|pod| pod.uid)
        .collect();
    assert_eq!(own, ["u1"]);
}

fn of_attempt() -> Value {
    json!({
        "metadata": {
            "name": "clip-a2",
            "labels": {"kinora.dev/job-uid": "j", "kinora.dev/attempt": "2"},
            "annotations": {"kinora.dev/attempt-proof": "00"},
            "ownerReferences": [{
                "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "name": "clip", "uid": "j", "controller": true,
            }],
        },
    })
}

#[test]
fn the_pod_of_an_attempt_is_told_once_and_both_its_end_and_its_deletion() {
    let mut index = PodIndex::default();
    let deleted = || PodEvent::AttemptDeleted {
        pod_uid: "u1".to_owned(),
    };
    let told = PodEvent::Attempt {
        pod: PodAddress {
            namespace: "videos".to_owned(),
            name: "clip-a2".to_owned(),
            uid: "u1".to_owned(),
        },
        of: AttemptKey {
            job_uid: "j".to_owned(),
            attempt: 2,
        },
    };
    assert_eq!(
        index.apply(&pod(&of_attempt())),
        std::slice::from_ref(&told)
    );
    assert_eq!(index.apply(&pod(&of_attempt())), []);
    assert_eq!(index.remove("u1"), [gone(false), deleted()]);
    assert_eq!(index.remove("u1"), [], "once");

    let evicted = with(of_attempt(), &json!({"status": {"phase": "Failed"}}));
    assert_eq!(index.apply(&pod(&evicted)), [told, gone(false)]);
    index.begin();
    assert_eq!(index.finish(), [deleted()], "its end was told before");
}

#[test]
fn labels_owner_and_name_of_an_attempt_s_pod_must_agree() {
    let owner = |change: &Value| {
        let mut owner = of_attempt()["metadata"]["ownerReferences"][0].clone();
        merge(&mut owner, change);
        json!({"metadata": {"ownerReferences": [owner]}})
    };
    let table = [
        ("another name", json!({"metadata": {"name": "clip-a3"}})),
        (
            "another attempt",
            json!({"metadata": {"labels": {"kinora.dev/attempt": "3"}}}),
        ),
        (
            "no number",
            json!({"metadata": {"labels": {"kinora.dev/attempt": "two"}}}),
        ),
        (
            "another job",
            json!({"metadata": {"labels": {"kinora.dev/job-uid": "k"}}}),
        ),
        ("an owner of another kind", owner(&json!({"kind": "Job"}))),
        (
            "an owner of another group",
            owner(&json!({"apiVersion": "batch/v1"})),
        ),
        (
            "an owner that does not control it",
            owner(&json!({"controller": false})),
        ),
    ];
    for (name, change) in table {
        let pod = pod(&with(of_attempt(), &change));
        assert_eq!(attempt_of(&pod), None, "{name}");
    }
    assert!(attempt_of(&pod(&of_attempt())).is_some());
}

#[test]
fn an_eviction_that_did_not_come_about_is_taken_back() {
    let condition = |status: &str| {
        let condition = json!({"type": "DisruptionTarget", "status": status});
        json!({"status": {"conditions": [condition]}})
    };
    let mut index = PodIndex::default();
    index.apply(&pod(&json!({})));
    assert_eq!(index.apply(&pod(&condition("True"))), [draining()]);
    let pod_uid = "u1".to_owned();
    assert_eq!(
        index.apply(&pod(&condition("False"))),
        [PodEvent::Stays { pod_uid }]
    );
    assert_eq!(index.apply(&pod(&condition("False"))), []);
    index.apply(&pod(&condition("True")));
    let deleting = with(
        condition("False"),
        &json!({"metadata": {"deletionTimestamp": T1}}),
    );
    assert_eq!(index.apply(&pod(&deleting)), [], "that is for good");
}
