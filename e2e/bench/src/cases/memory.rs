//! Memory with many large uploads at once, and with thousands of connections that send a little and then nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Bench;
use crate::content::Video;
use crate::http::Conn;
use crate::null::NullStore;
use crate::samples::{mib, p99_ms};
use crate::servers::{self, PART, Parts, Peer, null_args};
use crate::tus::Api;

/// What a client sends before it stalls.
const SENT: u64 = 16 << 10;
const AT_ONCE: usize = 64;
const SETTLE: Duration = Duration::from_secs(2);

impl Bench {
    pub(super) async fn memory(&mut self) -> Result<()> {
        let (active, stalled) = (self.plan.active, self.plan.stalled);
        self.progress.step(&format!(
            "memory: {active} large uploads at once, {stalled} stalled connections"
        ));
        let null = NullStore::start().await?;
        let args = null_args(null.address(), &self.setting.scratch)?;
        let kinora = servers::kinora(&self.setting, &args, "kinora-active").await?;
        let ours = self.active(&kinora, &null).await?;
        self.samples.worst("rss_mib_100", ours.peak);
        self.samples.add("active_ended", ours.ended as f64);
        self.samples.add("active_mib_per_s", ours.mib_per_s);
        drop(kinora);
        null.clear();
        let tusd = servers::tusd(&self.setting, &args, Parts::Same).await?;
        let theirs = self.active(&tusd, &null).await?;
        self.samples.worst("tusd_rss_mib_100", theirs.peak);
        self.samples.add("tusd_active_ended", theirs.ended as f64);
        self.samples.add("tusd_active_mib_per_s", theirs.mib_per_s);
        drop(tusd);
        null.clear();
        self.progress
            .note(&format!("{active} at once: kinora {ours}, tusd {theirs}"));
        let kinora = servers::kinora(&self.setting, &args, "kinora-stalled").await?;
        self.stalled(&kinora).await
    }

    /// Many large uploads at once, until they are broken off.
    async fn active(&self, peer: &Peer, null: &NullStore) -> Result<Active> {
        peer.process.forget_peak()?;
        let (before, begun) = (parts(null), Instant::now());
        let mut clients = JoinSet::new();
        for client in 0..self.plan.active {
            let (api, video) = (peer.api.clone(), Arc::clone(&self.stream));
            clients.spawn(async move { api.upload(client, &video, u64::MAX).await });
        }
        let deadline = begun + self.plan.active_for;
        let mut ended = 0;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, clients.join_next()).await {
            done?.context("one of many large uploads")?;
            ended += 1;
        }
        let stored = mib(PART * (parts(null) - before));
        Ok(Active {
            peak: peer.process.peak_mib()?,
            ended,
            mib_per_s: stored / begun.elapsed().as_secs_f64(),
        })
    }

    async fn stalled(&mut self, kinora: &Peer) -> Result<()> {
        let half = self.plan.stalled / 2;
        let medium = Arc::new(Video::new(self.plan.medium));
        kinora.process.forget_peak()?;
        let creating = stall(&kinora.api, &self.small, half, Stalls::Creating).await?;
        let patching = stall(&kinora.api, &medium, half, Stalls::Patching).await?;
        tokio::time::sleep(SETTLE).await;
        let settled = kinora.process.rss_mib()?;
        let mut times = Vec::new();
        for _ in 0..self.plan.healthy {
            let begun = Instant::now();
            let mut conn = kinora.api.connect(self.plan.stalled).await?;
            kinora.api.create_whole(&mut conn, &self.small).await?;
            times.push(begun.elapsed());
        }
        let peak = kinora.process.peak_mib()?;
        self.samples.worst("rss_mib_5000_stalled", peak);
        self.samples.worst("stalled_healthy_p99_ms", p99_ms(&times));
        self.progress.note(&format!(
            "{} stalled: {settled:.0} MiB, peak {peak:.0}; a healthy upload takes {:.0} ms (p99)",
            creating.len() + patching.len(),
            p99_ms(&times)
        ));
        Ok(())
    }
}

/// What came of many large uploads at once.
struct Active {
    /// Most memory, in MiB.
    peak: f64,
    /// Uploads that came to their end in time.
    ended: usize,
    /// What reached the store in parts.
    mib_per_s: f64,
}

impl fmt::Display for Active {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            peak,
            ended,
            mib_per_s,
        } = self;
        write!(
            out,
            "{peak:.0} MiB, {mib_per_s:.0} MiB/s, {ended} ended in time"
        )
    }
}

fn parts(null: &NullStore) -> u64 {
    null.calls().get("UploadPart").copied().unwrap_or_default()
}

/// In which request a client stalls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stalls {
    /// In a create that brings the whole file.
    Creating,
    /// In a PATCH of an upload that is there.
    Patching,
}

/// `count` clients that send a little of a body and then nothing; they stay for as long as they are held.
pub(super) async fn stall(
    api: &Api,
    video: &Arc<Video>,
    count: usize,
    stalls: Stalls,
) -> Result<Vec<Conn>> {
    let one = |client| async move {
        let mut conn = api.connect(client).await?;
        let length = video.length();
        if stalls == Stalls::Creating {
            api.begin_create(&mut conn, length, length).await?;
        } else {
            let path = api.create(&mut conn, length).await?;
            api.begin_patch(&mut conn, &path, 0, length).await?;
        }
        conn.send(video, 0..SENT).await?;
        anyhow::Ok(conn)
    };
    stream::iter(0..count)
        .map(one)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}
