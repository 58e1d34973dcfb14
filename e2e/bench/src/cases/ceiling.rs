//! What the uploader can do when the store costs nothing: throughput, CPU time, calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use super::Bench;
use super::crowds::{Way, crowd};
use super::streams::timed;
use crate::content::Video;
use crate::null::NullStore;
use crate::samples::mib;
use crate::servers::{self, PART, Parts, Peer, null_args};

const COUNTED: usize = 64;
const CLIENTS: usize = 16;
/// After this the uploader has also sent its deletes, which it batches.
const SETTLED: Duration = Duration::from_secs(1);

impl Bench {
    pub(super) async fn ceilings(&mut self) -> Result<()> {
        self.progress
            .step("idle memory, calls to the store, ceiling into a store that keeps nothing");
        let null = NullStore::start().await?;
        let args = null_args(null.address(), &self.setting.scratch)?;
        let kinora = servers::kinora(&self.setting, &args, "kinora-null").await?;
        tokio::time::sleep(self.plan.idle).await;
        self.samples
            .worst("rss_mib_idle", kinora.process.rss_mib()?);
        self.samples
            .worst("rss_anon_mib_idle", kinora.process.anon_mib()?);
        let tusd = servers::tusd(&self.setting, &args, Parts::Same).await?;
        tokio::time::sleep(self.plan.idle).await;
        self.samples
            .worst("tusd_rss_mib_idle", tusd.process.rss_mib()?);
        self.calls(&null, &kinora, &tusd).await?;
        self.progress
            .step("ceiling: large videos into the store that keeps nothing");
        timed(&kinora, &self.stream, 2, u64::MAX).await?;
        for _ in 0..self.plan.ceilings {
            null.clear();
            for (uploads, piece, rate, cpu) in [
                (1, u64::MAX, "null_mib_per_s_1", "cpu_s_per_gib_1"),
                (4, u64::MAX, "null_mib_per_s", "cpu_s_per_gib"),
                (4, PART, "null_mib_per_s_chunks", "cpu_s_per_gib_chunks"),
            ] {
                let done = timed(&kinora, &self.stream, uploads, piece).await?;
                self.samples.add(rate, done.mib_per_s);
                self.samples.add(cpu, done.cpu_s_per_gib);
            }
            let done = timed(&tusd, &self.stream, 4, u64::MAX).await?;
            self.samples.add("tusd_null_mib_per_s", done.mib_per_s);
            self.samples
                .add("tusd_null_cpu_s_per_gib", done.cpu_s_per_gib);
            let done = crowd(&kinora, &self.small, CLIENTS, self.plan.smalls, Way::Whole).await?;
            self.samples.add("null_small_per_s", done.per_s);
            self.samples.add("null_small_cpu_ms", done.cpu_ms);
        }
        for name in [
            "null_mib_per_s",
            "cpu_s_per_gib",
            "tusd_null_mib_per_s",
            "null_small_cpu_ms",
        ] {
            let value = self.samples.get(name).unwrap_or_default();
            self.progress.note(&format!("{name}: {value:.2}"));
        }
        Ok(())
    }

    /// Calls to the store for one upload, of each kind.
    async fn calls(&mut self, null: &NullStore, kinora: &Peer, tusd: &Peer) -> Result<()> {
        for (peer, way, name) in [
            (kinora, Way::Whole, "s3_calls_small"),
            (kinora, Way::Patch, "s3_calls_small_patch"),
            (tusd, Way::Whole, "tusd_s3_calls_small"),
            (tusd, Way::Patch, "tusd_s3_calls_small_patch"),
        ] {
            let (before, begun) = (null.calls(), Instant::now());
            let done = crowd(peer, &self.small, CLIENTS, COUNTED, way).await?;
            if let Some(error) = done.errors.first() {
                bail!("a small upload failed: {error}");
            }
            tokio::time::sleep(SETTLED).await;
            let after = null.calls();
            let mut calls = total(&after) - total(&before);
            if name.starts_with("s3_") {
                calls -= by_the_clock(deletes(&after) - deletes(&before), begun.elapsed());
            }
            self.samples.worst(name, calls as f64 / COUNTED as f64);
        }
        let video: Arc<Video> = self.stream.clone();
        for (peer, name) in [
            (kinora, "s3_calls_stream_beyond_parts"),
            (tusd, "tusd_s3_calls_stream_beyond_parts"),
        ] {
            let before = null.calls();
            timed(peer, &video, 1, u64::MAX).await?;
            tokio::time::sleep(SETTLED).await;
            let after = null.calls();
            let parts = mib(video.length()) / mib(PART);
            let calls = total(&after) - total(&before);
            self.samples.worst(name, calls as f64 - parts.ceil());
        }
        Ok(())
    }
}

/// After so long the uploader's janitor sends what it has; `LINGER` there.
const LINGER: Duration = Duration::from_millis(500);

/// Of the janitor's calls those that time alone brings: their number is the machine's, not that of the uploads.
fn by_the_clock(deletes: u64, elapsed: Duration) -> u64 {
    let turns = elapsed.as_millis() / LINGER.as_millis() + 1;
    deletes.min(u64::try_from(turns).unwrap_or(u64::MAX))
}

fn deletes(calls: &BTreeMap<&'static str, u64>) -> u64 {
    calls.get("DeleteObjects").copied().unwrap_or_default()
}

fn total(calls: &BTreeMap<&'static str, u64>) -> u64 {
    calls.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_machine_adds_no_calls_and_a_delete_for_each_upload_shows() {
        assert_eq!(by_the_clock(12, Duration::from_secs(6)), 12);
        assert_eq!(by_the_clock(100, Duration::from_secs(2)), 5);
    }
}
