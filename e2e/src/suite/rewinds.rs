//! The control plane forgets: etcd wiped, etcd from a backup, a definition or a namespace deleted by accident. Videos, records
//! and the list of what is open are in the store, so every accepted video still ends, and none twice.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kinora_storage::documents::Record;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::crowds::Crowd;
use super::{Case, Context, case};
use crate::stack::{JOBS_NAMESPACE, RELEASE_NAMESPACE, Stack};
use crate::uploads::Uploaded;
use crate::{promises, wait};

const LIMIT: Duration = Duration::from_mins(5);
const DEFINITION: &str = "videojobs.kinora.dev";

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("etcd-restored-from-a-backup-under-load-and-every-accepted-video-ends-once", restored),
        case!("a-definition-deleted-by-accident-and-applied-again-cancels-nothing", definition_deleted),
        case!("a-namespace-deleted-while-the-operator-is-down-hangs-nothing-and-cancels-nothing", namespace_deleted),
        case!("etcd-wiped-with-jobs-in-all-states-and-every-accepted-video-ends-once", wiped),
    ]
}

/// Calls of long duration: workers are busy until this is changed.
fn long() -> Value {
    json!({"copy": true, "latencyMs": 50_000})
}

fn short() -> Value {
    json!({"copy": true, "latencyMs": 100})
}

/// Uploads that ended before the fault, with what their records said then.
type Ended = BTreeMap<String, Record>;

async fn ended(stack: &Stack, uploads: &[Uploaded]) -> Result<Ended> {
    let (mut ended, store) = (Ended::new(), stack.store().await?);
    for upload in uploads {
        ended.insert(upload.id.clone(), promises::record(&store, upload).await?);
    }
    Ok(ended)
}

/// Their records are as they were, and the service was not called for them again.
async fn unchanged(stack: &Stack, before: &Ended, calls: &Value) -> Result<()> {
    let (now, store) = (stack.calls().await?, stack.store().await?);
    for (id, was) in before {
        let is = promises::record(&store, &Uploaded { id: id.clone() }).await?;
        ensure!(
            (is.attempts, is.redrives, is.state, &is.outputs)
                == (was.attempts, was.redrives, was.state, &was.outputs),
            "{id} had ended, and its record changed from {was:?} to {is:?}"
        );
        let key = format!("{id}.0");
        let (was, is) = (&calls["calls"][&key], &now["calls"][&key]);
        ensure!(
            was == is,
            "{id} had ended, and the service was called for it again: {was} calls, then {is}"
        );
    }
    Ok(())
}

/// covers: F25, F33, I1
async fn restored(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let mut crowd = Crowd::gather(context, 2, json!({"latencyMs": 1_500}), json!({})).await?;
    // In the backup these run, wait, or have just ended; later all of them have.
    crowd.upload(24).await?;
    crowd.until_some(8, "Succeeded").await?;
    let backup = stack.cluster.state_dir().join("etcd-backup");
    stack.cluster.back_up_etcd(&backup).await?;
    let jobs = crowd.jobs();
    crowd.watching.until_ended(&jobs, LIMIT).await?;
    let old = ended(stack, &crowd.uploads).await?;
    // These are not in the backup: some end before it is restored, some do not.
    let known = crowd.uploads.len();
    stack.faults(&short()).await?;
    crowd.upload(6).await?;
    let jobs = crowd.jobs();
    crowd.watching.until_ended(&jobs, LIMIT).await?;
    let new = ended(stack, &crowd.uploads[known..]).await?;
    stack.faults(&long()).await?;
    crowd.upload(14).await?;
    crowd.until_some(8, "Running").await?;
    crowd.watching.nothing_wrong()?;
    let calls = stack.calls().await?;

    stack.cluster.replace_etcd(Some(&backup)).await?;
    std::fs::remove_dir_all(&backup).with_context(|| format!("remove {}", backup.display()))?;
    stack.ready(&context.options).await?;
    stack.faults(&short()).await?;
    promises::kept(stack, &crowd.base, &crowd.uploads).await?;
    unchanged(stack, &old, &calls).await?;
    unchanged(stack, &new, &calls).await?;
    crowd.disperse().await
}

/// covers: F25, F33, I1
async fn wiped(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let more = json!({"service": {"adaptive": {"enabled": false}}});
    let mut crowd = Crowd::gather(context, 2, json!({"latencyMs": 100}), more).await?;
    crowd.upload(10).await?;
    crowd.until_some(10, "Succeeded").await?;
    stack.faults(&json!({"reject": true})).await?;
    crowd.upload(2).await?;
    crowd.until_some(2, "DeadLettered").await?;
    let done = ended(stack, &crowd.uploads).await?;
    let finished = crowd.uploads.len();
    stack
        .faults(&json!({"throttleRate": 1.0, "retryAfterMs": 60_000, "next": 2}))
        .await?;
    crowd.upload(2).await?;
    crowd.until_some(2, "Backoff").await?;
    stack.faults(&long()).await?;
    crowd.upload(16).await?;
    crowd.until_some(8, "Running").await?;
    let open = crowd.uploads.split_off(finished);

    stack.cluster.replace_etcd(None).await?;
    stack.install(&context.options).await?;
    drop(crowd);
    let mut crowd = Crowd::gather(context, 2, json!({"latencyMs": 100}), json!({})).await?;
    promises::kept(stack, &crowd.base, &open).await?;
    // The service began anew as well: it knows of no call for what had ended.
    unchanged(stack, &done, &json!({})).await?;
    crowd.uploads = open;
    crowd.end().await.map(|_| ())
}

/// covers: F25, I1
async fn definition_deleted(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let mut crowd = Crowd::gather(context, 2, json!({"latencyMs": 100}), json!({})).await?;
    crowd.upload(4).await?;
    crowd.until_some(4, "Succeeded").await?;
    let done = ended(stack, &crowd.uploads).await?;
    stack.faults(&long()).await?;
    crowd.upload(12).await?;
    crowd.until_some(8, "Running").await?;
    let calls = stack.calls().await?;
    stack
        .cluster
        .kubectl(&["delete", "crd", DEFINITION, "--wait=true"])?;
    // Helm brings back what is missing.
    stack.upgrade(&context.options).await?;
    stack.faults(&short()).await?;
    promises::kept(stack, &crowd.base, &crowd.uploads).await?;
    unchanged(stack, &done, &calls).await?;
    crowd.disperse().await
}

async fn scale_operator(context: &Context, replicas: u32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(context.stack.client.clone(), RELEASE_NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch_scale("kinora-operator", &PatchParams::default(), &patch)
        .await?;
    wait::until(&format!("{replicas} operators"), LIMIT, || async {
        let pods = context
            .stack
            .pods(RELEASE_NAMESPACE, "app.kubernetes.io/component=operator")
            .await?;
        Ok((pods.len() == replicas as usize).then_some(()))
    })
    .await
}

/// covers: F25, I1, I11
async fn namespace_deleted(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let mut crowd = Crowd::gather(
        context,
        2,
        json!({"latencyMs": 100}),
        json!({"scaling": {"drainSeconds": 5}}),
    )
    .await?;
    stack.faults(&long()).await?;
    crowd.upload(12).await?;
    crowd.until_some(8, "Running").await?;
    scale_operator(context, 0).await?;
    let namespaces: Api<Namespace> = Api::all(stack.client.clone());
    namespaces
        .delete(JOBS_NAMESPACE, &DeleteParams::default())
        .await?;
    wait::until("the namespace to go", LIMIT, || async {
        Ok(namespaces
            .get_opt(JOBS_NAMESPACE)
            .await?
            .is_none()
            .then_some(()))
    })
    .await?;
    stack.namespaces_and_secrets()?;
    scale_operator(context, context.options.operator_replicas).await?;
    stack.upgrade(&context.options).await?;
    let open = std::mem::take(&mut crowd.uploads);
    drop(crowd);
    let mut crowd = Crowd::gather(context, 2, json!({"latencyMs": 100}), json!({})).await?;
    promises::kept(stack, &crowd.base, &open).await?;
    crowd.uploads = open;
    crowd.end().await.map(|_| ())
}
