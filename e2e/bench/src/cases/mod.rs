//! The measurements, in the order in which they run.

mod ceiling;
mod crowds;
mod cuts;
mod memory;
mod parked;
mod smalls;
mod streams;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kinora_storage::testing::Weed;
use kinora_storage::{Store, UploadId, checksum, keys};

use crate::content::Video;
use crate::kube::Kube;
use crate::plan::{Part, Plan};
use crate::progress::Progress;
use crate::samples::Samples;
use crate::servers::{self, Parts, Peer, Setting};

/// A run under way.
pub(crate) struct Bench {
    pub(crate) setting: Setting,
    pub(crate) plan: Plan,
    pub(crate) samples: Samples,
    pub(crate) progress: Progress,
    stream: Arc<Video>,
    small: Arc<Video>,
}

/// All that a round on the real store needs.
struct Round {
    store: Store,
    /// Two replicas of Kinora.
    first: Peer,
    second: Peer,
    tusd: Peer,
    weed: Weed,
}

impl Bench {
    /// A run that has not begun.
    pub(crate) fn new(setting: Setting, plan: Plan) -> Self {
        let parts = [
            (Part::Ceiling, 2),
            (Part::Memory, 1),
            (Part::Rounds, 1 + plan.rounds),
        ];
        let of_plan = parts.iter().filter(|(part, _)| plan.has(*part));
        let steps = of_plan.map(|(_, steps)| steps).sum();
        Self {
            stream: Arc::new(Video::new(plan.stream)),
            small: Arc::new(Video::new(plan.small)),
            setting,
            samples: Samples::default(),
            progress: Progress::new(steps),
            plan,
        }
    }

    /// Measures everything.
    pub(crate) async fn run(&mut self) -> Result<()> {
        let kube = Kube::start().await?;
        self.setting.kubeconfig = kube.kubeconfig(&self.setting.scratch)?;
        if self.plan.has(Part::Ceiling) {
            self.ceilings().await?;
        }
        if self.plan.has(Part::Memory) {
            self.memory().await?;
        }
        if self.plan.has(Part::Rounds) {
            self.rounds().await?;
        }
        Ok(())
    }

    async fn rounds(&mut self) -> Result<()> {
        for round in 0..self.plan.rounds {
            let rounds = self.plan.rounds;
            self.progress.step(&format!(
                "round {} of {rounds} on SeaweedFS: start store and servers",
                round + 1
            ));
            let on = self.begin_round().await?;
            self.streams(&on, round).await?;
            self.smalls(&on, round).await?;
            self.cuts(&on).await?;
            self.parked(&on).await?;
            if round == 0 {
                self.crowd(&on).await?;
            }
            self.killed(&on).await?;
        }
        self.progress
            .step("tusd as it is by itself: 50 MiB parts, ten in flight");
        self.tusd_by_itself().await
    }

    /// A store with nothing in it and fresh servers: what a round leaves behind does not burden the next.
    async fn begin_round(&mut self) -> Result<Round> {
        let weed = Weed::start().await?;
        let store = weed.store()?;
        let args = weed.args();
        let (first, second, tusd) = tokio::try_join!(
            servers::kinora(&self.setting, &args, "kinora-1"),
            servers::kinora(&self.setting, &args, "kinora-2"),
            servers::tusd(&self.setting, &args, Parts::Same),
        )?;
        Ok(Round {
            store,
            first,
            second,
            tusd,
            weed,
        })
    }
}

/// That an upload of `video` is in the store, byte for byte as its checksum tells.
async fn verify(store: &Store, path: &str, video: &Video, crc: u64) -> Result<()> {
    let id = path.rsplit('/').next().unwrap_or_default();
    let id = id
        .parse::<UploadId>()
        .map_err(|_| anyhow::anyhow!("{path} is no URL of an upload"))?;
    let head = store.head(&keys::video(&id)).await?;
    let head = head.with_context(|| format!("the video of {path} is not in the store"))?;
    ensure!(
        head.size == video.length(),
        "{path}: {} bytes are stored of {}",
        head.size,
        video.length()
    );
    let stored = head.crc64nvme.as_deref().and_then(checksum::from_base64);
    ensure!(
        stored == Some(crc),
        "{path}: the stored bytes are not those that were sent"
    );
    Ok(())
}
