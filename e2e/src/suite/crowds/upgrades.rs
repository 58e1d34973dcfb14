//! The operator is upgraded and taken back while it works.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Case, Context, Crowd};
use crate::jobs::Calls;
use crate::stack::{Images, StackOptions};
use crate::suite::case;

pub(super) fn cases() -> Vec<Case> {
    vec![case!(
        "an-upgrade-and-the-way-back-under-load-lose-nothing-and-charge-nobody",
        there_and_back
    )]
}

/// Operators, uploaders and workers are all rolled twice. covers: I1, I5
async fn there_and_back(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let present = &context.options.images;
    let next = Images {
        registry: present.registry.clone(),
        tag: format!("{}-next", present.tag),
    };
    stack.tag_images(present, &next)?;
    let upgraded = StackOptions {
        images: next,
        ..context.options.clone()
    };
    let mut crowd = Crowd::gather(context, 3, json!({"latencyMs": 2_000}), json!({})).await?;
    crowd.upload(120).await?;
    crowd.until_some(8, "Succeeded").await?;
    let outcome = stack.upgrade(&upgraded).await;
    let sent = crowd.upload(60).await;
    stack.upgrade(&context.options).await?;
    outcome?;
    sent?;
    crowd.upload(20).await?;
    let statuses = crowd.end().await?;
    let calls = Calls::read(stack).await?;
    let mut unreached = 0;
    for (status, record) in &statuses {
        // On a machine that starts a dozen pods, an attempt may find no way to the service within its time: charged so too.
        let without_a_call = status.attempt - calls.of(&record.id);
        ensure!(
            status.interruptions <= without_a_call,
            "a rollout was charged to {}, {without_a_call} attempts came to no call: {status:?}",
            record.id
        );
        unreached += status.interruptions;
    }
    let again = statuses
        .iter()
        .filter(|(status, _)| status.attempt > 1)
        .count();
    println!(
        "    {} videos, {again} of them leased again, {unreached} attempts that found no way to the service",
        statuses.len()
    );
    Ok(())
}
