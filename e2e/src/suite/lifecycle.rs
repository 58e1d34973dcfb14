//! The life of a job's object: cancel, suspend, TTL, and how many writes it costs.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::{Case, Context, JOB, case};
use crate::stack::SHORT_LIVED;
use crate::{jobs, promises, uploads, wait};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("an-idle-kinora-writes-nothing-but-leases", idle),
        case!(
            "a-finished-job-is-deleted-after-its-record-exists",
            deleted_after_record
        ),
        case!(
            "a-cancelled-job-ends-at-once-and-frees-its-worker",
            cancelled
        ),
        case!("a-successful-job-costs-four-api-writes", four_writes),
    ]
}

/// A leader renews its lease every second, so these are a minute: the pace of anything that would be written again and again.
const QUIET_RENEWALS: usize = 60;

/// covers: I10
async fn idle(context: &Context) -> Result<()> {
    let stack = &context.stack;
    // Ended jobs of other cases would be deleted by their TTL at any moment.
    jobs::api(stack)
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    let what = format!("{QUIET_RENEWALS} lease renewals in a row without any other write");
    wait::until(&what, Duration::from_mins(4), || async {
        let writes = crate::audit::writes(&stack.cluster)?;
        let ours = writes.iter().rev().filter(|write| write.by_kinora);
        let last: Vec<String> = ours.take(QUIET_RENEWALS).map(ToString::to_string).collect();
        let other = last.iter().find(|write| *write != "update leases");
        ensure!(other.is_none(), "{}", other.cloned().unwrap_or_default());
        Ok((last.len() == QUIET_RENEWALS).then_some(()))
    })
    .await
}

async fn deleted_after_record(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let base = stack.uploader().await?;
    let upload = uploads::post(stack, &base, context.bikes()?).await?;
    jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    let patch = json!({"spec": {"ttlSecondsAfterFinished": 1}});
    let api = jobs::api(stack);
    api.patch(
        &upload.job(),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await?;
    wait::until("the job to be deleted", JOB, || async {
        Ok(api.get_opt(&upload.job()).await?.is_none().then_some(()))
    })
    .await?;
    let id: kinora_storage::UploadId = upload.id.parse()?;
    let record = stack
        .store()
        .await?
        .get(&kinora_storage::keys::record_for_upload(&id))
        .await?;
    ensure!(record.is_some(), "the job went before its record was there");
    let video = uploads::video(stack, &base, &upload.id).await?;
    ensure!(
        video["state"] == "succeeded"
            && video["outputs"]
                .as_array()
                .is_some_and(|all| all.len() == 2),
        "{video}"
    );
    Ok(())
}

async fn cancelled(context: &Context) -> Result<()> {
    let stack = &context.stack;
    stack.faults(&json!({"latencyMs": 60_000})).await?;
    let upload = uploads::post(stack, &stack.uploader().await?, context.bikes()?).await?;
    jobs::until_called(stack, &upload.job(), JOB).await?;
    let patch = json!({"spec": {"cancelRequested": true}});
    jobs::api(stack)
        .patch(
            &upload.job(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await?;
    let job = jobs::until_state(stack, &upload.job(), "Cancelled", JOB).await?;
    ensure!(
        jobs::reason(&job) == "Cancelled",
        "reason {}",
        jobs::reason(&job)
    );
    stack.faults(&json!({})).await?;
    let next = uploads::post(stack, &stack.uploader().await?, context.bikes()?).await?;
    jobs::until_state(stack, &next.job(), "Succeeded", JOB).await?;
    Ok(())
}

async fn four_writes(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let base = stack.uploader().await?;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(uploads::post_with(stack, &base, context.bikes()?, SHORT_LIVED).await?);
    }
    let api = jobs::api(stack);
    for name in sent.iter().map(uploads::Uploaded::job) {
        wait::until(&format!("{name} to be deleted"), JOB, || async {
            Ok(api.get_opt(&name).await?.is_none().then_some(()))
        })
        .await?;
    }
    let (store, calls) = (stack.store().await?, jobs::Calls::read(stack).await?);
    let mut plain = 0;
    for upload in &sent {
        let name = upload.job();
        let writes = wait::until(
            &format!("the audit log to hold the delete of {name}"),
            Duration::from_secs(20),
            || async {
                let writes = crate::audit::writes_of_job(&stack.cluster, &name)?;
                Ok(writes
                    .iter()
                    .any(|write| write.verb == "delete")
                    .then_some(writes))
            },
        )
        .await?;
        let ours: Vec<String> = writes
            .iter()
            .filter(|write| write.by_kinora)
            .map(ToString::to_string)
            .collect();
        let attempts = usize::try_from(promises::record(&store, upload).await?.attempts)?;
        // An attempt that came to no call was claimed and ended, too.
        let most = 4 + 2 * attempts.saturating_sub(1);
        ensure!(
            (4..=most).contains(&ours.len()) && calls.of(&name) == 1,
            "{name} cost {} writes and {} calls in {attempts} attempts: {}",
            ours.len(),
            calls.of(&name),
            ours.join(", ")
        );
        plain += usize::from(ours.len() == 4);
    }
    ensure!(
        2 * plain > sent.len(),
        "only {plain} of {} jobs cost four writes",
        sent.len()
    );
    Ok(())
}
