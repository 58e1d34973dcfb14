//! `cargo xtask figures`: what one job costs on the installed Kinora, counted and measured in one run.
//!
//! Latencies are of this machine; writes and sizes are not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kinora_crds::VideoJob;
use kube::runtime::wait::await_condition;
use serde::Serialize;
use serde_json::json;

use crate::cluster::Cluster;
use crate::stack::{Images, JOBS_NAMESPACE, RELEASE_NAMESPACE, SHORT_LIVED, Stack, StackOptions};
use crate::suite::sample;
use crate::{audit, jobs, uploads, wait};

const JOBS: usize = 20;
const LIMIT: Duration = Duration::from_mins(3);

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Jobs that were counted.
    pub jobs: usize,
    /// API writes of Kinora to VideoJobs, a job.
    pub writes_per_job: f64,
    /// The same by verb and resource.
    pub writes_by_kind: BTreeMap<String, f64>,
    /// Kinora's writes to anything else, over the run, by verb and resource.
    pub other_writes: BTreeMap<String, usize>,
    /// Seconds of the run.
    pub seconds: f64,
    /// POST of the 1 MB sample begun → Succeeded seen by a watch, warm worker, median in milliseconds.
    pub upload_to_succeeded_p50_ms: u128,
    /// The slowest of them.
    pub upload_to_succeeded_max_ms: u128,
    /// POST of the 1 MB sample, median in milliseconds.
    pub upload_p50_ms: u128,
    /// Bytes of a VideoJob as the API server stores it, managedFields included.
    pub videojob_bytes_at_create: usize,
    /// The same of a finished one with two outputs.
    pub videojob_bytes_finished: usize,
    /// Resident memory of the processes in MiB, by component; of several replicas the largest.
    pub rss_mib: BTreeMap<&'static str, f64>,
}

/// Installs Kinora with the shortest TTL, so that the deletes are counted too, and measures it.
///
/// # Errors
/// As [`measure`], or the install failed.
pub async fn run(cluster: Cluster, images: Images) -> Result<Figures> {
    let stack = Stack::attach(cluster).await?;
    stack
        .install(&StackOptions {
            images,
            operator_replicas: 1,
            uploader_replicas: 2,
            upload_ttl_floor_seconds: 1,
            scale_down_seconds: 60,
        })
        .await?;
    measure(&stack, JOBS).await
}

/// Uploads `count` videos one after another and counts what they cost.
///
/// # Errors
/// A job did not succeed or the cluster did not answer.
pub async fn measure(stack: &Stack, count: usize) -> Result<Figures> {
    stack.faults(&json!({})).await?;
    let base = stack.uploader().await?;
    let warm = uploads::post(stack, &base, sample("bigbuckbunny.mp4")?).await?;
    jobs::until_state(stack, &warm.job(), "Succeeded", LIMIT).await?;

    let before = audit::writes(&stack.cluster)?.len();
    let began = Instant::now();
    let mut posts = Vec::new();
    let mut ends = Vec::new();
    let mut names = Vec::new();
    for _ in 0..count {
        let (post, end, name) = one(stack, &base).await?;
        posts.push(post);
        ends.push(end);
        names.push(name);
    }
    for name in &names {
        deleted(stack, name).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let (ours, other) = writes_since(stack, before, &names)?;
    let (at_create, finished) = sizes(stack, &base).await?;
    Ok(Figures {
        jobs: count,
        writes_per_job: ours.values().sum::<usize>() as f64 / count as f64,
        writes_by_kind: ours
            .into_iter()
            .map(|(kind, writes)| (kind, writes as f64 / count as f64))
            .collect(),
        other_writes: other,
        seconds,
        upload_to_succeeded_p50_ms: median(&mut ends),
        upload_to_succeeded_max_ms: ends.iter().copied().max().unwrap_or_default(),
        upload_p50_ms: median(&mut posts),
        videojob_bytes_at_create: at_create,
        videojob_bytes_finished: finished,
        rss_mib: memory(stack).await?,
    })
}

async fn one(stack: &Stack, base: &str) -> Result<(u128, u128, String)> {
    let began = Instant::now();
    let upload = uploads::post_with(stack, base, sample("bigbuckbunny.mp4")?, SHORT_LIVED).await?;
    let posted = began.elapsed().as_millis();
    let succeeded =
        |job: Option<&VideoJob>| job.is_some_and(|job| jobs::status(job).state == "Succeeded");
    let name = upload.job();
    let waiting = await_condition(jobs::api(stack), &name, succeeded);
    tokio::time::timeout(LIMIT, waiting)
        .await
        .with_context(|| format!("{name} did not succeed"))??;
    Ok((posted, began.elapsed().as_millis(), name))
}

async fn deleted(stack: &Stack, name: &str) -> Result<()> {
    wait::until(
        &format!("the audit log to hold the delete of {name}"),
        LIMIT,
        || async {
            let writes = audit::writes_of_job(&stack.cluster, name)?;
            Ok(writes
                .iter()
                .any(|write| write.verb == "delete")
                .then_some(()))
        },
    )
    .await
}

type Counts = BTreeMap<String, usize>;

fn writes_since(stack: &Stack, before: usize, names: &[String]) -> Result<(Counts, Counts)> {
    let mut ours = Counts::new();
    let mut other = Counts::new();
    for write in audit::writes(&stack.cluster)?
        .iter()
        .skip(before)
        .filter(|write| write.by_kinora)
    {
        let of_a_job = write.resource.starts_with("videojobs") && names.contains(&write.name);
        let counts = if of_a_job { &mut ours } else { &mut other };
        *counts.entry(write.to_string()).or_insert(0) += 1;
    }
    Ok((ours, other))
}

/// A job that waits behind busy workers, then the same job at its end.
async fn sizes(stack: &Stack, base: &str) -> Result<(usize, usize)> {
    stack.faults(&json!({"latencyMs": 4000})).await?;
    let mut last = None;
    for _ in 0..6 {
        last = Some(
            uploads::post(stack, base, sample("bikes.mp4")?)
                .await?
                .job(),
        );
    }
    let name = last.context("nothing was uploaded")?;
    let queued = raw(stack, &name)?;
    ensure!(
        queued.contains("\"state\":\"Queued\""),
        "{name} did not wait: {queued}"
    );
    stack.faults(&json!({})).await?;
    jobs::until_state(stack, &name, "Succeeded", LIMIT).await?;
    Ok((queued.len(), raw(stack, &name)?.len()))
}

fn raw(stack: &Stack, name: &str) -> Result<String> {
    let path = format!("/apis/kinora.dev/v1alpha1/namespaces/{JOBS_NAMESPACE}/videojobs/{name}");
    stack.cluster.kubectl(&["get", "--raw", &path])
}

async fn memory(stack: &Stack) -> Result<BTreeMap<&'static str, f64>> {
    let mut found = BTreeMap::new();
    for (component, namespace, selector) in [
        (
            "operator",
            RELEASE_NAMESPACE,
            "app.kubernetes.io/component=operator",
        ),
        (
            "uploader",
            RELEASE_NAMESPACE,
            "app.kubernetes.io/component=uploader",
        ),
        ("worker", JOBS_NAMESPACE, "kinora.dev/pool=default"),
    ] {
        for pod in stack.pods(namespace, selector).await? {
            let uid = pod.metadata.uid.unwrap_or_default();
            let Ok(pid) = stack.cluster.container_pid(&uid, component) else {
                continue;
            };
            let largest = found.entry(component).or_insert(0.0_f64);
            *largest = largest.max(resident_mib(pid)?);
        }
    }
    Ok(found)
}

fn resident_mib(pid: i32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok((kib / 102.4).round() / 10.0)
}

fn median(values: &mut [u128]) -> u128 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
