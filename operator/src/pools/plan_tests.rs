//! Passes over one pool: what each situation plans, and that a steady one plans nothing.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kinora_crds::{VideoWorkerPool, VideoWorkerPoolStatus};
use serde_json::{Value, json};

use super::*;
use crate::ports::{PoolKey, WorkerLoad};

#[path = "plan_modes_tests.rs"]
mod modes;

fn settings() -> Settings {
    Settings {
        workers: WorkerDefaults {
            image: "worker:1".to_owned(),
            image_pull_policy: None,
            operator_namespace: "kinora-system".to_owned(),
            log_level: "info".to_owned(),
            otlp_endpoint: None,
        },
        reserved_secrets: vec!["kinora-store".to_owned()],
    }
}

fn pool(spec: &Value) -> VideoWorkerPool {
    let mut full = json!({"service": {"endpoint": "http://svc:1"}});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
        "metadata": {"name": "default", "namespace": "videos", "uid": "pool-uid", "generation": 1, "resourceVersion": "10"},
        "spec": full, "status": {"observedGeneration": -1},
    }))
    .unwrap()
}

/// A pool in a small world of its own: what is planned is done, as the API server would.
struct World {
    observed: Observed,
    memory: Memory,
    start: Instant,
    now: Duration,
}

impl World {
    fn new(spec: &Value) -> Self {
        let observed = Observed {
            key: PoolKey {
                namespace: "videos".to_owned(),
                name: "default".to_owned(),
            },
            pool: Arc::new(pool(spec)),
            deployment: None,
            ca_published: false,
            backlog: Some(PoolBacklog::default()),
            pods: Vec::new(),
            acting_default: None,
        };
        Self {
            observed,
            memory: Memory::default(),
            start: Instant::now(),
            now: Duration::ZERO,
        }
    }

    fn backlog(&mut self, claimable: u32) {
        self.observed.backlog = Some(PoolBacklog {
            claimable,
            queued: claimable,
            unfinished: claimable,
            ..PoolBacklog::default()
        });
    }

    fn look(&mut self) -> Plan {
        let wall =
            Timestamp::from_second(1_800_000_000 + i64::try_from(self.now.as_secs()).unwrap())
                .unwrap();
        let clock = Clock {
            mono: self.start + self.now,
            wall: Time(wall),
        };
        plan(&self.observed, &settings(), &mut self.memory, &clock).unwrap()
    }

    /// Plans and does it.
    fn pass(&mut self) -> Plan {
        let plan = self.look();
        self.observed.ca_published |= plan.publish_ca;
        let at = self.start + self.now;
        if let Some(applied) = &plan.deployment {
            let mut stored = applied.as_ref().clone();
            let generation = self
                .observed
                .deployment
                .as_ref()
                .and_then(|d| d.metadata.generation)
                .unwrap_or(0)
                + 1;
            stored.metadata.generation = Some(generation);
            self.memory.applied =
                Some((template::hash_of(&stored).unwrap().to_owned(), generation));
            self.memory.scaled = stored
                .spec
                .as_ref()
                .unwrap()
                .replicas
                .map(|replicas| (replicas, at));
            self.settle(stored);
        }
        if let Some(replicas) = plan.scale {
            let mut stored = self.observed.deployment.as_deref().unwrap().clone();
            stored.spec.as_mut().unwrap().replicas = Some(replicas);
            stored.metadata.generation =
                stored.metadata.generation.map(|generation| generation + 1);
            self.memory.applied.as_mut().unwrap().1 += 1;
            self.memory.scaled = Some((replicas, at));
            self.settle(stored);
        }
        if let Some(patch) = &plan.status {
            let mut stored = self.observed.pool.as_ref().clone();
            let mut status =
                serde_json::to_value(stored.status.clone().unwrap_or_default()).unwrap();
            for (key, value) in patch["status"].as_object().unwrap() {
                if value.is_null() {
                    status.as_object_mut().unwrap().remove(key);
                } else {
                    status[key] = value.clone();
                }
            }
            stored.status = Some(serde_json::from_value::<VideoWorkerPoolStatus>(status).unwrap());
            self.observed.pool = Arc::new(stored);
            self.memory.status_written = Some(at);
        }
        plan
    }

    /// The Deployment's controller has done its work.
    fn settle(&mut self, mut deployment: Deployment) {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        deployment.status = Some(k8s_openapi::api::apps::v1::DeploymentStatus {
            observed_generation: deployment.metadata.generation,
            replicas,
            ready_replicas: replicas,
            updated_replicas: replicas,
            ..Default::default()
        });
        self.observed.deployment = Some(Arc::new(deployment));
    }

    fn replicas(&self) -> Option<i32> {
        self.observed.deployment.as_ref()?.spec.as_ref()?.replicas
    }

    /// Passes until nothing is planned.
    fn quiet(&mut self) {
        for _ in 0..5 {
            let plan = self.pass();
            if is_quiet(&plan) {
                return;
            }
        }
        panic!("never quiet: {:?}", self.look());
    }
}

fn is_quiet(plan: &Plan) -> bool {
    let Plan {
        publish_ca,
        deployment,
        moves,
        scale,
        status,
        again: _,
    } = plan;
    let Moves {
        target: _,
        cordon,
        drain,
        uncordon,
        mark,
        unmark,
        again: _,
    } = moves;
    let lists = [cordon, drain, uncordon, mark, unmark];
    !publish_ca
        && deployment.is_none()
        && scale.is_none()
        && status.is_none()
        && lists.iter().all(|list| list.is_empty())
}

fn conditions(world: &World) -> String {
    let status = world.observed.pool.status.clone().unwrap_or_default();
    let each = status
        .conditions
        .iter()
        .map(|c| format!("{}={}/{}", c.type_, c.status, c.reason));
    each.collect::<Vec<_>>().join(" ")
}

/// covers: I10
#[test]
fn a_new_idle_pool_gets_ca_deployment_and_status_and_then_silence() {
    let mut world = World::new(&json!({}));
    let plan = world.pass();
    assert!(plan.publish_ca && plan.deployment.is_some() && plan.status.is_some());
    assert_eq!(world.replicas(), Some(0), "no pod is started for nothing");
    world.quiet();
    assert_eq!(conditions(&world), "Ready=True/ScaledToZero");
    world.now = Duration::from_secs(3600);
    assert!(is_quiet(&world.look()), "an hour later too");
}

#[test]
fn backlog_is_one_scale_patch_and_going_back_to_zero_takes_its_window() {
    let mut world = World::new(&json!({"scaling": {"scaleDownStabilizationSeconds": 30}}));
    world.quiet();
    world.backlog(3);
    let plan = world.pass();
    assert_eq!((plan.scale, plan.deployment), (Some(3), None));
    world.quiet();
    assert_eq!(conditions(&world), "Ready=True/WorkersReady");
    world.backlog(0);
    assert_eq!(world.pass().scale, None, "not at once");
    world.now += Duration::from_secs(29);
    assert_eq!(world.pass().scale, None, "not within the window");
    world.now += Duration::from_secs(1);
    assert_eq!(
        world.pass().scale,
        Some(0),
        "no pod of the three was ever made, so none is asked"
    );
    world.quiet();
    assert_eq!(conditions(&world), "Ready=True/ScaledToZero");
}

#[test]
fn a_leader_that_has_not_counted_yet_neither_scales_nor_reports() {
    let mut world = World::new(&json!({}));
    world.backlog(4);
    world.quiet();
    world.memory = Memory::default();
    world.observed.backlog = None;
    let plan = world.pass();
    assert_eq!((plan.scale, plan.status), (None, None));
    assert_eq!(
        plan.deployment.unwrap().spec.unwrap().replicas,
        Some(4),
        "applied once, as it is"
    );
}

/// The API server is away, so the counts stand still; then another leader starts, which has none yet.
/// covers: F35, T21
#[test]
fn without_news_of_the_jobs_the_last_number_holds_and_one_open_job_keeps_a_worker() {
    let mut world = World::new(&json!({"scaling": {"scaleDownStabilizationSeconds": 30}}));
    world.quiet();
    world.backlog(4);
    world.quiet();
    for _ in 0..24 {
        world.now += Duration::from_secs(3600);
        world.quiet();
        assert_eq!(world.replicas(), Some(4), "what was counted last");
    }
    world.memory = Memory::default();
    world.observed.backlog = None;
    for _ in 0..24 {
        world.now += Duration::from_secs(3600);
        assert_eq!(world.pass().scale, None, "nothing counted is not zero");
        assert_eq!(world.replicas(), Some(4));
    }
    // Counted again: all that is left waits for hours, and nothing could be claimed now.
    let unfinished = |unfinished| PoolBacklog {
        queued: unfinished,
        unfinished,
        ..PoolBacklog::default()
    };
    for (open, want) in [(1, 1), (0, 0)] {
        world.observed.backlog = Some(unfinished(open));
        for _ in 0..10 {
            world.now += Duration::from_secs(31);
            world.pass();
        }
        assert_eq!(world.replicas(), Some(want), "{open} open jobs");
    }
}

#[test]
fn somebody_elses_edit_is_taken_back_once() {
    let mut world = World::new(&json!({}));
    world.quiet();
    let mut edited = world.observed.deployment.as_deref().unwrap().clone();
    edited.metadata.generation = Some(9);
    edited
        .spec
        .as_mut()
        .unwrap()
        .template
        .spec
        .as_mut()
        .unwrap()
        .containers[0]
        .image = Some("evil".to_owned());
    world.settle(edited);
    assert!(world.pass().deployment.is_some());
    world.quiet();
}

#[test]
fn a_pool_that_cannot_be_served_is_stalled_and_left_alone() {
    let mut world = World::new(&json!({"execution": "Moonshot"}));
    world.backlog(5);
    let plan = world.pass();
    assert_eq!(
        (plan.publish_ca, plan.deployment, plan.scale),
        (false, None, None)
    );
    assert_eq!(
        conditions(&world),
        "Ready=False/InvalidSpec Stalled=True/InvalidSpec"
    );
    world.quiet();
}

#[test]
fn a_foreign_deployment_of_that_name_is_not_taken_over() {
    let mut world = World::new(&json!({}));
    world.settle(Deployment::default());
    let plan = world.pass();
    assert_eq!(plan.deployment, None);
    assert!(conditions(&world).contains("Stalled=True"));
}

#[test]
fn a_second_default_pool_is_stalled_and_served_for_those_who_name_it() {
    let mut world = World::new(&json!({"default": true}));
    world.observed.acting_default = Some("older".to_owned());
    world.backlog(1);
    world.quiet();
    assert_eq!(world.replicas(), Some(1));
    assert_eq!(
        conditions(&world),
        "Ready=True/WorkersReady Stalled=True/AnotherDefaultPool"
    );
}

#[test]
fn our_own_scale_patch_is_believed_before_the_watch_shows_it() {
    let mut world = World::new(&json!({}));
    world.quiet();
    let stale = world.observed.deployment.clone();
    world.backlog(2);
    assert_eq!(world.pass().scale, Some(2));
    world.observed.deployment = stale;
    assert_eq!(world.pass().scale, None, "not twice");
    world.now += OWN_WRITE;
    assert_eq!(world.pass().scale, Some(2), "but not for ever");
}

#[test]
fn busy_slots_are_counted_from_the_streams() {
    let mut world = World::new(&json!({}));
    let load = WorkerLoad {
        pod_name: "w".to_owned(),
        slots: 2,
        busy: 1,
        cordoned: false,
    };
    world.observed.backlog = Some(PoolBacklog {
        running: 1,
        unfinished: 1,
        workers: [("u".to_owned(), load)].into(),
        ..PoolBacklog::default()
    });
    world.quiet();
    let status = world.observed.pool.status.clone().unwrap();
    assert_eq!(
        (status.busy_slots, status.total_slots, status.running_jobs),
        (Some(1), Some(2), Some(1))
    );
}
