//! Pools, and seats for their workers: what a kubelet and the controllers of a whole cluster would make. There are pods
//! without containers, and tokens that are bound to them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kinora_crds::VideoWorkerPool;
use kinora_crds::names::{DISPATCH_CA, DISPATCH_CA_KEY, OPERATOR_SERVICE, worker_deployment_name};
use kinora_worker::config::OperatorTarget;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::access::{JOBS_NAMESPACE, RELEASE_NAMESPACE, worker_token};

/// Of a job where the store has them.
pub(crate) const OUTPUTS: [&str; 2] = ["video", "thumbnail"];
/// Whose jobs the simulated workers take.
pub(crate) const SERVED: &str = "bench";
/// Whose jobs the simulated workers take beside a store that keeps what it is given.
pub(crate) const RECORDED: &str = "recorded";
/// Whose jobs nobody takes.
pub(crate) const PARKED: &str = "parked";
/// Which the operator scales.
pub(crate) const SCALED: &str = "scaled";
/// Calls at once that no limit of a pool hinders.
const MANY: u32 = 100_000;
const MADE_WITHIN: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 8;

/// The place of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) target: OperatorTarget,
}

/// Makes a pool: with so many workers, or scaled by the operator; its jobs have these outputs.
pub(crate) async fn make(
    admin: &Client,
    name: &str,
    slots: u32,
    workers: Option<usize>,
    outputs: &[&str],
) -> Result<()> {
    let scaling = match workers {
        Some(_) => json!({"mode": "External", "maxReplicas": 1000}),
        None => json!({"mode": "Internal", "maxReplicas": 1000}),
    };
    let pool = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
        "metadata": {"name": name, "namespace": JOBS_NAMESPACE},
        "spec": {
            "service": {
                "endpoint": "http://service.bench.svc:50051", "outputs": outputs,
                "limits": {"maxInFlight": MANY},
            },
            "slotsPerWorker": slots, "scaling": scaling, "replicas": workers,
        },
    });
    let pool: VideoWorkerPool = serde_json::from_value(pool).context("a pool")?;
    let pools = Api::namespaced(admin.clone(), JOBS_NAMESPACE);
    let made = pools.create(&PostParams::default(), &pool).await;
    made.with_context(|| format!("make the pool {name}"))?;
    Ok(())
}

/// The namespace's ServiceAccount, which a controller would make.
pub(crate) async fn service_account(admin: &Client) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), JOBS_NAMESPACE);
    if accounts.get_opt("default").await?.is_none() {
        let account = from(json!({"metadata": {"name": "default"}}))?;
        accounts.create(&PostParams::default(), &account).await?;
    }
    Ok(())
}

/// Pods of a pool's Deployment, with a token each, once the operator has made it.
pub(crate) async fn seats(
    admin: &Client,
    pool: &str,
    count: usize,
    folder: &Path,
) -> Result<Vec<Seat>> {
    let deployment = deployment(admin, pool).await?;
    let template = json!(deployment.spec.as_ref().map(|spec| &spec.template));
    let set = replica_set(admin, &deployment, &template).await?;
    let ca_file = folder.join("dispatch-ca.crt");
    std::fs::write(&ca_file, bundle(admin).await?).context("write the dispatch CA")?;
    let seats = (0..count).map(async |number| -> Result<Seat> {
        let pod = pod(admin, number, &set, &template).await?;
        let token_file = folder.join(format!("token-{pool}-{number}"));
        std::fs::write(&token_file, worker_token(admin, &pod).await?).context("write a token")?;
        Ok(Seat {
            target: OperatorTarget {
                host: format!("{OPERATOR_SERVICE}.{RELEASE_NAMESPACE}.svc"),
                port: 8443,
                token_file,
                ca_file: ca_file.clone(),
            },
        })
    });
    futures::stream::iter(seats)
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).context("an object of Kubernetes")
}

async fn deployment(admin: &Client, pool: &str) -> Result<Deployment> {
    let api: Api<Deployment> = Api::namespaced(admin.clone(), JOBS_NAMESPACE);
    let name = worker_deployment_name(pool);
    until(&format!("Deployment {name}"), async || {
        Ok(api.get_opt(&name).await?)
    })
    .await
}

async fn bundle(admin: &Client) -> Result<String> {
    let api: Api<ConfigMap> = Api::namespaced(admin.clone(), JOBS_NAMESPACE);
    let map = until("the dispatch CA", async || {
        Ok(api.get_opt(DISPATCH_CA).await?)
    })
    .await?;
    let mut data = map.data.unwrap_or_default();
    data.remove(DISPATCH_CA_KEY)
        .context("the dispatch CA is empty")
}

async fn replica_set(
    admin: &Client,
    deployment: &Deployment,
    template: &Value,
) -> Result<ReplicaSet> {
    let api: Api<ReplicaSet> = Api::namespaced(admin.clone(), JOBS_NAMESPACE);
    let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
    let set = json!({
        "metadata": {
            "name": format!("{}-0", deployment.name_any()), "labels": template["metadata"]["labels"],
            "ownerReferences": [owner("Deployment", &deployment.name_any(), deployment.metadata.uid.as_ref())],
        },
        "spec": {"replicas": 0, "selector": selector, "template": template},
    });
    Ok(api.create(&PostParams::default(), &from(set)?).await?)
}

async fn pod(admin: &Client, number: usize, set: &ReplicaSet, template: &Value) -> Result<Pod> {
    let api: Api<Pod> = Api::namespaced(admin.clone(), JOBS_NAMESPACE);
    let pod = json!({
        "metadata": {
            "name": format!("{}-{number:05}", set.name_any()), "labels": template["metadata"]["labels"],
            "ownerReferences": [owner("ReplicaSet", &set.name_any(), set.metadata.uid.as_ref())],
        },
        "spec": template["spec"],
    });
    let made = api.create(&PostParams::default(), &from(pod)?).await;
    made.with_context(|| format!("make pod {number}"))
}

fn owner(kind: &str, name: &str, uid: Option<&String>) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true})
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + MADE_WITHIN;
    loop {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("the operator did not make {what}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
