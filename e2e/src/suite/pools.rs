//! Pools: another autoscaler over the scale subresource, a pod for each attempt, and the HTTP form of the protocol.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kinora_crds::VideoWorkerPool;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Case, Context, JOB, case};
use crate::stack::{JOBS_NAMESPACE, SERVICE_NAMESPACE};
use crate::{jobs, wait};

/// Enough for a pool's controller to react.
const SOON: Duration = Duration::from_mins(3);

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "an-hpa-s-number-survives-a-git-re-apply-of-a-manifest-without-replicas",
            external
        ),
        case!(
            "a-pool-with-a-pod-for-each-attempt-makes-one-and-removes-it-over-http",
            pod_per_attempt
        ),
        case!(
            "a-pool-whose-image-does-not-exist-says-so-and-works-once-it-does",
            no_image
        ),
    ]
}

fn pools(context: &Context) -> Api<VideoWorkerPool> {
    Api::namespaced(context.stack.client.clone(), JOBS_NAMESPACE)
}

async fn apply(context: &Context, name: &str, spec: &Value) -> Result<()> {
    let document = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
        "metadata": {"name": name, "namespace": JOBS_NAMESPACE}, "spec": spec,
    });
    let params = PatchParams::apply("argocd-controller").force();
    pools(context)
        .patch(name, &params, &Patch::Apply(&document))
        .await
        .with_context(|| format!("apply pool {name}"))?;
    Ok(())
}

/// GitOps row 14: GET of /scale, an HPA-like patch, and Git's manifest applied again.
async fn external(context: &Context) -> Result<()> {
    let (api, name) = (pools(context), "scaled-by-others");
    let spec = json!({
        "service": {"endpoint": format!("http://reference-service.{SERVICE_NAMESPACE}.svc:50051"), "outputs": ["video"]},
        "scaling": {"mode": "External", "maxReplicas": 3, "drainSeconds": 5},
    });
    apply(context, name, &spec).await?;
    let scale = api.get_scale(name).await.context("GET of /scale")?;
    let asked = scale.spec.and_then(|spec| spec.replicas);
    ensure!(
        asked == Some(1),
        "replicas without a word in Git: {asked:?}"
    );

    let patch = Patch::Merge(json!({"spec": {"replicas": 2}}));
    api.patch_scale(name, &PatchParams::default(), &patch)
        .await
        .context("patch /scale as an HPA does")?;
    apply(context, name, &spec).await?;
    wait::until("two workers to be asked for", SOON, || async {
        let pool = api.get(name).await?;
        ensure!(
            pool.spec.replicas == Some(2),
            "Git took the number back: {:?}",
            pool.spec.replicas
        );
        let desired = pool.status.and_then(|status| status.desired_replicas);
        Ok((desired == Some(2)).then_some(()))
    })
    .await?;
    let scale = api.get_scale(name).await?;
    let selector = scale.status.and_then(|status| status.selector);
    ensure!(
        selector.as_deref().is_some_and(|s| s.contains(name)),
        "an HPA finds no pods by {selector:?}"
    );
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// Waits for status and reason of the pool's condition Ready, and for what its message names.
async fn until_ready_is(
    api: &Api<VideoWorkerPool>,
    pool: &str,
    status: &str,
    reason: &str,
    names: &str,
) -> Result<()> {
    let what = format!("pool {pool} to say {reason}");
    wait::until(&what, SOON, || async {
        let pool = serde_json::to_value(api.get(pool).await?)?;
        let all = pool["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten();
        let ready = all.into_iter().find(|one| one["type"] == "Ready").cloned();
        let ready = ready.unwrap_or_default();
        let says = ready["message"].as_str().unwrap_or_default();
        let is_it = ready["status"] == status && ready["reason"] == reason && says.contains(names);
        ensure!(is_it, "it is {}", pool["status"]);
        Ok(Some(()))
    })
    .await
}

/// What is wrong, and what to do, where people look: on the pool, while its pods are retried in ever longer pauses.
async fn no_image(context: &Context) -> Result<()> {
    let (api, name) = (pools(context), "no-image");
    let image = format!(
        "{}/kinora-worker:never-built",
        context.options.images.registry
    );
    let spec = json!({
        "service": {"endpoint": format!("http://reference-service.{SERVICE_NAMESPACE}.svc:50051"), "outputs": ["video"]},
        "scaling": {"minReplicas": 1, "maxReplicas": 1, "drainSeconds": 5},
    });
    let mut broken = spec.clone();
    broken["template"] = json!({"image": image});
    apply(context, name, &broken).await?;
    until_ready_is(&api, name, "False", "ImagePullFailed", &image).await?;
    apply(context, name, &spec).await?;
    until_ready_is(&api, name, "True", "WorkersReady", "").await?;
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

async fn pod_per_attempt(context: &Context) -> Result<()> {
    let (stack, name) = (&context.stack, "films");
    let spec = json!({
        "execution": "PodPerAttempt",
        "service": {
            "protocol": "Http",
            "endpoint": format!("http://reference-service.{SERVICE_NAMESPACE}.svc:8082/process"),
            "outputs": ["video"], "timeoutSeconds": 120,
        },
        "scaling": {"maxReplicas": 2, "drainSeconds": 5},
        "retry": {"baseSeconds": 1, "maxSeconds": 2},
    });
    apply(context, name, &spec).await?;
    let key = context.import("film.mp4").await?;
    let job = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
        "metadata": {"name": "film", "namespace": JOBS_NAMESPACE},
        "spec": {"source": {"key": key}, "poolRef": {"name": name}},
    });
    stack.apply(&[job])?;
    let job = jobs::until_state(stack, "film", "Succeeded", JOB).await?;
    let status = jobs::status(&job);
    let worker = status.worker.context("no worker in the status")?;
    ensure!(
        worker.pod_name == format!("film-a{}", status.attempt),
        "{worker:?}"
    );
    let pods: Api<Pod> = Api::namespaced(stack.client.clone(), JOBS_NAMESPACE);
    wait::until("the attempt's pod to go", SOON, || async {
        Ok(pods
            .get_opt(&worker.pod_name)
            .await?
            .is_none()
            .then_some(()))
    })
    .await?;
    until_ready_is(&pools(context), name, "True", "ScaledToZero", "").await?;
    jobs::api(stack)
        .delete("film", &DeleteParams::default())
        .await?;
    pools(context)
        .delete(name, &DeleteParams::default())
        .await?;
    Ok(())
}
