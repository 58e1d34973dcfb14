//! Bytes in: whole, cut, refused; and what comes out of them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Case, Context, JOB, case, padded_sample};
use crate::{jobs, uploads};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!(
            "an-uploaded-video-succeeds-and-its-outputs-decode",
            whole_video
        ),
        case!(
            "an-upload-cut-at-half-goes-on-at-another-replica",
            resumed_elsewhere
        ),
        case!(
            "a-text-file-that-calls-itself-mp4-is-refused-with-415",
            text_file
        ),
        case!(
            "a-request-without-a-valid-key-is-refused-with-401",
            wrong_key
        ),
    ]
}

async fn whole_video(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let base = stack.uploader().await?;
    let upload = uploads::post(stack, &base, context.bunny()?).await?;
    let job = jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    let calls = jobs::Calls::read(stack).await?;
    calls.exactly(1, &upload.id, &jobs::status(&job))?;

    let files = jobs::download(stack, &base, &upload.id, &context.scratch.join(&upload.id)).await?;
    ensure!(
        files.len() == 2,
        "expected video and thumbnail, got {files:?}"
    );
    let source = jobs::decode(
        &context.ffmpeg,
        &crate::tools::repository_root().join("e2e/samples/bigbuckbunny.mp4"),
    )?;
    for file in &files {
        let media = jobs::decode(&context.ffmpeg, file)?;
        if file.extension().is_some_and(|extension| extension == "mp4") {
            ensure!(
                (media.seconds - source.seconds).abs() < 0.3,
                "{} s of {} s",
                media.seconds,
                source.seconds
            );
            ensure!(media.height == 480 && media.codec == "h264", "{media:?}");
        } else {
            ensure!(media.codec == "mjpeg" && media.width > 0, "{media:?}");
        }
    }
    let video = uploads::video(stack, &base, &upload.id).await?;
    ensure!(video["state"] == "succeeded", "status says {video}");
    Ok(())
}

async fn resumed_elsewhere(context: &Context) -> Result<()> {
    let stack = &context.stack;
    let (first, second) = context.two_replicas().await?;
    let body = padded_sample("bikes.mp4", 21 << 20)?;
    let id = uploads::create(stack, &first, body.len()).await?;
    let half = body.len() / 2;
    uploads::patch_cut(stack, &first, &id, 0, &body, half).await?;

    let offset = uploads::head(stack, &second, &id).await?;
    ensure!(
        offset > 0 && offset <= half as u64,
        "offset {offset} after {half} bytes were sent"
    );
    let end = uploads::patch(
        stack,
        &second,
        &id,
        offset,
        body.slice(usize::try_from(offset)?..),
    )
    .await?;
    ensure!(
        end == body.len() as u64,
        "offset {end} at the end of {}",
        body.len()
    );

    let upload = uploads::Uploaded { id };
    let id: kinora_storage::UploadId = upload.id.parse()?;
    let stored = stack
        .store()
        .await?
        .get(&kinora_storage::keys::video(&id))
        .await?;
    ensure!(
        stored.is_some_and(|object| object.bytes == body),
        "the stored bytes differ from what was sent"
    );
    jobs::until_state(stack, &upload.job(), "Succeeded", JOB).await?;
    Ok(())
}

async fn text_file(context: &Context) -> Result<()> {
    let base = context.stack.uploader().await?;
    let names = async || -> Result<BTreeSet<String>> {
        let all = jobs::api(&context.stack);
        let all = all.list(&kube::api::ListParams::default()).await?;
        Ok(all.items.iter().map(kube::ResourceExt::name_any).collect())
    };
    let before = names().await?;
    let (status, problem) = uploads::post_refused(
        &context.stack,
        &base,
        "just text, whatever its name says ".repeat(50).into(),
        "video/mp4",
    )
    .await?;
    ensure!(status == 415, "answered {status}: {problem}");
    ensure!(
        problem["type"].is_string()
            && problem["detail"]
                .as_str()
                .is_some_and(|text| text.len() > 20),
        "{problem}"
    );
    // Older ones may go meanwhile.
    let after = names().await?;
    ensure!(
        after.is_subset(&before),
        "a refused upload left a job behind"
    );
    Ok(())
}

async fn wrong_key(context: &Context) -> Result<()> {
    let base = context.stack.uploader().await?;
    for token in ["demo.wrong", "nobody.secret", "", "demo"] {
        let answer = context
            .stack
            .http
            .post(format!("{base}/v1/uploads"))
            .bearer_auth(token)
            .body(context.bikes()?)
            .timeout(Duration::from_secs(20))
            .send()
            .await?;
        ensure!(
            answer.status() == 401,
            "token {token:?} answered {}",
            answer.status()
        );
    }
    Ok(())
}
