//! Two versions at once: objects of a newer one pass through this operator's hands, and come back whole.

use super::*;

/// The job with fields that no released version has, wherever a newer one may add some.
fn newer() -> Value {
    let mut object = created();
    object["metadata"]["annotations"] = json!({"kinora.dev/of-a-newer-version": "kept"});
    object["spec"]["ofANewerVersion"] = json!({"a": [1, 2]});
    object["spec"]["source"]["ofANewerVersion"] = json!("kept");
    object["status"]["ofANewerVersion"] = json!({"since": "2030-01-01T00:00:00Z", "count": 3});
    object
}

/// Takes what is ours away: what is left is what the newer version wrote.
fn theirs(object: &Value) -> Value {
    json!({
        "annotations": object["metadata"]["annotations"],
        "spec": object["spec"],
        "status": object["status"]["ofANewerVersion"],
    })
}

/// covers: F56
#[rstest]
#[case::success(Class::Succeeded)]
#[case::failure(Class::Failed)]
#[case::loss(Class::Lost)]
fn what_a_newer_version_wrote_outlives_the_writes_of_this_one(#[case] class: Class) {
    let mut stored = Stored::new(newer());
    let before = theirs(&stored.object);
    let pool = stored.names.intern("default");
    let claimed = stored.facts().claimed(uid_of(POD), pool, NOW);
    let patches = [
        stored.write(&claimed, Cause::Claimed, &worker_extras()),
        {
            let verdict = kinora_engine::job::machine::Verdict::of(class);
            let policy = PoolPolicy::default();
            let after = stored
                .facts()
                .ended(verdict, &policy, NOW, &mut rand::rng());
            stored.write(&after, Cause::Ended(class), &worker_extras())
        },
        {
            let after = stored.facts().observed(NOW);
            stored.write(&after, Cause::Observed, &worker_extras())
        },
    ];
    assert_eq!(theirs(&stored.object), before);
    for patch in patches {
        let named: Vec<&String> = patch.as_object().unwrap().keys().collect();
        assert_eq!(named, ["metadata", "status"], "nothing else is touched");
        let of_metadata = patch["metadata"].as_object().unwrap();
        assert!(
            of_metadata.keys().all(|key| key == "resourceVersion"),
            "{of_metadata:?}"
        );
    }
}

/// What the older version never wrote is absent, and read as nothing.
/// covers: F56
#[test]
fn an_object_of_the_first_version_is_read_as_it_was_meant() {
    let mut oldest = created();
    oldest["status"] = json!({"state": "Running", "attempt": 2, "worker": {"podUID": POD}});
    let job = Stored::new(oldest).facts();
    assert_eq!((job.status.phase, job.status.attempt), (Phase::Running, 2));
    assert_eq!((job.status.failures, job.status.redrives), (0, 0));
    assert!(job.runs(2, uid_of(POD)));
}
