//! Many small videos at once, on a pool that the case makes as it needs it, while something goes wrong. In the end every
//! acknowledged upload is looked up, and nothing that was seen meanwhile may contradict an invariant.

mod absent;
mod stages;
mod tenants;
mod twins;
mod upgrades;
mod workers;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kinora_crds::{VideoJobStatus, VideoWorkerPool};
use kinora_storage::documents::Record;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Case, Context};
use crate::stack::{CROWD, JOBS_NAMESPACE, SERVICE_NAMESPACE, Stack};
use crate::uploads::{self, Uploaded};
use crate::watching::Watching;
use crate::{command, promises, wait};

/// For a crowd to be processed on a machine that does other things too.
const LIMIT: Duration = Duration::from_mins(5);
/// Selects the pool's workers.
const WORKERS: &str = "kinora.dev/pool=crowd";
/// Uploads at a time.
const CLIENTS: usize = 8;

pub(super) fn cases() -> Vec<Case> {
    [
        workers::cases(),
        absent::cases(),
        stages::cases(),
        twins::cases(),
        tenants::cases(),
        upgrades::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Calls that the service has seen begin.
async fn calls(stack: &Stack) -> Result<i64> {
    Ok(stack.calls().await?["total"].as_i64().unwrap_or_default())
}

/// A pool of its own, a tiny video, and somebody who watches every job.
pub(in crate::suite) struct Crowd<'a> {
    pub(in crate::suite) stack: &'a Stack,
    pub(in crate::suite) base: String,
    video: Bytes,
    pub(in crate::suite) uploads: Vec<Uploaded>,
    pub(in crate::suite) watching: Watching,
}

impl<'a> Crowd<'a> {
    /// Makes the pool: workers of four slots, calls of `faults`, and what `more` says of its spec.
    pub(in crate::suite) async fn gather(
        context: &'a Context,
        workers: i32,
        faults: Value,
        more: Value,
    ) -> Result<Self> {
        let stack = &context.stack;
        let mut faults = faults;
        faults["copy"] = true.into();
        stack.faults(&faults).await?;
        let mut spec = json!({
            "service": {
                "endpoint": format!("http://reference-service.{SERVICE_NAMESPACE}.svc:50051"),
                "outputs": ["video"], "timeoutSeconds": 60,
            },
            "expectedSeconds": 1, "slotsPerWorker": 4,
            "retry": {"baseSeconds": 1, "maxSeconds": 2},
            "scaling": {"minReplicas": workers, "maxReplicas": workers, "drainSeconds": 20},
        });
        json_patch::merge(&mut spec, &more);
        let document = json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
            "metadata": {"name": CROWD, "namespace": JOBS_NAMESPACE}, "spec": spec,
        });
        let crowd = Self {
            stack,
            base: stack.uploader().await?,
            video: tiny_video(context)?,
            uploads: Vec::new(),
            watching: Watching::begin(stack),
        };
        // A case that failed may have left one.
        crowd.disperse().await?;
        let params = PatchParams::apply("kinora-e2e").force();
        let pools = crowd.pools();
        pools
            .patch(CROWD, &params, &Patch::Apply(&document))
            .await
            .context("apply the pool")?;
        let slots = workers * 4;
        crowd
            .until_pool("to have its slots", |pool| {
                pool["status"]["totalSlots"] == slots
            })
            .await?;
        Ok(crowd)
    }

    fn pools(&self) -> Api<VideoWorkerPool> {
        Api::namespaced(self.stack.client.clone(), JOBS_NAMESPACE)
    }

    pub(in crate::suite) async fn until_pool(
        &self,
        what: &str,
        want: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        wait::until(&format!("the pool {what}"), LIMIT, || async {
            let pool = serde_json::to_value(self.pools().get(CROWD).await?)?;
            ensure!(want(&pool), "its status is {}", pool["status"]);
            Ok(Some(()))
        })
        .await
    }

    pub(in crate::suite) async fn patch_pool(&self, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.pools()
            .patch(CROWD, &PatchParams::default(), &patch)
            .await
            .context("patch the pool")?;
        Ok(())
    }

    /// Sends more videos; all are acknowledged.
    pub(in crate::suite) async fn upload(&mut self, count: usize) -> Result<()> {
        let sent =
            uploads::many(self.stack, &self.base, &self.video, CROWD, (count, CLIENTS)).await?;
        self.uploads.extend(sent);
        Ok(())
    }

    pub(in crate::suite) fn jobs(&self) -> Vec<String> {
        self.uploads.iter().map(Uploaded::job).collect()
    }

    /// Waits until so many of the jobs are in the state.
    pub(in crate::suite) async fn until_some(&self, count: usize, state: &str) -> Result<()> {
        let (what, jobs) = (format!("{count} jobs to be {state}"), self.jobs());
        let enough = |seen: &crate::watching::Seen| {
            let now = seen.count(&jobs, state);
            ensure!(now >= count, "{now} are");
            Ok(true)
        };
        self.watching.until(&what, LIMIT, enough).await
    }

    /// Takes the pool away and waits until its workers are gone.
    pub(in crate::suite) async fn disperse(&self) -> Result<()> {
        if self.pools().get_opt(CROWD).await?.is_some() {
            let gone = self.pools().delete(CROWD, &DeleteParams::default()).await;
            gone.context("delete the pool")?;
        }
        wait::until("the pool's workers to go", LIMIT, || async {
            let left = self.stack.pods(JOBS_NAMESPACE, WORKERS).await?;
            ensure!(left.is_empty(), "{}", told(&left));
            Ok(Some(()))
        })
        .await
    }

    /// Waits for the end of every job and looks up what was promised. Answers the last status of each, and its record.
    pub(in crate::suite) async fn end(self) -> Result<Vec<(VideoJobStatus, Record)>> {
        let key = self.stack.api_key.clone();
        self.end_for(|_| key.clone()).await
    }

    /// The same when the uploads are of several callers.
    async fn end_for(
        self,
        key_of: impl Fn(&Uploaded) -> String,
    ) -> Result<Vec<(VideoJobStatus, Record)>> {
        let jobs = self.jobs();
        self.watching.until_ended(&jobs, LIMIT).await?;
        let records = promises::kept_for(self.stack, &self.base, &self.uploads, key_of).await?;
        self.watching.nothing_wrong()?;
        let sights: Vec<_> = {
            let seen = self.watching.seen();
            let sight = |job: &String| seen.job(job).cloned().unwrap_or_default();
            jobs.iter().map(sight).collect()
        };
        for (job, sight) in jobs.iter().zip(&sights) {
            ensure!(sight.ends == 1, "{job} ended {} times", sight.ends);
            let status = &sight.status;
            ensure!(
                status.failures == 0 && status.rejections == 0,
                "{job} was charged: {status:?}"
            );
        }
        self.disperse().await?;
        Ok(sights
            .into_iter()
            .map(|sight| sight.status)
            .zip(records)
            .collect())
    }
}

/// Which pods there are, and why they may still be there.
fn told(pods: &[Pod]) -> String {
    let one = |pod: &Pod| {
        let meta = &pod.metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let containers = status.and_then(|status| status.container_statuses.as_ref());
        let states = containers.map(|all| all.iter().map(|one| &one.state).collect::<Vec<_>>());
        let (until, holders) = (&meta.deletion_timestamp, &meta.finalizers);
        format!("{name} {phase:?}, deletion {until:?}, finalizers {holders:?}, {states:?}")
    };
    pods.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A third of a second of nothing, about 2 kB.
fn tiny_video(context: &Context) -> Result<Bytes> {
    let path = context.scratch.join("tiny.mp4");
    let mut ffmpeg = Command::new(&context.ffmpeg);
    ffmpeg.args([
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
    ]);
    ffmpeg.args([
        "color=c=black:s=64x64:r=15:d=0.34",
        "-pix_fmt",
        "yuv420p",
        "-movflags",
        "+faststart",
    ]);
    ffmpeg.arg(&path);
    command::run(
        "ffmpeg makes a tiny video",
        &mut ffmpeg,
        Duration::from_mins(1),
    )?;
    Ok(std::fs::read(&path)
        .with_context(|| format!("read {}", path.display()))?
        .into())
}
