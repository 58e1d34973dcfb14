//! Kinora on the same node: its real worker pods, the reference service answering at once, jobs made through the API as the
//! uploader makes them, so that an item costs what a video costs after its upload.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, pin_mut, stream};
use kinora_crds::{JobSource, PoolRef, VideoJob, VideoJobSpec, VideoWorkerPool, names, state};
use kinora_storage::{Cell, UploadId, keys};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use serde_json::json;

use super::cost::{Idle, Measured, Meter};
use crate::jobs as look;
use crate::stack::{JOBS_NAMESPACE, SERVICE_NAMESPACE, Stack, StackOptions};
use crate::wait;

const POOL: &str = "compare";
const WORKERS: i32 = 2;
const SLOTS: i32 = 16;
/// Creates at a time.
const AT_ONCE: usize = 16;
const LIMIT: Duration = Duration::from_mins(20);
/// Only it may make jobs of uploads.
const UPLOADER: &str = "system:serviceaccount:kinora-system:kinora-uploader";

/// Installs Kinora and waits for the workers; nothing of that is measured.
///
/// # Errors
/// Something did not start.
pub(super) async fn ready(stack: &Stack, options: &StackOptions) -> Result<()> {
    stack.install(options).await?;
    stack.faults(&json!({"copy": true})).await?;
    let document = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
        "metadata": {"name": POOL, "namespace": JOBS_NAMESPACE},
        "spec": {
            "service": {"endpoint": format!("http://reference-service.{SERVICE_NAMESPACE}.svc:50051"), "timeoutSeconds": 60},
            "expectedSeconds": 1, "slotsPerWorker": SLOTS,
            "scaling": {"minReplicas": WORKERS, "maxReplicas": WORKERS, "drainSeconds": 20},
        },
    });
    let pools: Api<VideoWorkerPool> = Api::namespaced(stack.client.clone(), JOBS_NAMESPACE);
    let params = PatchParams::apply("kinora-e2e").force();
    let applied = pools.patch(POOL, &params, &Patch::Apply(&document)).await;
    applied.context("apply the pool")?;
    wait::until("the workers", LIMIT, || async {
        let slots = pools
            .get(POOL)
            .await?
            .status
            .and_then(|status| status.total_slots);
        Ok((slots == Some(WORKERS * SLOTS)).then_some(()))
    })
    .await
}

/// Makes the jobs and follows them until all are gone.
///
/// # Errors
/// One did not succeed, or the API server refused.
pub(super) async fn jobs(stack: &Stack, idle: Idle, count: usize) -> Result<Measured> {
    let cell: Cell = "a".parse()?;
    let uploader = stack.cluster.client_as(UPLOADER).await?;
    let api: Api<VideoJob> = Api::namespaced(uploader, JOBS_NAMESPACE);
    let meter = Meter::begin(&stack.cluster, idle)?;
    let make = |_| {
        let (api, job) = (api.clone(), job(&UploadId::mint(&cell)));
        async move {
            let made = api.create(&PostParams::default(), &job).await;
            made.map(|_| ()).context("create a VideoJob")
        }
    };
    let made = stream::iter(0..count)
        .map(make)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>();
    let both = async { tokio::try_join!(made, followed(stack, &meter, count)) };
    let ((), last) = tokio::time::timeout(LIMIT, both)
        .await
        .context("the jobs did not end")??;
    meter.end(count, last)
}

/// Until `count` jobs have come and gone; answers when the last one had succeeded.
async fn followed(stack: &Stack, meter: &Meter<'_>, count: usize) -> Result<Duration> {
    let events = watcher::watcher(look::api(stack), watcher::Config::default());
    pin_mut!(events);
    let (mut done, mut gone, mut last) = (HashSet::new(), 0, Duration::ZERO);
    while gone < count {
        match events.next().await.context("the watch of jobs ended")? {
            Ok(Event::Apply(job) | Event::InitApply(job)) => {
                let word = look::status(&job).state;
                ensure!(
                    !state::is_final(&word) || word == state::SUCCEEDED,
                    "{} is {word}",
                    job.name_any()
                );
                if word == state::SUCCEEDED && done.insert(job.name_any()) {
                    last = meter.elapsed();
                }
            }
            Ok(Event::Delete(_)) => gone += 1,
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => bail!("watch jobs: {error}"),
        }
    }
    Ok(last)
}

fn job(id: &UploadId) -> VideoJob {
    let spec = VideoJobSpec {
        source: JobSource {
            key: keys::video(id),
            size_bytes: Some(10_000_000),
            ..JobSource::default()
        },
        profile: Some("default".to_owned()),
        tenant: Some("demo".to_owned()),
        pool_ref: Some(PoolRef {
            name: POOL.to_owned(),
        }),
        ttl_seconds_after_finished: Some(1),
        ..VideoJobSpec::default()
    };
    let mut job = VideoJob::new(&names::job_name(id.as_str()), spec);
    let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    job.metadata.labels = Some(pair(names::LABEL_ORIGIN, names::ORIGIN_UPLOAD));
    job.metadata.annotations = Some(pair(names::ANNOTATION_UPLOAD_ID, id.as_str()));
    job
}
