//! What a pass over one pool shall do. Pure: caches in, a plan out; time is an argument, memory is a value.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kinora_crds::conditions::reason;
use kinora_crds::{ScalingMode, Time};
use serde_json::Value;
use tokio::time::Instant;

use super::desired::{self, Demand, Desired};
use super::facts::{Problem, makes_pods, problem};
use super::observe::Observed;
use super::refusal::Refusal;
use super::scaler::{Moves, Scaler, View, Worker};
use super::status::{self, Due, Report};
use super::template::{self, WorkerDefaults};
use crate::pods::{PodFacts, index, standing};
use crate::ports::{BreakerState, PoolBacklog};

/// The deletion cost of a worker that is to go.
pub const MARK: &str = "-1000";
/// Longest pause between two passes over a pool.
const RESYNC: Duration = Duration::from_secs(300);
/// How long our own scale patch is believed before the watch shows it.
const OWN_WRITE: Duration = Duration::from_secs(5);

/// What a leader remembers of a pool between passes. All of it may be forgotten.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Scale-down in progress.
    pub scaler: Scaler,
    /// Hash and generation of the Deployment as this process wrote it last.
    pub applied: Option<(String, i64)>,
    /// Set while the API server refuses the Deployment.
    pub refused: Option<Refusal>,
    /// Replicas this process wrote last, and when.
    pub scaled: Option<(i32, Instant)>,
    /// Last change of the number, for the status.
    pub last_scale: Option<Time>,
    /// When the status was written last.
    pub status_written: Option<Instant>,
}

/// The steps of a pass, in this order; an empty plan makes no request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Put the CA into the namespace.
    pub publish_ca: bool,
    /// Apply this Deployment, replicas included.
    pub deployment: Option<Box<Deployment>>,
    /// Cordons, marks; `target` is done by `deployment` or `scale`.
    pub moves: Moves,
    /// Ask for this number of replicas.
    pub scale: Option<i32>,
    /// Merge patch of the pool's status.
    pub status: Option<Value>,
    /// When to look again although nothing changed.
    pub again: Duration,
}

/// Everything a plan needs beside the pool.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the operator adds to every pool's workers.
    pub workers: WorkerDefaults,
    /// Secrets no pool may name.
    pub reserved_secrets: Vec<String>,
}

/// Wall and monotonic time, read together.
#[derive(Clone, Debug)]
pub struct Clock {
    /// For durations.
    pub mono: Instant,
    /// For what is stored.
    pub wall: Time,
}

/// Decides.
///
/// # Errors
/// Fails only if Kubernetes' own types cannot be written as JSON.
pub fn plan(
    observed: &Observed,
    settings: &Settings,
    memory: &mut Memory,
    now: &Clock,
) -> Result<Plan, serde_json::Error> {
    let problem = problem_of(observed, settings);
    let served = problem
        .as_ref()
        .is_none_or(|problem| problem.reason == reason::NOT_THE_DEFAULT);
    let mut plan = Plan {
        again: RESYNC,
        ..Plan::default()
    };
    let current = current(observed, memory, now.mono);
    let wanted = wanted(observed, current);
    let makes_pods = makes_pods(&observed.pool.spec);
    // Where each attempt has a pod of its own, long-lived workers are only drained.
    let desired = match makes_pods {
        true => 0,
        false => i32::try_from(wanted.replicas).unwrap_or(i32::MAX),
    };
    let mut refused = None;
    if served && makes_pods && observed.deployment.is_none() {
        plan.publish_ca = !observed.ca_published;
    } else if served {
        refused = serve(
            &mut plan,
            observed,
            settings,
            memory,
            (current, desired),
            now.mono,
        )?;
    }
    let problem = refused.or(problem);
    let scaled_to = plan.moves.target;
    if served && current.is_some_and(|current| current != scaled_to) {
        memory.last_scale = Some(now.wall.clone());
    }
    write_status(
        &mut plan,
        (observed, settings),
        memory,
        problem.as_ref(),
        wanted,
        now,
    )?;
    Ok(plan)
}

fn problem_of(observed: &Observed, settings: &Settings) -> Option<Problem> {
    let unserved = problem(&observed.pool.spec, &settings.reserved_secrets);
    let foreign = || {
        let controller = index::controller(
            observed
                .deployment
                .as_ref()?
                .metadata
                .owner_references
                .as_deref()
                .unwrap_or_default(),
        );
        let own = controller
            .is_some_and(|owner| Some(owner.uid.as_str()) == observed.pool.metadata.uid.as_deref());
        let message = format!(
            "a Deployment {} exists that is not this pool's: delete or rename it",
            kinora_crds::names::worker_deployment_name(&observed.key.name)
        );
        (!own).then_some(Problem {
            reason: reason::INVALID_SPEC,
            message,
        })
    };
    let second = || {
        let older = observed.acting_default.as_ref()?;
        let message = format!(
            "pool {older} is the older default pool of this namespace and acts; unset default on one of them"
        );
        Some(Problem {
            reason: reason::NOT_THE_DEFAULT,
            message,
        })
    };
    unserved.or_else(foreign).or_else(second)
}

/// Replicas the Deployment asks for; our own last write counts until the watch can have shown it.
fn current(observed: &Observed, memory: &mut Memory, now: Instant) -> Option<i32> {
    let stored = observed
        .deployment
        .as_ref()?
        .spec
        .as_ref()?
        .replicas
        .unwrap_or(1);
    if memory
        .scaled
        .is_some_and(|(own, at)| own == stored || now.duration_since(at) >= OWN_WRITE)
    {
        memory.scaled = None;
    }
    Some(memory.scaled.map_or(stored, |(own, _)| own))
}

/// How many workers the pool wants; before the jobs are counted, as many as there are.
fn wanted(observed: &Observed, current: Option<i32>) -> Desired {
    let spec = &observed.pool.spec;
    if makes_pods(spec) {
        return Desired {
            replicas: observed.backlog.as_ref().map_or(0, |b| b.running),
            capped_by: None,
        };
    }
    let hold = |replicas: i32| Desired {
        replicas: unsigned(replicas),
        capped_by: None,
    };
    match spec.scaling_mode() {
        ScalingMode::External => return hold(spec.replicas.unwrap_or(1)),
        ScalingMode::Unknown => return hold(current.unwrap_or(0)),
        ScalingMode::Internal => {}
    }
    let Some(backlog) = &observed.backlog else {
        return hold(current.unwrap_or(0));
    };
    desired::desired(&Demand {
        running: backlog.running,
        claimable: backlog.claimable,
        unfinished: backlog.unfinished,
        suspended: spec.is_suspended(),
        breaker_open: backlog.breaker != BreakerState::Closed,
        call: backlog
            .call_seconds
            .and_then(|s| Duration::try_from_secs_f64(s).ok())
            .unwrap_or_else(|| spec.expected_call()),
        rate_per_second: spec.rate_per_second(),
        limit: limit(observed),
        slots: unsigned(spec.slots_per_worker()),
        min: unsigned(spec.min_replicas()),
        max: unsigned(spec.max_replicas()),
    })
}

fn limit(observed: &Observed) -> u32 {
    let now = observed
        .backlog
        .as_ref()
        .and_then(|backlog| backlog.effective_limit);
    now.unwrap_or_else(|| unsigned(observed.pool.spec.max_in_flight()))
}

/// CA, Deployment and scale of a pool that is served; tells whether the Deployment stays as it is because it was refused.
fn serve(
    plan: &mut Plan,
    observed: &Observed,
    settings: &Settings,
    memory: &mut Memory,
    (current, desired): (Option<i32>, i32),
    now: Instant,
) -> Result<Option<Problem>, serde_json::Error> {
    plan.publish_ca = !observed.ca_published;
    plan.moves = match current {
        None => Moves {
            target: desired,
            ..Moves::default()
        },
        Some(current) => memory.scaler.step(&view(observed, current, desired), now),
    };
    plan.again = plan.moves.again.unwrap_or(RESYNC);
    let target = plan.moves.target;
    let rendered = template::render(&observed.pool, &settings.workers, target)?;
    if in_step(observed, &rendered, memory) {
        memory.refused = None;
    } else {
        let refused = memory.refused.as_ref();
        let Some(wait) = refused.and_then(|r| r.wait(template::hash_of(&rendered), now)) else {
            plan.deployment = Some(Box::new(rendered));
            return Ok(None);
        };
        plan.again = plan.again.min(wait);
    }
    // Also of a Deployment that is not what it should be: its workers do the jobs meanwhile.
    plan.scale = current.filter(|has| *has != target).map(|_| target);
    Ok(memory.refused.as_ref().map(Refusal::problem))
}

/// Whether the stored Deployment is what was rendered. A generation that this process did not write means that somebody
/// changed the spec; applying again is idempotent and takes our fields back.
fn in_step(observed: &Observed, rendered: &Deployment, memory: &Memory) -> bool {
    let Some(stored) = &observed.deployment else {
        return false;
    };
    let hash = template::hash_of(rendered);
    let applied = memory
        .applied
        .as_ref()
        .filter(|(own, _)| Some(own.as_str()) == hash);
    applied.is_some_and(|(_, generation)| stored.metadata.generation.unwrap_or(0) <= *generation)
}

fn view(observed: &Observed, current: i32, desired: i32) -> View {
    let spec = &observed.pool.spec;
    let window = match spec.scaling_mode() {
        ScalingMode::External => Duration::ZERO,
        ScalingMode::Internal | ScalingMode::Unknown => spec.scale_down_stabilization(),
    };
    let backlog = observed.backlog.as_ref();
    let workers = observed
        .pods
        .iter()
        .filter(|pod| pod.attempt.is_none())
        .map(|pod| worker(pod, backlog))
        .collect();
    View {
        current,
        desired,
        window,
        workers,
    }
}

fn worker(pod: &PodFacts, backlog: Option<&PoolBacklog>) -> Worker {
    let load = backlog.and_then(|backlog| backlog.workers.get(&pod.uid));
    Worker {
        uid: pod.uid.clone(),
        name: pod.name.clone(),
        busy: load.map(|load| load.busy),
        cordoned: load.is_some_and(|load| load.cordoned),
        ready: pod.ready,
        leaving: pod.deleting || pod.ended,
        marked: pod.deletion_cost.as_deref() == Some(MARK),
    }
}

fn write_status(
    plan: &mut Plan,
    (observed, settings): (&Observed, &Settings),
    memory: &Memory,
    problem: Option<&Problem>,
    wanted: Desired,
    now: &Clock,
) -> Result<(), serde_json::Error> {
    let Some(backlog) = &observed.backlog else {
        return Ok(());
    };
    let pool = &observed.pool;
    let deployment = observed.deployment.as_deref();
    let status = deployment.and_then(|deployment| deployment.status.as_ref());
    let selector = template::labels(&observed.key.name)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"));
    let report = Report {
        generation: pool.metadata.generation,
        replicas: status.and_then(|s| s.replicas).unwrap_or(0) + attempts(observed, |_| true),
        ready: status.and_then(|s| s.ready_replicas).unwrap_or(0)
            + attempts(observed, |pod| pod.ready),
        rolling: plan.deployment.is_some() || deployment.is_some_and(rolling),
        desired: i32::try_from(wanted.replicas).unwrap_or(i32::MAX),
        capped_by: wanted.capped_by,
        backlog,
        limit: limit(observed),
        suspended: pool.spec.is_suspended(),
        problem,
        deployed: deployment.is_some(),
        waiting: standing::most_telling(&observed.pods),
        image: image(observed, settings),
        selector: selector.collect::<Vec<_>>().join(","),
        last_scale: memory.last_scale.clone(),
    };
    let old = pool.status.clone().unwrap_or_default();
    let new = status::build(&report, &old, now.wall.clone());
    match status::due(&old, &new, memory.status_written, now.mono) {
        Due::Never => {}
        Due::Now => {
            plan.status = Some(status::patch(
                &old,
                &new,
                pool.metadata.resource_version.as_deref(),
            )?);
        }
        Due::In(wait) => plan.again = plan.again.min(wait),
    }
    Ok(())
}

/// Pods of attempts that live, of those that `counts`.
fn attempts(observed: &Observed, counts: impl Fn(&PodFacts) -> bool) -> i32 {
    let live = observed
        .pods
        .iter()
        .filter(|pod| pod.attempt.is_some() && !pod.ended && counts(pod));
    i32::try_from(live.count()).unwrap_or(i32::MAX)
}

fn image<'a>(observed: &'a Observed, settings: &'a Settings) -> &'a str {
    let own = observed.pool.spec.template.as_ref();
    own.and_then(|template| template.image.as_deref())
        .unwrap_or(&settings.workers.image)
}

/// The Deployment's controller has not seen its spec, or pods of an older template are still there.
fn rolling(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let unseen =
        status.observed_generation.unwrap_or(0) < deployment.metadata.generation.unwrap_or(0);
    unseen || status.updated_replicas.unwrap_or(0) < status.replicas.unwrap_or(0)
}

fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
