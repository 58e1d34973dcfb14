//! Workers that die, drain and scale while they hold a job.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use serde_json::json;

use super::{Case, Context, JOB, case};
use crate::stack::JOBS_NAMESPACE;
use crate::{jobs, uploads, wait};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "a-worker-killed-in-mid-job-costs-an-attempt-and-only-the-second-one-counts",
            killed
        ),
        case!(
            "a-busy-pod-that-is-deleted-finishes-its-call-as-attempt-1",
            drained
        ),
        case!(
            "a-busy-pod-deleted-with-grace-0-is-lost-and-nothing-is-charged",
            deleted_at_once
        ),
        case!(
            "workers-go-from-zero-to-n-on-backlog-and-back-to-zero",
            scaled
        ),
    ]
}

/// Uploads a video whose call takes `milliseconds` more and waits until the call runs.
async fn busy(context: &Context, milliseconds: u64) -> Result<(uploads::Uploaded, String, String)> {
    let stack = &context.stack;
    stack.faults(&json!({"latencyMs": milliseconds})).await?;
    let upload = uploads::post(stack, &stack.uploader().await?, context.bikes()?).await?;
    let job = jobs::until_called(stack, &upload.job(), JOB).await?;
    let (pod, uid) = jobs::worker(&job)?;
    Ok((upload, pod, uid))
}

/// covers: F38
async fn killed(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let (upload, _, uid) = busy(context, 60_000).await?;
    jobs::kill_container(stack, &uid, "worker").await?;
    stack.faults(&json!({})).await?;
    let job = jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    let status = jobs::status(&job);
    let calls = jobs::Calls::read(stack).await?.of(&upload.id);
    ensure!(
        calls == 2 && status.attempt >= 2,
        "succeeded after {calls} calls: {status:?}"
    );
    ensure!(
        status.failures == 0,
        "a killed worker was charged as a failure of the job"
    );
    let winner = status.worker.context("no worker in the final status")?;
    let prefix = format!("/{}-{}/", status.attempt, &winner.pod_uid[..8]);
    let outputs = status.outputs;
    ensure!(outputs.len() == 2, "{outputs:?}");
    for output in outputs {
        ensure!(
            output.uri.contains(&prefix),
            "{} is not of attempt {} ({prefix})",
            output.uri,
            status.attempt
        );
    }
    Ok(())
}

/// covers: F44
async fn drained(context: &Context) -> Result<()> {
    let stack = &context.stack;
    // Shorter than its pool's drainSeconds.
    let (upload, pod, _) = busy(context, 20_000).await?;
    jobs::delete_pod(stack, &pod, None).await?;
    let job = jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    let calls = jobs::Calls::read(stack).await?;
    calls
        .exactly(1, &upload.id, &jobs::status(&job))
        .context("a draining worker lost its call")?;
    gone(context, &pod).await
}

async fn deleted_at_once(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let (upload, pod, _) = busy(context, 20_000).await?;
    jobs::delete_pod(stack, &pod, Some(0)).await?;
    stack.faults(&json!({})).await?;
    let job = jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    let status = jobs::status(&job);
    let calls = jobs::Calls::read(stack).await?.of(&upload.id);
    ensure!(calls == 2, "succeeded after {calls} calls: {status:?}");
    // Only an attempt that came to no call may be charged.
    ensure!(
        status.failures == 0 && status.interruptions <= status.attempt - calls,
        "charged: {status:?}"
    );
    Ok(())
}

async fn gone(context: &Context, pod: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(context.stack.client.clone(), JOBS_NAMESPACE);
    wait::until(&format!("pod {pod} to go"), JOB, || async {
        Ok(pods.get_opt(pod).await?.is_none().then_some(()))
    })
    .await
}

/// covers: F34, T21
async fn scaled(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let deployments: Api<Deployment> = Api::namespaced(stack.client.clone(), JOBS_NAMESPACE);
    let replicas = |want: fn(i32) -> bool, what: &'static str| {
        let deployments = deployments.clone();
        async move {
            wait::until(what, Duration::from_mins(2), || async {
                let found = deployments.get("default-workers").await?;
                let now = found.spec.and_then(|spec| spec.replicas).unwrap_or(-1);
                ensure!(want(now), "{now} replicas");
                Ok(Some(now))
            })
            .await
        }
    };
    replicas(|now| now == 0, "the idle pool to scale to zero").await?;
    stack.faults(&json!({"latencyMs": 4_000})).await?;
    let base = stack.uploader().await?;
    let mut jobs_made = Vec::new();
    for _ in 0..6 {
        jobs_made.push(uploads::post(stack, &base, context.bikes()?).await?);
    }
    replicas(
        |now| now == 3,
        "six jobs to scale the pool to its maximum of 3",
    )
    .await?;
    stack.faults(&json!({})).await?;
    for upload in &jobs_made {
        let job = jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
        let calls = jobs::Calls::read(stack).await?;
        calls
            .exactly(1, &upload.id, &jobs::status(&job))
            .context("scaling cost an attempt")?;
    }
    replicas(|now| now == 0, "the drained pool to scale back to zero").await?;
    Ok(())
}
