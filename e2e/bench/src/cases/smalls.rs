//! Small videos, one request each: 16 clients beside plain PUTs and beside tusd, and once 256 clients.

use anyhow::{Result, bail};

use super::crowds::{Way, crowd};
use super::{Bench, Round, verify};
use crate::raw::Raw;

const CLIENTS: usize = 16;

impl Bench {
    pub(super) async fn smalls(&mut self, on: &Round, round: usize) -> Result<()> {
        let (small, count) = (self.small.clone(), self.plan.smalls);
        let raw = Raw::new(on.store.clone(), &small);
        for turn in 0..3 {
            match (turn + round) % 3 {
                0 => {
                    let per_s = raw.objects(CLIENTS, count).await?;
                    self.samples.add("raw_small_per_s", per_s);
                }
                1 => {
                    let done = crowd(&on.first, &small, CLIENTS, count, Way::Whole).await?;
                    if let Some(error) = done.errors.first() {
                        bail!("a small upload failed: {error}");
                    }
                    self.samples.add("small_per_s", done.per_s);
                    self.samples.add("small_p99_ms", done.p99_ms);
                    self.samples.add("small_cpu_ms", done.cpu_ms);
                    if let Some(path) = done.paths.last() {
                        verify(&on.store, path, &small, small.crc64()).await?;
                    }
                    self.progress.note(&format!(
                        "small videos, 16 clients: kinora {:.0}/s at {:.1} CPU-ms",
                        done.per_s, done.cpu_ms
                    ));
                }
                _ => {
                    let done = crowd(&on.tusd, &small, CLIENTS, count, Way::Whole).await?;
                    if let Some(error) = done.errors.first() {
                        bail!("a small upload to tusd failed: {error}");
                    }
                    self.samples.add("tusd_small_per_s", done.per_s);
                    self.samples.add("tusd_small_p99_ms", done.p99_ms);
                    self.samples.add("tusd_small_cpu_ms", done.cpu_ms);
                    self.progress.note(&format!(
                        "small videos, 16 clients: tusd {:.0}/s at {:.1} CPU-ms",
                        done.per_s, done.cpu_ms
                    ));
                }
            }
        }
        Ok(())
    }

    /// Many clients at once: nobody may be refused.
    pub(super) async fn crowd(&mut self, on: &Round) -> Result<()> {
        let (clients, count) = (self.plan.crowd, self.plan.crowd_smalls);
        for (peer, per_s, p99, errors) in [
            (&on.first, "crowd_per_s", "crowd_p99_ms", "crowd_errors"),
            (
                &on.tusd,
                "tusd_crowd_per_s",
                "tusd_crowd_p99_ms",
                "tusd_crowd_errors",
            ),
        ] {
            let done = crowd(peer, &self.small, clients, count, Way::Whole).await?;
            self.samples.add(per_s, done.per_s);
            self.samples.add(p99, done.p99_ms);
            self.samples.worst(errors, done.errors.len() as f64);
            self.progress.note(&format!(
                "small videos, {clients} clients: {:.0}/s, {} errors {}",
                done.per_s,
                done.errors.len(),
                done.errors.first().map_or("", String::as_str)
            ));
        }
        Ok(())
    }
}
