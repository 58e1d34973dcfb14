//! The control plane fails, the data does not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use serde_json::json;

use super::{Case, Context, JOB, case, padded_sample};
use crate::stack::{RELEASE_NAMESPACE, Stack};
use crate::{jobs, uploads, wait};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "an-operator-leader-killed-in-mid-job-does-not-cost-an-attempt",
            leader_killed
        ),
        case!(
            "an-upload-during-an-api-server-restart-is-acknowledged-and-its-job-follows",
            api_server_restarted
        ),
    ]
}

/// Who leads: `<pod>_<uid>`.
pub(super) async fn holder(stack: &Stack) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(stack.client.clone(), RELEASE_NAMESPACE);
    let lease = leases.get("kinora-operator").await?;
    lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .filter(|holder| !holder.is_empty())
        .context("nobody leads")
}

/// covers: F28, I6
async fn leader_killed(context: &Context) -> Result<()> {
    let stack = &context.stack;
    stack.faults(&json!({"latencyMs": 25_000})).await?;
    let upload = uploads::post(stack, &stack.uploader().await?, context.bikes()?).await?;
    let before = jobs::status(&jobs::until_called(stack, &upload.job(), JOB).await?);
    let leader = holder(stack).await?;
    let uid = leader
        .split_once('_')
        .map(|(_, uid)| uid.to_owned())
        .context("holder is <pod>_<uid>")?;
    jobs::kill_container(stack, &uid, "operator").await?;
    let job = jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    let after = jobs::status(&job);
    ensure!(
        after.attempt == before.attempt,
        "attempt {} became {}",
        before.attempt,
        after.attempt
    );
    let calls = jobs::Calls::read(stack).await?;
    calls.exactly(1, &upload.id, &after)
}

/// covers: F1, F18
async fn api_server_restarted(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let base = context.two_replicas().await?.0;
    let body = padded_sample("bikes.mp4", 10 << 20)?;
    let id = uploads::create(stack, &base, body.len()).await?;
    let offset = uploads::patch(stack, &base, &id, 0, body.slice(..4 << 20)).await?;
    stack.cluster.stop_apiserver()?;
    let end = uploads::patch(
        stack,
        &base,
        &id,
        offset,
        body.slice(usize::try_from(offset)?..),
    )
    .await;
    stack.cluster.start_apiserver().await?;
    ensure!(
        end? == body.len() as u64,
        "the upload was not acknowledged while the API server was away"
    );
    let upload = uploads::Uploaded { id };
    let api = jobs::api(stack);
    wait::until("the job to follow", JOB, || async {
        Ok(api.get_opt(&upload.job()).await?)
    })
    .await?;
    let job = jobs::until_state(
        stack,
        &upload.job(),
        "Succeeded",
        JOB + Duration::from_mins(1),
    )
    .await?;
    ensure!(
        jobs::status(&job).failures == 0,
        "the outage was charged: {:?}",
        jobs::status(&job)
    );
    Ok(())
}
