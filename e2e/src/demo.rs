//! `cargo xtask demo`: a real video through a real cluster, with the accidents that a fleet of phones and workers has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use serde_json::json;

use crate::cluster::Cluster;
use crate::stack::{Images, JOBS_NAMESPACE, Stack, StackOptions};
use crate::suite::{padded_sample, sample};
use crate::tools::repository_root;
use crate::uploads::Uploaded;
use crate::{jobs, uploads};

const LIMIT: Duration = Duration::from_mins(5);

/// What a demo leaves behind, for the closing words.
struct Sent {
    label: &'static str,
    upload: Uploaded,
}

/// Installs Kinora on a running cluster and plays the demo; leaves the cluster up.
///
/// # Errors
/// The step that failed; the state is saved below `target/e2e/demo`.
pub async fn play(cluster: Cluster, images: Images, ffmpeg: PathBuf) -> Result<()> {
    let options = StackOptions {
        images,
        operator_replicas: 1,
        uploader_replicas: 2,
        upload_ttl_floor_seconds: 900,
        scale_down_seconds: 60,
    };
    step(
        "installing Kinora with Helm (operator, uploader, default pool) and the reference processing service",
    );
    let stack = Stack::attach(cluster).await?;
    stack.install(&options).await?;
    match scenes(&stack, &ffmpeg).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let saved = crate::diagnose::save(&stack, "demo").await;
            Err(error.context(format!(
                "the demo failed; objects and logs are in {}",
                saved.display()
            )))
        }
    }
}

async fn scenes(stack: &Stack, ffmpeg: &std::path::Path) -> Result<()> {
    stack.faults(&json!({})).await?;
    let mut sent = whole_files(stack).await?;
    refused(stack).await?;
    sent.push(cut_and_resumed(stack).await?);
    sent.push(worker_killed(stack).await?);
    watch_until_done(stack, &sent).await?;
    keep_outputs(stack, &sent, ffmpeg).await?;
    next_steps(stack, &sent).await
}

async fn whole_files(stack: &Stack) -> Result<Vec<Sent>> {
    let base = stack.uploader().await?;
    let mut sent = Vec::new();
    for (label, name) in [("bunny", "bigbuckbunny.mp4"), ("bikes", "bikes.mp4")] {
        let body = sample(name)?;
        let size = body.len();
        let began = Instant::now();
        let upload = uploads::post(stack, &base, body).await?;
        step(&format!(
            "uploaded {name} ({size} bytes) in {} ms: {}",
            began.elapsed().as_millis(),
            upload.job()
        ));
        sent.push(Sent { label, upload });
    }
    Ok(sent)
}

async fn refused(stack: &Stack) -> Result<()> {
    let text = "This is not a video, though its name ends in mp4.\n".repeat(40);
    let (status, problem) =
        uploads::post_refused(stack, &stack.uploader().await?, text.into(), "video/mp4").await?;
    ensure!(
        status == 415,
        "a text file was answered with {status}: {problem}"
    );
    step(&format!(
        "a text file that calls itself mp4 is refused: {status} {}",
        problem["detail"].as_str().unwrap_or_default()
    ));
    Ok(())
}

async fn cut_and_resumed(stack: &Stack) -> Result<Sent> {
    let replicas = stack.uploader_replicas().await?;
    let (first, second) = (
        &replicas[0],
        replicas
            .get(1)
            .context("the demo needs two uploader replicas")?,
    );
    let body = padded_sample("bikes.mp4", 21 << 20)?;
    let id = uploads::create(stack, first, body.len()).await?;
    let half = body.len() / 2;
    uploads::patch_cut(stack, first, &id, 0, &body, half).await?;
    let offset = uploads::head(stack, second, &id).await?;
    step(&format!(
        "cut a {} MiB upload after {half} bytes; the other replica vouches for {offset}",
        body.len() >> 20
    ));
    let end = uploads::patch(
        stack,
        second,
        &id,
        offset,
        body.slice(usize::try_from(offset)?..),
    )
    .await?;
    ensure!(
        end == body.len() as u64,
        "the resumed upload ended at {end} of {}",
        body.len()
    );
    let upload = Uploaded { id };
    step(&format!("resumed there and finished: {}", upload.job()));
    Ok(Sent {
        label: "resumed",
        upload,
    })
}

async fn worker_killed(stack: &Stack) -> Result<Sent> {
    stack.faults(&json!({"latencyMs": 6000})).await?;
    let upload = uploads::post(stack, &stack.uploader().await?, sample("bikes.mp4")?).await?;
    let job = jobs::until_called(stack, &upload.job(), LIMIT).await?;
    let (pod, uid) = jobs::worker(&job)?;
    jobs::kill_container(stack, &uid, "worker").await?;
    stack.faults(&json!({})).await?;
    step(&format!(
        "killed the worker process of {pod} with -9 while it held {}",
        upload.job()
    ));
    Ok(Sent {
        label: "interrupted",
        upload,
    })
}

async fn watch_until_done(stack: &Stack, sent: &[Sent]) -> Result<()> {
    step("kubectl get videojobs, as it changes:");
    let api = jobs::api(stack);
    let mut shown: BTreeMap<String, (String, i32)> = BTreeMap::new();
    let began = Instant::now();
    loop {
        let mut done = 0;
        let mut changed = false;
        for job in api.list(&ListParams::default()).await?.items {
            let name = job.metadata.name.clone().unwrap_or_default();
            if !sent.iter().any(|one| one.upload.job() == name) {
                continue;
            }
            let status = jobs::status(&job);
            ensure!(
                status.state != "DeadLettered",
                "{name} was dead-lettered: {}",
                jobs::reason(&job)
            );
            done += usize::from(status.state == "Succeeded");
            changed |= shown.insert(name, (status.state.clone(), status.attempt))
                != Some((status.state, status.attempt));
        }
        if changed {
            println!(
                "{}",
                stack
                    .cluster
                    .kubectl(&["-n", JOBS_NAMESPACE, "get", "videojobs"])?
            );
        }
        if done == sent.len() {
            return Ok(());
        }
        ensure!(
            began.elapsed() < LIMIT,
            "{done} of {} jobs succeeded within {} s",
            sent.len(),
            LIMIT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn keep_outputs(stack: &Stack, sent: &[Sent], ffmpeg: &std::path::Path) -> Result<()> {
    let root = repository_root().join("target/demo");
    let base = stack.uploader().await?;
    for one in sent {
        for file in jobs::download(stack, &base, &one.upload.id, &root.join(one.label)).await? {
            let media = jobs::decode(ffmpeg, &file)?;
            let path = file.strip_prefix(repository_root()).unwrap_or(&file);
            step(&format!(
                "{}: {} {}x{}, {:.1} s",
                path.display(),
                media.codec,
                media.width,
                media.height,
                media.seconds
            ));
        }
    }
    let attempts = jobs::status(
        &jobs::api(stack)
            .get(&sent.last().context("nothing was sent")?.upload.job())
            .await?,
    )
    .attempt;
    ensure!(
        attempts == 2,
        "the interrupted job should have taken two attempts, it took {attempts}"
    );
    Ok(())
}

async fn next_steps(stack: &Stack, sent: &[Sent]) -> Result<()> {
    let target = format!(
        "{}:8080",
        stack
            .cluster_ip(crate::stack::RELEASE_NAMESPACE, "kinora-uploader")
            .await?
    );
    let port = stack.cluster.forward("uploader", None, &target)?;
    let id = &sent[0].upload.id;
    let key_file = stack.cluster.state_dir().join("demo-api-key");
    let xtask = crate::cluster::xtask_for(stack.cluster.name());
    println!(
        "
All videos succeeded. The cluster stays up; try next:
  {xtask} kubectl -n {JOBS_NAMESPACE} get videojobs
  {xtask} kubectl -n {JOBS_NAMESPACE} describe videojob {}
  {xtask} kubectl -n {JOBS_NAMESPACE} get videoworkerpools
  KEY=demo.$(cat {})
  curl -H \"Authorization: Bearer $KEY\" --data-binary @e2e/samples/bikes.mp4 -H 'Content-Type: video/mp4' http://127.0.0.1:{port}/v1/uploads
  curl -H \"Authorization: Bearer $KEY\" http://127.0.0.1:{port}/v1/videos/{id}
  {xtask} cluster down",
        sent[0].upload.job(),
        key_file.display()
    );
    Ok(())
}

fn step(text: &str) {
    println!("demo: {text}");
}
