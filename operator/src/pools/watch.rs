//! The watches of pools, their Deployments and the published CA, and what of them triggers a pass. Reads only.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kinora_crds::{VideoWorkerPool, names};
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::apply::ApplyError;
use super::{Caches, facts};
use crate::pods::Standing;
use crate::pods::index::controller;
use crate::ports::{Backlog, Leadership, PoolEvent, PoolFacts, PoolKey};
use crate::watches;

/// Asks for a pass over one pool.
pub(super) type Trigger = ReconcileRequest<VideoWorkerPool>;

/// Backlog changes within this time cause one pass.
const BACKLOG_PAUSE: Duration = Duration::from_millis(100);

/// The watches, not yet running.
pub(super) struct Tasks {
    client: Client,
    pools: Writer<VideoWorkerPool>,
    deployments: Writer<Deployment>,
    ca: Writer<ConfigMap>,
    teller: Teller,
    events: mpsc::Sender<PoolEvent>,
    all_pools: Store<VideoWorkerPool>,
    triggers: mpsc::Sender<Trigger>,
}

pub(super) fn tasks(
    client: &Client,
    reserved_secrets: Vec<String>,
    events: mpsc::Sender<PoolEvent>,
    triggers: mpsc::Sender<Trigger>,
) -> (Caches, Tasks) {
    let (pools, pools_writer) = reflector::store();
    let (deployments, deployments_writer) = reflector::store();
    let (ca, ca_writer) = reflector::store();
    let tasks = Tasks {
        client: client.clone(),
        pools: pools_writer,
        deployments: deployments_writer,
        ca: ca_writer,
        teller: Teller {
            told: HashMap::new(),
            listed: None,
            reserved_secrets,
        },
        events,
        all_pools: pools.clone(),
        triggers,
    };
    (
        Caches {
            pools,
            deployments,
            ca,
        },
        tasks,
    )
}

impl Tasks {
    pub(super) async fn run(self) {
        let Self {
            client,
            pools,
            deployments,
            ca,
            mut teller,
            all_pools,
            events,
            triggers,
        } = self;
        let own = Config::default();
        let workers = own.clone().labels(names::LABEL_POOL);
        let named = own
            .clone()
            .fields(&format!("metadata.name={}", names::DISPATCH_CA));
        let out = Out {
            pools: all_pools.clone(),
            events,
            triggers,
        };
        let pools = drive(Api::all(client.clone()), own, pools, &out, {
            let all = all_pools.clone();
            move |event: &Event<VideoWorkerPool>| News {
                events: teller.events_of(event),
                pools: named_by(event).map_or_else(Vec::new, |own| concerned(&all, own)),
            }
        });
        let deployments = drive(
            Api::all(client.clone()),
            workers,
            deployments,
            &out,
            |event: &Event<Deployment>| News {
                events: Vec::new(),
                pools: named_by(event).and_then(pool_of).into_iter().collect(),
            },
        );
        let ca = drive(
            Api::all(client),
            named,
            ca,
            &out,
            move |event: &Event<ConfigMap>| {
                let namespace = named_by(event).and_then(ResourceExt::namespace);
                let neighbours = all_pools
                    .state_filter(|pool| namespace.is_some() && pool.namespace() == namespace);
                News {
                    events: Vec::new(),
                    pools: refs(&neighbours),
                }
            },
        );
        tokio::join!(pools, deployments, ca);
    }
}

/// Where a watch's news go.
struct Out {
    pools: Store<VideoWorkerPool>,
    events: mpsc::Sender<PoolEvent>,
    triggers: mpsc::Sender<Trigger>,
}

/// What one watch event means to others.
struct News {
    events: Vec<PoolEvent>,
    pools: Vec<ObjectRef<VideoWorkerPool>>,
}

/// Feeds a store from a watch for ever, and passes on what each event means after the store has it.
async fn drive<K>(
    api: Api<K>,
    config: Config,
    mut writer: Writer<K>,
    out: &Out,
    mut news: impl FnMut(&Event<K>) -> News,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    let stream = watches::patient(watches::watch(api, config))
        .modify(|object| object.meta_mut().managed_fields = None);
    let mut stream = std::pin::pin!(stream);
    loop {
        match stream.try_next().await {
            Ok(Some(event)) => {
                writer.apply_watcher_event(&event);
                let News { events, pools } = news(&event);
                for event in events {
                    // The core is gone only when the process ends; so is the controller.
                    let _ = out.events.send(event).await;
                }
                send(&out.triggers, due(&event, &out.pools, pools)).await;
            }
            Ok(None) => return,
            Err(error) => {
                let kind = std::any::type_name::<K>().rsplit("::").next();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    kind,
                    "watch: trying again"
                );
            }
        }
    }
}

/// The pools that its object concerns; a listing shows itself, and what it lacks, at its end, and may concern all.
fn due<K>(
    event: &Event<K>,
    all: &Store<VideoWorkerPool>,
    concerned: Vec<ObjectRef<VideoWorkerPool>>,
) -> Vec<ObjectRef<VideoWorkerPool>> {
    match event {
        Event::InitDone => refs(&all.state()),
        _ => concerned,
    }
}

fn refs(pools: &[Arc<VideoWorkerPool>]) -> Vec<ObjectRef<VideoWorkerPool>> {
    pools
        .iter()
        .map(|pool| ObjectRef::from_obj(pool.as_ref()))
        .collect()
}

fn named_by<K>(event: &Event<K>) -> Option<&K> {
    match event {
        Event::Apply(object) | Event::Delete(object) | Event::InitApply(object) => Some(object),
        Event::Init | Event::InitDone => None,
    }
}

/// The pool itself, and the default pools beside it: the oldest of them acts.
fn concerned(
    all: &Store<VideoWorkerPool>,
    own: &VideoWorkerPool,
) -> Vec<ObjectRef<VideoWorkerPool>> {
    let own = ObjectRef::from_obj(own);
    let rivals = all.state_filter(|pool| {
        pool.spec.is_default() && pool.namespace() == own.namespace && pool.name_any() != own.name
    });
    let mut concerned = refs(&rivals);
    concerned.push(own);
    concerned
}

/// Whose workers it makes, or, where nobody controls it, would stand in the way of.
fn pool_of(deployment: &Deployment) -> Option<ObjectRef<VideoWorkerPool>> {
    let name = match controller(deployment.owner_references()) {
        Some(owner) if owner.kind == "VideoWorkerPool" => owner.name,
        Some(_) => return None,
        None => deployment.labels().get(names::LABEL_POOL)?.clone(),
    };
    Some(ObjectRef::new(&name).within(&deployment.namespace()?))
}

async fn send(triggers: &mpsc::Sender<Trigger>, pools: Vec<ObjectRef<VideoWorkerPool>>) {
    for pool in pools {
        let _ = triggers.send(ReconcileRequest::from(pool)).await;
    }
}

/// Tells the core of pools: of each once per change that matters to it, and of the end of the first listing.
struct Teller {
    told: HashMap<PoolKey, PoolFacts>,
    /// Facts of a listing in progress.
    listed: Option<HashMap<PoolKey, PoolFacts>>,
    reserved_secrets: Vec<String>,
}

impl Teller {
    fn events_of(&mut self, event: &Event<VideoWorkerPool>) -> Vec<PoolEvent> {
        match event {
            Event::Init => {
                self.listed = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(pool) => {
                let (key, facts) = (facts::key(pool), facts::facts(pool, &self.reserved_secrets));
                self.listed.get_or_insert_default().insert(key, facts);
                Vec::new()
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<_> = self
                    .told
                    .keys()
                    .filter(|key| !listed.contains_key(*key))
                    .cloned()
                    .collect();
                let mut events: Vec<_> =
                    gone.into_iter().filter_map(|key| self.gone(key)).collect();
                events.extend(
                    listed
                        .into_iter()
                        .filter_map(|(key, facts)| self.changed(key, facts))
                        .collect::<Vec<_>>(),
                );
                events.push(PoolEvent::Synced);
                events
            }
            Event::Apply(pool) => self
                .changed(facts::key(pool), facts::facts(pool, &self.reserved_secrets))
                .into_iter()
                .collect(),
            Event::Delete(pool) => self.gone(facts::key(pool)).into_iter().collect(),
        }
    }

    fn changed(&mut self, key: PoolKey, facts: PoolFacts) -> Option<PoolEvent> {
        if self.told.get(&key) == Some(&facts) {
            return None;
        }
        self.told.insert(key.clone(), facts.clone());
        Some(PoolEvent::Changed(key, Box::new(facts)))
    }

    fn gone(&mut self, key: PoolKey) -> Option<PoolEvent> {
        self.told.remove(&key).map(|_| PoolEvent::Gone(key))
    }
}

/// What passes read beside the caches of this module.
pub(super) struct Followed {
    pub(super) backlog: watch::Receiver<Backlog>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) synced: watch::Receiver<bool>,
    pub(super) standing: watch::Receiver<Arc<Standing>>,
    pub(super) ca_bundle: watch::Receiver<String>,
}

/// Triggers the pools whose counts changed, or what their status tells of pods; and all of them when leadership or the CA
/// changes, or when the jobs are counted: a pass before that leaves the pool as it was, also one that is new.
pub(super) async fn follow(
    pools: Store<VideoWorkerPool>,
    followed: Followed,
    triggers: mpsc::Sender<Trigger>,
) {
    let Followed {
        mut backlog,
        mut leadership,
        mut synced,
        mut standing,
        mut ca_bundle,
    } = followed;
    let mut last = (Backlog::default(), Arc::<Standing>::default());
    loop {
        let all = tokio::select! {
            changed = backlog.changed() => { if changed.is_err() { return } false }
            changed = leadership.changed() => { if changed.is_err() { return } true }
            changed = synced.changed() => { if changed.is_err() { return } true }
            changed = standing.changed() => { if changed.is_err() { return } false }
            changed = ca_bundle.changed() => { if changed.is_err() { return } true }
        };
        let now = (
            backlog.borrow_and_update().clone(),
            standing.borrow_and_update().clone(),
        );
        let due = pools.state_filter(|pool| {
            let key = facts::key(pool);
            all || now.0.get(&key) != last.0.get(&key)
                || now.1.pools.get(&key) != last.1.pools.get(&key)
        });
        send(&triggers, refs(&due)).await;
        last = now;
        tokio::time::sleep(BACKLOG_PAUSE).await;
    }
}

/// A pass that failed was logged where it failed; the rest is of the queue.
pub(super) fn log_pass(
    error: &kube::runtime::controller::Error<ApplyError, std::convert::Infallible>,
) {
    use kube::runtime::controller::Error;
    match error {
        Error::ReconcilerFailed(..) | Error::ObjectNotFound(_) => {}
        Error::QueueError(_) | Error::RunnerError(_) => tracing::error!(%error, "pools controller"),
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
