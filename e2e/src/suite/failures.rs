//! What the service says, and what it costs the job.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Case, Context, JOB, case};
use crate::{jobs, uploads};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a-throttling-service-charges-no-failure", throttled),
        case!(
            "five-failures-end-in-the-dead-letter-state-with-the-reason",
            exhausted
        ),
        case!(
            "what-only-the-service-finds-to-be-no-video-is-dead-lettered-as-rejected",
            rejected
        ),
    ]
}

/// covers: F45, I5, T7
async fn throttled(context: &Context) -> Result<()> {
    let stack = &context.stack;
    stack
        .faults(&json!({"throttleRate": 1.0, "retryAfterMs": 1000}))
        .await?;
    let upload = uploads::post(stack, &stack.uploader().await?, context.bikes()?).await?;
    let held = jobs::until(
        stack,
        &upload.job(),
        "to back off at attempt 1 or later",
        JOB,
        |status| status.state == "Backoff" && status.next_attempt_time.is_some(),
    )
    .await?;
    ensure!(jobs::status(&held).failures == 0, "throttling was charged");
    stack.faults(&json!({})).await?;
    let job = jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    let status = jobs::status(&job);
    ensure!(status.attempt >= 2 && status.failures == 0, "{status:?}");
    Ok(())
}

async fn exhausted(context: &Context) -> Result<()> {
    let stack = &context.stack;
    stack
        .faults(&json!({"errorRate": 1.0, "errorCode": "INTERNAL"}))
        .await?;
    let upload = uploads::post(stack, &stack.uploader().await?, context.bikes()?).await?;
    let job = jobs::until_state(stack, &upload.job(), "DeadLettered", JOB).await?;
    let status = jobs::status(&job);
    ensure!(
        jobs::reason(&job) == "FailuresExhausted",
        "reason {}",
        jobs::reason(&job)
    );
    ensure!(status.failures == 5, "{status:?}");
    let calls = jobs::Calls::read(stack).await?;
    calls.exactly(5, &upload.id, &status)?;
    ensure!(
        status
            .last_failure
            .is_some_and(|failure| !failure.message.is_empty()),
        "no lastFailure"
    );
    Ok(())
}

/// A video whose container is whole, with spaces in place of its pictures and sound.
fn no_pictures(sample: &[u8]) -> Result<bytes::Bytes> {
    let mut file = sample.to_vec();
    let mut at = 0;
    while let Some(&[a, b, c, d, ref kind @ ..]) = file.get(at..at + 8) {
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        ensure!(size >= 8, "the sample has a box of {size} bytes at {at}");
        if kind == b"mdat" {
            let end = file.len().min(at + size);
            file[at + 8..end].fill(0x20);
            return Ok(file.into());
        }
        at += size;
    }
    anyhow::bail!("the sample has no media data")
}

async fn rejected(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let base = stack.uploader().await?;
    let good = uploads::post(stack, &base, context.bikes()?).await?;
    jobs::until_state(stack, &good.job(), "Succeeded", JOB).await?;
    let upload = uploads::post(stack, &base, no_pictures(&context.bikes()?)?).await?;
    let job = jobs::until_state(stack, &upload.job(), "DeadLettered", JOB).await?;
    ensure!(
        jobs::reason(&job) == "Rejected",
        "reason {}",
        jobs::reason(&job)
    );
    // A pool that works needs one verdict.
    let calls = jobs::Calls::read(stack).await?;
    calls.exactly(1, &upload.id, &jobs::status(&job))
}
