//! VideoWorkerPools: watches them on every replica, tells the core what they say, and, on the leader, turns them into
//! worker Deployments that follow the backlog. Per pool: observe, plan, apply.

mod apply;
pub mod attempt_template;
pub mod desired;
pub mod facts;
mod mounts;
mod observe;
pub mod plan;
pub mod refusal;
pub mod scaler;
pub mod status;
pub mod template;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kinora_crds::{Time, VideoWorkerPool};
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use self::apply::{ApplyError, Outcome};
use self::observe::Observed;
use self::plan::{Clock, Memory, Settings};
use crate::pods::Pods;
use crate::ports::{Backlog, CoreCommand, Leadership, PoolEvent, PoolKey};

/// When to look again at what the caches do not show yet.
const BEHIND: Duration = Duration::from_secs(5);

/// What the pools need from the rest of the process.
#[derive(Clone, Debug)]
pub struct PoolsConfig {
    /// Rendering of workers.
    pub settings: Settings,
    /// PEM of the CAs that workers trust.
    pub ca_bundle: tokio::sync::watch::Receiver<String>,
}

/// Caches that every replica keeps warm.
#[derive(Clone)]
pub struct Caches {
    /// Pools of all namespaces.
    pub pools: Store<VideoWorkerPool>,
    deployments: Store<Deployment>,
    ca: Store<ConfigMap>,
}

/// The watches behind the caches; see [`watches`].
pub struct Watches {
    tasks: watch::Tasks,
    queue: mpsc::Receiver<watch::Trigger>,
    triggers: mpsc::Sender<watch::Trigger>,
}

/// What a pass uses.
struct Shared {
    client: Client,
    config: PoolsConfig,
    caches: Caches,
    pods: Pods,
    backlog: tokio::sync::watch::Receiver<Backlog>,
    synced: tokio::sync::watch::Receiver<bool>,
    leadership: tokio::sync::watch::Receiver<Leadership>,
    commands: mpsc::Sender<CoreCommand>,
    memory: Mutex<HashMap<PoolKey, Arc<Mutex<Memory>>>>,
}

/// What the controller follows and whom it commands.
pub struct Links {
    /// Counts of the core.
    pub backlog: tokio::sync::watch::Receiver<Backlog>,
    /// The core has listed all jobs.
    pub synced: tokio::sync::watch::Receiver<bool>,
    /// Who leads.
    pub leadership: tokio::sync::watch::Receiver<Leadership>,
    /// To the core.
    pub commands: mpsc::Sender<CoreCommand>,
    /// The pods of all pools.
    pub pods: Pods,
}

/// Makes caches and the watches that fill them. `events` tells the core of every pool.
pub fn watches(
    client: &Client,
    reserved_secrets: Vec<String>,
    events: mpsc::Sender<PoolEvent>,
) -> (Caches, Watches) {
    let (triggers, queue) = mpsc::channel(1024);
    let (caches, tasks) = watch::tasks(client, reserved_secrets, events, triggers.clone());
    (
        caches,
        Watches {
            tasks,
            queue,
            triggers,
        },
    )
}

/// Runs watches and controller until the process ends.
pub async fn run(
    client: Client,
    config: PoolsConfig,
    caches: Caches,
    watches: Watches,
    links: Links,
) {
    let Watches {
        tasks,
        queue,
        triggers,
    } = watches;
    let pools = caches.pools.clone();
    let followed = watch::Followed {
        backlog: links.backlog.clone(),
        leadership: links.leadership.clone(),
        synced: links.synced.clone(),
        standing: links.pods.standing(),
        ca_bundle: config.ca_bundle.clone(),
    };
    let follow = watch::follow(pools.clone(), followed, triggers);
    let shared = Arc::new(Shared {
        client,
        config,
        caches,
        pods: links.pods,
        backlog: links.backlog,
        synced: links.synced,
        leadership: links.leadership,
        commands: links.commands,
        memory: Mutex::default(),
    });
    let passes = applier(
        |pool, shared| Box::pin(reconcile(pool, shared)),
        |pool, error, _| after_error(&pool, error),
        shared,
        pools,
        ReceiverStream::new(queue).map(Ok::<_, std::convert::Infallible>),
        Config::default(),
    );
    let passes = passes.for_each(|pass| {
        if let Err(error) = &pass {
            watch::log_pass(error);
        }
        std::future::ready(())
    });
    tokio::join!(tasks.run(), follow, passes);
}

/// One pass over one pool.
async fn reconcile(pool: Arc<VideoWorkerPool>, shared: Arc<Shared>) -> Result<Action, ApplyError> {
    if *shared.leadership.borrow() != Leadership::Leader {
        // A later term starts afresh: what this one remembered may be long untrue by then.
        shared.memory.lock().await.clear();
        return Ok(Action::await_change());
    }
    if pool.metadata.deletion_timestamp.is_some() || !shared.are_listed().await {
        return Ok(Action::requeue(BEHIND));
    }
    let observed = observe::observe(&shared, pool);
    let memory = shared
        .memory
        .lock()
        .await
        .entry(observed.key.clone())
        .or_default()
        .clone();
    let mut memory = memory.lock().await;
    let now = Clock {
        mono: Instant::now(),
        wall: Time(second(Timestamp::now())),
    };
    let scaler = memory.scaler.clone();
    let (mut outcome, mut again) = act(&shared, &observed, &mut memory, &now).await?;
    if outcome == Outcome::Refused {
        // The number did not fall, so those who were to go with it are not gone.
        memory.scaler = scaler.clone();
        (outcome, again) = act(&shared, &observed, &mut memory, &now).await?;
    }
    match outcome {
        Outcome::Done => Ok(Action::requeue(again)),
        Outcome::Refused => Ok(Action::requeue(refusal::TRY_AGAIN)),
        Outcome::Gone => Ok(Action::requeue(BEHIND)),
        Outcome::Changed => {
            let (namespace, pool) = (&observed.key.namespace, &observed.key.name);
            tracing::debug!(
                namespace,
                pool,
                "the Deployment changed meanwhile, deciding again"
            );
            memory.scaler = scaler;
            Ok(Action::requeue(scaler::LOOK_AGAIN))
        }
    }
}

/// Plans from what is remembered, and does it; gives when to look again.
async fn act(
    shared: &Shared,
    observed: &Observed,
    memory: &mut Memory,
    now: &Clock,
) -> Result<(Outcome, Duration), ApplyError> {
    let plan = plan::plan(observed, &shared.config.settings, memory, now)?;
    let again = plan.again;
    let outcome = apply::apply(shared, observed, plan, memory).await?;
    Ok((outcome, again))
}

/// Retries with jitter; the API server's own trouble is not made worse in step.
fn after_error(pool: &VideoWorkerPool, error: &ApplyError) -> Action {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(pool = pool.name_any(), namespace = pool.namespace(), %error, cause, "pool pass failed");
    Action::requeue(Duration::from_millis(rand::random_range(2_000..8_000)))
}

/// Stored times have whole seconds; comparing with what was stored must not differ by less.
fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

impl Shared {
    /// Whether all that a pass looks at is listed; waits a little for that. Workers that are not seen yet may be busy.
    async fn are_listed(&self) -> bool {
        let (caches, mut pods) = (&self.caches, self.pods.standing());
        let pods = async { pods.wait_for(|pods| pods.is_listed).await.is_ok() };
        let all = async {
            let filled = tokio::join!(
                caches.pools.wait_until_ready(),
                caches.deployments.wait_until_ready(),
                caches.ca.wait_until_ready(),
                pods,
            );
            filled.0.is_ok() && filled.1.is_ok() && filled.2.is_ok() && filled.3
        };
        tokio::time::timeout(Duration::from_secs(2), all)
            .await
            .unwrap_or(false)
    }
}
