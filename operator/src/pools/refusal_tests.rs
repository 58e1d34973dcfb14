//! Passes over a pool whose Deployment the API server refuses: all but the Deployment goes on, and the pool says why.

use std::sync::{Arc, Mutex as Lock};

use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kinora_crds::{VideoWorkerPool, names};
use kube::Client;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, watch};

use super::super::{
    BEHIND, Caches, PoolsConfig, Settings, Shared, facts, reconcile, scaler, template,
};
use super::*;
use crate::pods::{self, Pods, attempt::Maker};
use crate::ports::{Leadership, PoolBacklog};
use crate::stub;

#[path = "fence_tests.rs"]
mod fences;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/videos/deployments/default-workers";
const POOL: &str = "/apis/kinora.dev/v1alpha1/namespaces/videos/videoworkerpools/default";
const SCALE: &str = "/apis/apps/v1/namespaces/videos/deployments/default-workers/scale";
const STATUS: &str = "/apis/kinora.dev/v1alpha1/namespaces/videos/videoworkerpools/default/status";

/// What an API server was asked to change, by path and body, and what it answers to a Deployment.
#[derive(Default)]
struct Server {
    asked: Vec<(String, Value)>,
    verdict: Option<(u16, String)>,
    /// What changed about the pool's metadata since the cache saw it; null: it is gone.
    pool_now: Option<Value>,
    /// The Deployment was written by somebody since the cache saw it.
    is_newer: bool,
    /// With the answer to this path the lease is lost.
    deposes: Option<(&'static str, watch::Sender<Leadership>)>,
}

impl Server {
    fn answer(&mut self, path: &str, body: Value) -> (u16, Value) {
        if path == POOL {
            let mut found = json!(pool(&json!({})));
            match &self.pool_now {
                Some(Value::Object(changes)) => changes.iter().for_each(|(field, value)| {
                    found["metadata"][field] = value.clone();
                }),
                Some(_) => return stub::missing(),
                None => {}
            }
            return (200, found);
        }
        self.asked.push((path.to_owned(), body.clone()));
        if let Some((_, leadership)) = self.deposes.as_ref().filter(|(at, _)| *at == path) {
            leadership.send_replace(Leadership::CutOff);
        }
        match &self.verdict {
            Some((code, words)) if path == DEPLOYMENT => (
                *code,
                json!({"kind": "Status", "status": "Failure", "code": code, "message": words,
                       "reason": if *code == 409 { "Conflict" } else { "x" }}),
            ),
            _ if path == SCALE
                && self.is_newer
                && body["metadata"]["resourceVersion"].is_string() =>
            {
                (
                    409,
                    json!({"kind": "Status", "status": "Failure", "code": 409, "message": "newer", "reason": "Conflict"}),
                )
            }
            _ if path == SCALE => (
                200,
                json!({"metadata": {"name": "default-workers"}, "spec": body["spec"]}),
            ),
            _ if path == STATUS => (200, json!(pool(&json!({})))),
            _ => (200, body),
        }
    }
}

fn client(server: &Arc<Lock<Server>>) -> Client {
    let server = Arc::clone(server);
    stub::client(move |path, body| server.lock().unwrap().answer(path, body))
}

fn pool(template: &Value) -> VideoWorkerPool {
    serde_json::from_value(json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
        "metadata": {"name": "default", "namespace": "videos", "uid": "pool-uid", "generation": 2, "resourceVersion": "10"},
        "spec": {"service": {"endpoint": "http://svc:1"}, "template": template},
        "status": {"observedGeneration": 1},
    }))
    .unwrap()
}

fn settings() -> Settings {
    Settings {
        workers: template::WorkerDefaults {
            image: "worker:1".to_owned(),
            image_pull_policy: None,
            operator_namespace: "kinora-system".to_owned(),
            log_level: "info".to_owned(),
            otlp_endpoint: None,
        },
        reserved_secrets: Vec::new(),
    }
}

fn filled<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    store
}

/// A pool with three jobs to do, as a new leader finds it.
struct World {
    server: Arc<Lock<Server>>,
    shared: Arc<Shared>,
    leadership: watch::Sender<Leadership>,
}

/// None, and that is known.
fn listed_pods(client: &Client) -> Pods {
    let (events, _) = mpsc::channel(1);
    let (pods, watch) = pods::new(client.clone(), Maker::new(b"key"), events);
    for event in [Event::Init, Event::InitDone] {
        watch.apply(event).now_or_never().unwrap();
    }
    pods
}

impl World {
    fn new(deployment: Option<Deployment>) -> Self {
        let server = Arc::<Lock<Server>>::default();
        let client = client(&server);
        let backlog = PoolBacklog {
            claimable: 3,
            queued: 3,
            unfinished: 3,
            ..PoolBacklog::default()
        };
        let key = facts::key(&pool(&json!({})));
        let (leadership, leads) = watch::channel(Leadership::Leader);
        let ca: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": names::DISPATCH_CA, "namespace": "videos"},
            "data": {names::DISPATCH_CA_KEY: "ca"},
        }))
        .unwrap();
        let shared = Shared {
            config: PoolsConfig {
                settings: settings(),
                ca_bundle: watch::channel("ca".to_owned()).1,
            },
            caches: Caches {
                pools: filled([pool(&json!({}))]),
                deployments: filled(deployment),
                ca: filled([ca]),
            },
            pods: listed_pods(&client),
            backlog: watch::channel(Arc::new([(key, backlog)].into())).1,
            synced: watch::channel(true).1,
            leadership: leads,
            commands: mpsc::channel(1).0,
            memory: Mutex::default(),
            client,
        };
        Self {
            server,
            shared: Arc::new(shared),
            leadership,
        }
    }

    fn verdict(&self, code: u16, words: &str) {
        self.server.lock().unwrap().verdict = Some((code, words.to_owned()));
    }

    /// One pass over the pool with this template; what was asked meanwhile.
    async fn pass(&self, template: &Value) -> (Result<Action, ApplyError>, Vec<(String, Value)>) {
        self.pass_over(pool(template)).await
    }

    async fn pass_over(
        &self,
        pool: VideoWorkerPool,
    ) -> (Result<Action, ApplyError>, Vec<(String, Value)>) {
        let result = reconcile(Arc::new(pool), Arc::clone(&self.shared)).await;
        let asked = std::mem::take(&mut self.server.lock().unwrap().asked);
        (result, asked)
    }

    /// How often a pass tries to apply the Deployment.
    async fn tries(&self, template: &Value) -> usize {
        let (_, asked) = self.pass(template).await;
        paths(&asked)
            .iter()
            .filter(|path| **path == DEPLOYMENT)
            .count()
    }

    /// The refusal that is remembered was so much earlier.
    async fn age(&self, by: Duration) {
        let all = self.shared.memory.lock().await;
        let mut memory = all.values().next().unwrap().lock().await;
        memory.refused.as_mut().unwrap().at -= by;
    }
}

fn paths(asked: &[(String, Value)]) -> Vec<&str> {
    asked.iter().map(|(path, _)| path.as_str()).collect()
}

/// An older Deployment of the pool, without workers.
fn older() -> Deployment {
    let mut older = template::render(&pool(&json!({})), &settings().workers, 0).unwrap();
    older.metadata.generation = Some(4);
    older
}

fn condition(status: &Value, type_: &str) -> (String, String, String) {
    let all = status["status"]["conditions"].as_array().unwrap();
    let found = all.iter().find(|c| c["type"] == type_).unwrap();
    let word = |field: &str| found[field].as_str().unwrap().to_owned();
    (word("status"), word("reason"), word("message"))
}

#[tokio::test]
async fn a_refused_deployment_is_told_and_an_older_one_scales() {
    let long = format!(
        "must be less than or equal to cpu limit {}",
        "é".repeat(3000)
    );
    let table = [
        ("a bad field, at first", 422, None, vec![DEPLOYMENT, STATUS]),
        ("too large, at first", 413, None, vec![DEPLOYMENT, STATUS]),
        (
            "a bad field, later",
            422,
            Some(older()),
            vec![DEPLOYMENT, SCALE, STATUS],
        ),
        (
            "a policy",
            403,
            Some(older()),
            vec![DEPLOYMENT, SCALE, STATUS],
        ),
        (
            "a webhook",
            400,
            Some(older()),
            vec![DEPLOYMENT, SCALE, STATUS],
        ),
    ];
    for (name, code, deployment, want) in table {
        let want_why = match deployment {
            None => "WorkersRefused",
            Some(_) => "WorkersStarting",
        };
        let world = World::new(deployment);
        world.verdict(code, &long);
        let (result, asked) = world.pass(&json!({})).await;
        assert_eq!(result.unwrap(), Action::requeue(TRY_AGAIN), "{name}");
        assert_eq!(paths(&asked), want, "{name}");
        for (_, body) in asked.iter().filter(|(path, _)| path == SCALE) {
            assert_eq!(*body, json!({"spec": {"replicas": 3}}), "{name}");
        }
        let (_, status) = asked.last().unwrap();
        assert_eq!(status["status"]["observedGeneration"], 2, "{name}");
        let (stalled, why, message) = condition(status, conditions::STALLED);
        assert_eq!(
            (stalled.as_str(), why.as_str()),
            ("True", "WorkersRefused"),
            "{name}"
        );
        assert!(message.contains("spec.template"), "{name}: {message}");
        assert!(message.contains("cpu limit é"), "{name}: {message}");
        assert!(message.len() <= conditions::MAX_MESSAGE_BYTES, "{name}");
        let (ready, why, _) = condition(status, conditions::READY);
        assert_eq!(
            (ready.as_str(), why.as_str()),
            ("False", want_why),
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_was_refused_is_tried_again_after_its_time_or_at_once_when_it_changed() {
    let world = World::new(Some(older()));
    world.verdict(403, "a policy says no");
    let (bad, good) = (
        json!({"priorityClassName": "a"}),
        json!({"priorityClassName": "b"}),
    );
    assert_eq!(world.tries(&bad).await, 1);
    assert_eq!(world.tries(&bad).await, 0, "not with each pass");
    world.age(TRY_AGAIN).await;
    assert_eq!(world.tries(&bad).await, 1, "its time is over");
    assert_eq!(world.tries(&bad).await, 0);
    assert_eq!(world.tries(&good).await, 1, "another one");
    world.age(TRY_AGAIN).await;
    world.server.lock().unwrap().verdict = None;
    let (_, asked) = world.pass(&good).await;
    assert_eq!(paths(&asked), [DEPLOYMENT, STATUS]);
    let conditions = asked[1].1["status"]["conditions"].to_string();
    assert!(!conditions.contains("Refused"), "{conditions}");
}

#[test]
fn only_the_same_deployment_waits_and_not_longer_than_its_time() {
    let at = Instant::now();
    let refusal = Refusal {
        hash: "a".to_owned(),
        at,
        words: String::new(),
    };
    let second = Duration::from_secs(1);
    let table = [
        (Some("a"), at, Some(TRY_AGAIN)),
        (Some("a"), at + TRY_AGAIN - second, Some(second)),
        (Some("a"), at + TRY_AGAIN, None),
        (Some("b"), at, None),
        (None, at, None),
    ];
    for (hash, now, want) in table {
        assert_eq!(refusal.wait(hash, now), want, "{hash:?} {:?}", now - at);
    }
}

/// The garbage collector takes away what a pool leaves, and each time it does, the cache that is behind wants it again.
#[tokio::test]
async fn nothing_is_made_for_a_pool_that_is_gone_though_the_cache_still_has_it() {
    let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    let table = [
        ("gone", Value::Null),
        ("made again under its name", json!({"uid": "another"})),
        ("going, in the foreground", deleted),
    ];
    for (name, pool_now) in table {
        let world = World::new(None);
        world.server.lock().unwrap().pool_now = Some(pool_now);
        let (result, asked) = world.pass(&json!({})).await;
        assert_eq!(result.unwrap(), Action::requeue(BEHIND), "{name}");
        assert_eq!(paths(&asked), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn trouble_of_the_server_is_no_refusal_and_ends_the_pass() {
    for code in [409, 429, 500, 503] {
        let world = World::new(Some(older()));
        world.verdict(code, "not now");
        let (result, asked) = world.pass(&json!({})).await;
        assert!(result.is_err(), "{code}");
        assert!(
            paths(&asked).iter().all(|path| *path == DEPLOYMENT),
            "{code}: {asked:?}"
        );
    }
}
