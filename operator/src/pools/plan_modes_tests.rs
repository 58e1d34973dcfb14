//! Passes over pools that others scale, and over pools with a pod for each attempt.

use super::*;

#[test]
fn external_mode_follows_spec_replicas_and_not_the_backlog() {
    let mut world = World::new(&json!({"scaling": {"mode": "External"}, "replicas": 2}));
    world.backlog(50);
    world.quiet();
    assert_eq!(world.replicas(), Some(2));
}

#[test]
fn external_mode_asks_for_what_the_scale_subresource_says_whatever_the_jobs_do() {
    let external = json!({"mode": "External", "minReplicas": 0, "maxReplicas": 3});
    let table = [
        ("nothing said", json!({"scaling": external}), 1),
        ("none", json!({"scaling": external, "replicas": 0}), 0),
        (
            "more than maxReplicas",
            json!({"scaling": external, "replicas": 5}),
            5,
        ),
        (
            "a suspended pool",
            json!({"scaling": external, "replicas": 2, "suspend": true}),
            2,
        ),
    ];
    for (name, spec, want) in table {
        for jobs in [0, 50] {
            let mut world = World::new(&spec);
            world.backlog(jobs);
            world.pass();
            assert_eq!(world.replicas(), Some(want), "{name}, {jobs} jobs");
            let status = world.observed.pool.status.clone().unwrap();
            assert_eq!(status.desired_replicas, Some(want), "{name}, {jobs} jobs");
        }
    }
}

fn attempt_pod(ready: bool) -> PodFacts {
    let name = "clip-a1";
    let pod = json!({
        "metadata": {
            "name": name, "namespace": "videos", "uid": "u1",
            "labels": {"kinora.dev/pool": "default", "kinora.dev/job-uid": "j", "kinora.dev/attempt": "1"},
            "annotations": {"kinora.dev/attempt-proof": "00"},
            "ownerReferences": [{
                "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "name": "clip", "uid": "j", "controller": true,
            }],
        },
        "spec": {"containers": []},
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    crate::pods::index::facts(&serde_json::from_value(pod).unwrap()).unwrap()
}

#[test]
fn a_pool_with_a_pod_for_each_attempt_has_no_deployment_and_counts_its_pods() {
    let mut world = World::new(&json!({"execution": "PodPerAttempt"}));
    let plan = world.pass();
    assert_eq!((plan.publish_ca, &plan.deployment), (true, &None));
    assert_eq!(conditions(&world), "Ready=True/ScaledToZero");
    world.observed.backlog = Some(PoolBacklog {
        running: 1,
        unfinished: 1,
        ..PoolBacklog::default()
    });
    world.observed.pods = vec![attempt_pod(false)];
    world.pass();
    assert_eq!(
        conditions(&world),
        "Ready=False/WorkersStarting Reconciling=True/WorkersStarting"
    );
    world.observed.pods = vec![attempt_pod(true)];
    world.pass();
    assert_eq!(conditions(&world), "Ready=True/WorkersReady");
    let status = world.observed.pool.status.clone().unwrap();
    let counts = (
        status.replicas,
        status.ready_replicas,
        status.desired_replicas,
    );
    assert_eq!(counts, (Some(1), Some(1), Some(1)));
    world.quiet();
}

#[test]
fn a_pool_that_changes_to_a_pod_for_each_attempt_drains_its_workers_first() {
    let mut world = World::new(&json!({}));
    world.backlog(2);
    world.pass();
    assert_eq!(world.replicas(), Some(2));
    let mut changed = world.observed.pool.as_ref().clone();
    changed.spec = pool(&json!({"execution": "PodPerAttempt"})).spec;
    world.observed.pool = Arc::new(changed);
    let busy = WorkerLoad {
        pod_name: "w-1".to_owned(),
        slots: 1,
        busy: 1,
        cordoned: false,
    };
    let mut leased = attempt_pod(true);
    leased.attempt = None;
    world.observed.pods = vec![leased];
    world.observed.backlog = Some(PoolBacklog {
        running: 1,
        unfinished: 1,
        workers: [("u1".to_owned(), busy)].into(),
        ..PoolBacklog::default()
    });
    // The window of a scale-down, and then some.
    for _ in 0..40 {
        world.now += Duration::from_secs(30);
        world.pass();
    }
    assert_eq!(world.replicas(), Some(1), "a busy worker is never cut");
}
