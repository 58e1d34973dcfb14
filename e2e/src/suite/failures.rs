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
    ensure!(status.failures == 5 && status.attempt == 5, "{status:?}");
    ensure!(
        status
            .last_failure
            .is_some_and(|failure| !failure.message.is_empty()),
        "no lastFailure"
    );
    Ok(())
}

/// Passes the uploader's sniff, which looks at the first bytes only, and holds nothing to decode.
fn not_a_video() -> bytes::Bytes {
    let mut bytes = vec![0, 0, 0, 24];
    bytes.extend_from_slice(b"ftypisom\x00\x00\x02\x00isommp41");
    bytes.extend_from_slice(&100_000_u32.to_be_bytes());
    bytes.extend_from_slice(b"mdat");
    bytes.resize(100_024, 0x20);
    bytes.into()
}

async fn rejected(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let base = stack.uploader().await?;
    let good = uploads::post(stack, &base, context.bikes()?).await?;
    jobs::until_state(stack, &good.job(), "Succeeded", JOB).await?;
    let upload = uploads::post(stack, &base, not_a_video()).await?;
    let job = jobs::until_state(stack, &upload.job(), "DeadLettered", JOB).await?;
    ensure!(
        jobs::reason(&job) == "Rejected",
        "reason {}",
        jobs::reason(&job)
    );
    ensure!(
        jobs::status(&job).attempt == 1,
        "a pool that works needs one verdict, took {}",
        jobs::status(&job).attempt
    );
    Ok(())
}
