//! The peers: pods that end at once, deleted when they have; and batch/v1 Jobs of the same pod with a TTL of 0.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, pin_mut, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};

use super::cost::{Idle, Measured, Meter};
use crate::stack::Stack;

const NAMESPACE: &str = "peers";
const LIMIT: Duration = Duration::from_mins(20);
/// Creates at a time.
const AT_ONCE: usize = 16;

fn pod_spec(image: &str) -> Value {
    json!({
        "restartPolicy": "Never", "automountServiceAccountToken": false,
        "containers": [{"name": "true", "image": image, "imagePullPolicy": "IfNotPresent", "args": ["true"]}],
    })
}

async fn namespace(stack: &Stack) -> Result<()> {
    stack.apply(&[
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
    ])?;
    let namespaces: Api<Namespace> = Api::all(stack.client.clone());
    namespaces
        .get(NAMESPACE)
        .await
        .context("the peers' namespace")?;
    Ok(())
}

fn ended(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded"))
}

/// Follows all pods until `count` of them have come and gone; `ours`: whoever has ended is deleted here. Answers when the last
/// one had ended.
async fn followed(api: &Api<Pod>, meter: &Meter<'_>, count: usize, ours: bool) -> Result<Duration> {
    let events = watcher::watcher(api.clone(), watcher::Config::default());
    pin_mut!(events);
    let (mut done, mut gone, mut last) = (HashSet::new(), 0, Duration::ZERO);
    while gone < count {
        match events.next().await.context("the watch of pods ended")? {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                let name = pod.name_any();
                if ended(&pod) && done.insert(name.clone()) {
                    last = meter.elapsed();
                    if ours {
                        let deleted = api.delete(&name, &DeleteParams::default()).await;
                        deleted.context("delete a pod")?;
                    }
                }
            }
            Ok(Event::Delete(_)) => gone += 1,
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => bail!("watch pods: {error}"),
        }
    }
    Ok(last)
}

/// Follows Jobs until `count` of them are gone.
async fn deleted(api: &Api<Job>, count: usize) -> Result<()> {
    let events = watcher::watcher(api.clone(), watcher::Config::default());
    pin_mut!(events);
    let mut gone = 0;
    while gone < count {
        match events.next().await.context("the watch of Jobs ended")? {
            Ok(Event::Delete(_)) => gone += 1,
            Ok(_) => {}
            Err(error) => bail!("watch Jobs: {error}"),
        }
    }
    Ok(())
}

async fn create<K>(api: &Api<K>, count: usize, object: impl Fn(usize) -> Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let make = |n: usize| {
        let (api, object) = (api.clone(), object(n));
        async move {
            let object: K = serde_json::from_value(object)?;
            let made = api.create(&PostParams::default(), &object).await;
            made.map(|_| ()).context("create one")
        }
    };
    stream::iter(0..count)
        .map(make)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Pods are made, run, and deleted by us as soon as they have ended.
///
/// # Errors
/// One did not end, or the API server refused.
pub(super) async fn bare_pods(
    stack: &Stack,
    idle: Idle,
    image: &str,
    count: usize,
) -> Result<Measured> {
    namespace(stack).await?;
    let api: Api<Pod> = Api::namespaced(stack.client.clone(), NAMESPACE);
    let meter = Meter::begin(&stack.cluster, idle)?;
    let pod = |n| json!({"metadata": {"name": format!("bare-{n}")}, "spec": pod_spec(image)});
    let both = async {
        tokio::try_join!(
            create(&api, count, pod),
            followed(&api, &meter, count, true)
        )
    };
    let ((), last) = tokio::time::timeout(LIMIT, both)
        .await
        .context("the pods did not end")??;
    meter.end(count, last)
}

/// Jobs with a TTL of 0; their controllers make the pods, and delete both.
///
/// # Errors
/// One did not end, or the API server refused.
pub(super) async fn native_jobs(
    stack: &Stack,
    idle: Idle,
    image: &str,
    count: usize,
) -> Result<Measured> {
    namespace(stack).await?;
    let jobs: Api<Job> = Api::namespaced(stack.client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(stack.client.clone(), NAMESPACE);
    let meter = Meter::begin(&stack.cluster, idle)?;
    let job = |n| {
        let template = json!({"spec": pod_spec(image)});
        let spec = json!({"ttlSecondsAfterFinished": 0, "backoffLimit": 0, "template": template});
        json!({"metadata": {"name": format!("native-{n}")}, "spec": spec})
    };
    let all = async {
        tokio::try_join!(
            create(&jobs, count, job),
            followed(&pods, &meter, count, false),
            deleted(&jobs, count)
        )
    };
    let ((), last, ()) = tokio::time::timeout(LIMIT, all)
        .await
        .context("the Jobs did not end")??;
    meter.end(count, last)
}
