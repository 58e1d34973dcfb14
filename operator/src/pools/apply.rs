//! Does what a plan says, in its order; each request has a timeout, and the first failure ends the pass. A Deployment that is
//! refused is no failure: the rest is planned without it. Nothing is written for a leader that may be none any more.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kinora_crds::{VideoWorkerPool, names};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::observe::Observed;
use super::plan::{MARK, Memory, Plan};
use super::refusal::Refusal;
use super::{Shared, template};
use crate::pods::index::{DELETION_COST, controller};
use crate::ports::{CoreCommand, Leadership, PoolKey};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// No answer in time.
    #[error("{action} of pool {namespace}/{name}: no answer in time", namespace = .pool.namespace, name = .pool.name)]
    Timeout {
        /// What was tried.
        action: &'static str,
        /// For which pool.
        pool: PoolKey,
    },
    /// The API server refused or failed.
    #[error("{action} of pool {namespace}/{name}", namespace = .pool.namespace, name = .pool.name)]
    Api {
        /// What was tried.
        action: &'static str,
        /// For which pool.
        pool: PoolKey,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// Another may lead, and have decided otherwise.
    #[error("{action} of pool {namespace}/{name}: this replica does not lead any more", namespace = .pool.namespace, name = .pool.name)]
    Deposed {
        /// What was to be done.
        action: &'static str,
        /// For which pool.
        pool: PoolKey,
    },
    /// Kubernetes' own types could not be written as JSON.
    #[error("render pool")]
    Json(#[from] serde_json::Error),
}

/// How far a plan came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it is done.
    Done,
    /// The Deployment was refused, as memory now says, and nothing after it was done.
    Refused,
    /// The pool is gone, though the watch has not said so yet.
    Gone,
    /// Somebody wrote the Deployment meanwhile: its number stays, and nothing after that was done.
    Changed,
}

/// Does it.
pub(super) async fn apply(
    shared: &Shared,
    observed: &Observed,
    plan: Plan,
    memory: &mut Memory,
) -> Result<Outcome, ApplyError> {
    let pool = &observed.key;
    if plan.publish_ca {
        publish_ca(shared, pool).await?;
    }
    // Before the number falls, whoever writes it.
    command(shared, &plan.moves.drain, |pod_uid| CoreCommand::Drain {
        pod_uid,
    })
    .await;
    if let Some(deployment) = plan.deployment {
        match apply_deployment(shared, observed, *deployment, memory).await? {
            Outcome::Done => {}
            other => return Ok(other),
        }
    }
    command(shared, &plan.moves.cordon, |pod_uid| CoreCommand::Cordon {
        pod_uid,
    })
    .await;
    command(shared, &plan.moves.uncordon, |pod_uid| {
        CoreCommand::Uncordon { pod_uid }
    })
    .await;
    for pod in &plan.moves.mark {
        set_cost(shared, pool, pod, json!(MARK)).await?;
    }
    for pod in &plan.moves.unmark {
        set_cost(shared, pool, pod, Value::Null).await?;
    }
    if let Some(replicas) = plan.scale {
        match scale(shared, observed, replicas, memory).await? {
            Outcome::Done => {}
            other => return Ok(other),
        }
    }
    if let Some(status) = plan.status {
        write_status(shared, pool, &status, memory).await?;
    }
    Ok(Outcome::Done)
}

async fn bounded<T>(
    action: &'static str,
    pool: &PoolKey,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApplyError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Err(_) => Err(ApplyError::Timeout {
            action,
            pool: pool.clone(),
        }),
        Ok(Err(source)) => Err(ApplyError::Api {
            action,
            pool: pool.clone(),
            source: Box::new(source),
        }),
        Ok(Ok(value)) => Ok(value),
    }
}

/// As [`bounded`], of what changes something: a request before it may have taken longer than the leader lease.
async fn write<T>(
    shared: &Shared,
    action: &'static str,
    pool: &PoolKey,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApplyError> {
    if *shared.leadership.borrow() != Leadership::Leader {
        return Err(ApplyError::Deposed {
            action,
            pool: pool.clone(),
        });
    }
    bounded(action, pool, call).await
}

async fn publish_ca(shared: &Shared, pool: &PoolKey) -> Result<(), ApplyError> {
    let api: Api<ConfigMap> = Api::namespaced(shared.client.clone(), &pool.namespace);
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": names::DISPATCH_CA, "namespace": pool.namespace},
        "data": {names::DISPATCH_CA_KEY: *shared.config.ca_bundle.borrow()},
    });
    let params = PatchParams::apply(names::MANAGER_OPERATOR).force();
    write(
        shared,
        "publish the dispatch CA",
        pool,
        api.patch(names::DISPATCH_CA, &params, &Patch::Apply(&map)),
    )
    .await?;
    Ok(())
}

/// Whether the pool that is to control the Deployment still exists. A cache that is behind would have its workers made anew as
/// often as the garbage collector takes them away.
async fn is_there(
    shared: &Shared,
    pool: &PoolKey,
    deployment: &Deployment,
) -> Result<bool, ApplyError> {
    let api: Api<VideoWorkerPool> = Api::namespaced(shared.client.clone(), &pool.namespace);
    let found = bounded("read", pool, api.get_metadata_opt(&pool.name)).await?;
    let wanted = controller(deployment.owner_references()).map(|owner| owner.uid);
    Ok(found.map(|found| found.metadata).is_some_and(|found| {
        // One that is deleted in the foreground waits for its Deployment to go.
        found.deletion_timestamp.is_none() && found.uid == wanted
    }))
}

async fn apply_deployment(
    shared: &Shared,
    observed: &Observed,
    mut deployment: Deployment,
    memory: &mut Memory,
) -> Result<Outcome, ApplyError> {
    let pool = &observed.key;
    if !is_there(shared, pool, &deployment).await? {
        tracing::info!(
            namespace = pool.namespace,
            pool = pool.name,
            "the pool is gone: no workers are made for it"
        );
        return Ok(Outcome::Gone);
    }
    let api: Api<Deployment> = Api::namespaced(shared.client.clone(), &pool.namespace);
    let name = names::worker_deployment_name(&pool.name);
    let params = PatchParams::apply(names::MANAGER_OPERATOR).force();
    let hash = template::hash_of(&deployment)
        .unwrap_or_default()
        .to_owned();
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    deployment.metadata.resource_version = seen(observed);
    let answer = write(
        shared,
        "apply the Deployment",
        pool,
        api.patch(&name, &params, &Patch::Apply(&deployment)),
    )
    .await;
    let stored = match answer {
        Ok(stored) => stored,
        Err(error) if deployment.metadata.resource_version.is_some() && is_conflict(&error) => {
            return Ok(Outcome::Changed);
        }
        Err(error) => {
            let refusal = Refusal::of(&error, &hash, Instant::now()).ok_or(error)?;
            tracing::warn!(
                namespace = pool.namespace,
                pool = pool.name,
                words = refusal.words(),
                "the workers' Deployment is refused"
            );
            memory.refused = Some(refusal);
            return Ok(Outcome::Refused);
        }
    };
    memory.refused = None;
    memory.applied = Some((hash, stored.metadata.generation.unwrap_or(0)));
    memory.scaled = replicas.map(|replicas| (replicas, Instant::now()));
    tracing::info!(
        namespace = pool.namespace,
        pool = pool.name,
        replicas,
        "applied the workers' Deployment"
    );
    Ok(Outcome::Done)
}

/// The version of the Deployment that a number is meant for. A patch that comes late, after another leader's, would take workers
/// that have got leases since: also a number that was higher when it was decided.
fn seen(observed: &Observed) -> Option<String> {
    observed
        .deployment
        .as_deref()?
        .metadata
        .resource_version
        .clone()
}

fn is_conflict(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(s) if s.is_conflict()))
}

async fn scale(
    shared: &Shared,
    observed: &Observed,
    replicas: i32,
    memory: &mut Memory,
) -> Result<Outcome, ApplyError> {
    let pool = &observed.key;
    let api: Api<Deployment> = Api::namespaced(shared.client.clone(), &pool.namespace);
    let name = names::worker_deployment_name(&pool.name);
    let params = PatchParams {
        field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
        ..PatchParams::default()
    };
    let mut patch = json!({"spec": {"replicas": replicas}});
    if let Some(version) = seen(observed) {
        patch["metadata"] = json!({"resourceVersion": version});
    }
    let patch = Patch::Merge(&patch);
    let call = api.patch_scale(&name, &params, &patch);
    match write(shared, "scale", pool, call).await {
        Err(error) if is_conflict(&error) => return Ok(Outcome::Changed),
        answer => answer?,
    };
    // The scale subresource does not tell the generation; a change of replicas raises it by one. A wrong guess costs one
    // idempotent apply.
    if let Some((_, generation)) = &mut memory.applied {
        *generation += 1;
    }
    memory.scaled = Some((replicas, Instant::now()));
    tracing::info!(
        namespace = pool.namespace,
        pool = pool.name,
        replicas,
        "scaled"
    );
    Ok(Outcome::Done)
}

async fn command(shared: &Shared, uids: &[String], make: impl Fn(String) -> CoreCommand) {
    for uid in uids {
        // The core is gone only when the process ends.
        let _ = shared.commands.send(make(uid.clone())).await;
    }
}

async fn set_cost(
    shared: &Shared,
    pool: &PoolKey,
    pod: &str,
    cost: Value,
) -> Result<(), ApplyError> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &pool.namespace);
    let params = PatchParams {
        field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
        ..PatchParams::default()
    };
    let patch = json!({"metadata": {"annotations": {DELETION_COST: cost}}});
    match write(
        shared,
        "mark a pod",
        pool,
        api.patch_metadata(pod, &params, &Patch::Merge(&patch)),
    )
    .await
    {
        Err(ApplyError::Api { source, .. }) if matches!(source.as_ref(), kube::Error::Api(s) if s.is_not_found()) => {
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// Writes the status unless somebody wrote the pool meanwhile; then the watch brings the next pass.
async fn write_status(
    shared: &Shared,
    pool: &PoolKey,
    patch: &Value,
    memory: &mut Memory,
) -> Result<(), ApplyError> {
    let api: Api<VideoWorkerPool> = Api::namespaced(shared.client.clone(), &pool.namespace);
    let params = PatchParams {
        field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(patch);
    let call = api.patch_status(&pool.name, &params, &patch);
    match write(shared, "write the status", pool, call).await {
        Ok(_) => {
            memory.status_written = Some(Instant::now());
            Ok(())
        }
        Err(ApplyError::Api { source, .. }) if matches!(source.as_ref(), kube::Error::Api(s) if s.is_conflict() || s.is_not_found()) =>
        {
            tracing::debug!(
                namespace = pool.namespace,
                pool = pool.name,
                "pool changed meanwhile, deciding again"
            );
            Ok(())
        }
        Err(other) => Err(other),
    }
}
