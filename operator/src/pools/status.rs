//! The status of a pool: what is written, and when a change is worth a write. Pure.

use std::time::Duration;

use kinora_crds::conditions::{self, Conditions, reason};
use kinora_crds::{Condition, Time, VideoWorkerPoolStatus};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::desired::Cap;
use super::facts::Problem;
use crate::pods::standing::IMAGE_TROUBLE;
use crate::ports::{BreakerState, PoolBacklog};

/// What to do about a service that does not know us.
const REFUSED: &str = "the service refuses its callers: check service.endpoint, service.tokenSecretRef and service.tlsSecretRef";
/// Counts that only drift are written at most this often.
const INTERVAL: Duration = Duration::from_secs(10);

/// What the status says.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// Generation of the spec it is about.
    pub generation: Option<i64>,
    /// Replicas the Deployment has.
    pub replicas: i32,
    /// Ready ones.
    pub ready: i32,
    /// The Deployment's controller has not seen or rolled out the last change.
    pub rolling: bool,
    /// Replicas wanted.
    pub desired: i32,
    /// What holds them down.
    pub capped_by: Option<Cap>,
    /// Counts of the core.
    pub backlog: &'a PoolBacklog,
    /// Calls at once.
    pub limit: u32,
    /// The pool is suspended.
    pub suspended: bool,
    /// Why the pool is not, or not fully, served.
    pub problem: Option<&'a Problem>,
    /// There is a Deployment, be it an older one.
    pub deployed: bool,
    /// Why workers cannot start, e.g. `ImagePullBackOff`.
    pub waiting: Option<&'a str>,
    /// The workers' image.
    pub image: &'a str,
    /// Label selector of the pods.
    pub selector: String,
    /// Last change of the number of workers.
    pub last_scale: Option<Time>,
}

/// The status to store.
pub fn build(report: &Report<'_>, old: &VideoWorkerPoolStatus, now: Time) -> VideoWorkerPoolStatus {
    let backlog = report.backlog;
    let slots =
        |of: fn(&crate::ports::WorkerLoad) -> u32| count(backlog.workers.values().map(of).sum());
    let oldest = backlog
        .oldest_queued_ms
        .and_then(|ms| k8s_openapi::jiff::Timestamp::from_second(ms.div_euclid(1000)).ok());
    VideoWorkerPoolStatus {
        observed_generation: report.generation,
        replicas: Some(report.replicas),
        ready_replicas: Some(report.ready),
        busy_slots: slots(|worker| worker.busy),
        total_slots: slots(|worker| worker.slots),
        queued_jobs: count(backlog.queued),
        running_jobs: count(backlog.running),
        oldest_queued_time: oldest.map(Time),
        desired_replicas: Some(report.desired),
        effective_limit: count(report.limit),
        breaker: breaker_word(backlog.breaker, old),
        selector: Some(report.selector.clone()),
        last_scale_time: report
            .last_scale
            .clone()
            .or_else(|| old.last_scale_time.clone()),
        conditions: conditions_of(report, old, now).carry(&old.conditions),
    }
}

/// A pool whose breaker never opened says nothing about it.
fn breaker_word(breaker: BreakerState, old: &VideoWorkerPoolStatus) -> Option<String> {
    let word = match breaker {
        BreakerState::Closed => {
            old.breaker.as_ref()?;
            "Closed"
        }
        BreakerState::Open | BreakerState::Refused => "Open",
        BreakerState::HalfOpen => "HalfOpen",
    };
    Some(word.to_owned())
}

/// Whether the service answers; absent until it once did not.
fn service(all: Conditions, breaker: BreakerState, old: &VideoWorkerPoolStatus) -> Conditions {
    let known = conditions::find(&old.conditions, conditions::SERVICE_HEALTHY);
    let (healthy, why, message) = match breaker {
        BreakerState::Closed if known.is_none() => return all,
        BreakerState::Closed => (true, reason::SERVICE_ANSWERS, ""),
        BreakerState::Open => (
            false,
            reason::SERVICE_UNAVAILABLE,
            "too many calls got no answer; it is probed from time to time",
        ),
        BreakerState::Refused => (false, reason::SERVICE_MISCONFIGURED, REFUSED),
        BreakerState::HalfOpen => {
            let why = known.map_or(reason::SERVICE_UNAVAILABLE, |c| {
                if c.reason == reason::SERVICE_MISCONFIGURED {
                    reason::SERVICE_MISCONFIGURED
                } else {
                    reason::SERVICE_UNAVAILABLE
                }
            });
            (false, why, "it is probed with a few calls")
        }
    };
    all.with(conditions::SERVICE_HEALTHY, healthy, why, message)
}

fn conditions_of(report: &Report<'_>, old: &VideoWorkerPoolStatus, now: Time) -> Conditions {
    let (ready, ready_reason, message) = readiness(report, is_refused(report.backlog.breaker, old));
    let mut all = Conditions::new(report.generation, now).with(
        conditions::READY,
        ready,
        ready_reason,
        &message,
    );
    if let Some(cap) = report.capped_by {
        let message = match cap {
            Cap::MaxReplicas => "scaling.maxReplicas holds the number of workers down",
            Cap::Service => "service.limits hold the number of workers down",
        };
        all = all.with(
            conditions::SCALING_LIMITED,
            true,
            reason::AT_MAXIMUM,
            message,
        );
    }
    all = service(all, report.backlog.breaker, old);
    if report.suspended {
        all = all.with(
            conditions::SUSPENDED,
            true,
            reason::SUSPENDED,
            "suspend is set: no attempt starts",
        );
    }
    if let (None, Some(message)) = (report.problem, image_trouble(report)) {
        return all.with(
            conditions::STALLED,
            true,
            reason::IMAGE_PULL_FAILED,
            &message,
        );
    }
    match report.problem {
        Some(problem) => all.with(conditions::STALLED, true, problem.reason, &problem.message),
        None if !ready || report.rolling => all.with(
            conditions::RECONCILING,
            true,
            reason::WORKERS_STARTING,
            "workers are being started or replaced",
        ),
        None => all,
    }
}

/// The service does not know us; a probe alone does not change that, or each would flip the pool's readiness.
fn is_refused(breaker: BreakerState, old: &VideoWorkerPoolStatus) -> bool {
    let ready = conditions::find(&old.conditions, conditions::READY);
    let was = ready.is_some_and(|c| c.reason == reason::SERVICE_MISCONFIGURED);
    breaker == BreakerState::Refused || (breaker == BreakerState::HalfOpen && was)
}

fn readiness(report: &Report<'_>, refused: bool) -> (bool, &'static str, String) {
    let stops = |problem: &&Problem| match problem.reason {
        reason::NOT_THE_DEFAULT => false,
        reason::WORKERS_REFUSED => !report.deployed,
        _ => true,
    };
    if let Some(problem) = report.problem.filter(stops) {
        return (false, problem.reason, problem.message.clone());
    }
    if report.suspended {
        return (
            true,
            reason::SUSPENDED,
            "suspend is set: no attempt starts".to_owned(),
        );
    }
    if refused {
        return (false, reason::SERVICE_MISCONFIGURED, REFUSED.to_owned());
    }
    if report.desired == 0 && report.replicas == 0 {
        return (
            true,
            reason::SCALED_TO_ZERO,
            "no work, no workers".to_owned(),
        );
    }
    if report.ready > 0 || report.desired == 0 {
        return (true, reason::WORKERS_READY, "workers are ready".to_owned());
    }
    if let Some(message) = image_trouble(report) {
        return (false, reason::IMAGE_PULL_FAILED, message);
    }
    let why = report
        .waiting
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    (
        false,
        reason::WORKERS_STARTING,
        format!("no worker is ready yet{why}"),
    )
}

fn image_trouble(report: &Report<'_>) -> Option<String> {
    report.waiting.filter(|why| IMAGE_TROUBLE.contains(why))?;
    Some(format!(
        "image {} of the workers cannot be pulled: check its name and tag in spec.template.image (the operator's \
         --worker-image without one), spec.template.imagePullSecrets, and the nodes' way to the registry",
        report.image
    ))
}

fn count(value: u32) -> Option<i32> {
    Some(i32::try_from(value).unwrap_or(i32::MAX))
}

/// When to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing changed.
    Never,
    /// Now.
    Now,
    /// It can wait so long.
    In(Duration),
}

/// Whether the change from `old` to `new` is written now, later or never.
pub fn due(
    old: &VideoWorkerPoolStatus,
    new: &VideoWorkerPoolStatus,
    last_write: Option<Instant>,
    now: Instant,
) -> Due {
    if old == new {
        return Due::Never;
    }
    let waited = last_write.map_or(INTERVAL, |at| now.duration_since(at));
    if waited >= INTERVAL || urgent(old, new) {
        Due::Now
    } else {
        Due::In(INTERVAL.saturating_sub(waited))
    }
}

/// A count left or reached zero, a condition flipped, or another spec was observed.
fn urgent(old: &VideoWorkerPoolStatus, new: &VideoWorkerPoolStatus) -> bool {
    let counts = |s: &VideoWorkerPoolStatus| {
        let all = [
            s.replicas,
            s.ready_replicas,
            s.busy_slots,
            s.total_slots,
            s.queued_jobs,
            s.running_jobs,
            s.desired_replicas,
        ];
        all.map(|count| count.unwrap_or(0) > 0)
    };
    let flips = |all: &[Condition]| -> Vec<(String, String, String)> {
        all.iter()
            .map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()))
            .collect()
    };
    counts(old) != counts(new)
        || flips(&old.conditions) != flips(&new.conditions)
        || (&old.observed_generation, &old.selector) != (&new.observed_generation, &new.selector)
}

/// The merge patch from `old` to `new`: changed fields, and `null` for those that are gone.
///
/// # Errors
/// Fails only if the status cannot be written as JSON.
pub fn patch(
    old: &VideoWorkerPoolStatus,
    new: &VideoWorkerPoolStatus,
    resource_version: Option<&str>,
) -> Result<Value, serde_json::Error> {
    let (Value::Object(old), Value::Object(new)) =
        (serde_json::to_value(old)?, serde_json::to_value(new)?)
    else {
        return Ok(Value::Null);
    };
    let gone = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    let mut fields: Map<String, Value> = gone.collect();
    fields.extend(
        new.into_iter()
            .filter(|(key, value)| old.get(key) != Some(value)),
    );
    Ok(serde_json::json!({"metadata": {"resourceVersion": resource_version}, "status": fields}))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
