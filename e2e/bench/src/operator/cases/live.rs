//! Many live jobs: what the operator keeps of them, and what it does while nothing happens.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::ceiling::take;
use super::{Bench, PATIENCE};
use crate::operator::jobs::{self, PLAIN};
use crate::operator::pool::PARKED;
use crate::operator::replica::Replica;

const CREATES: usize = 24;
const LONG_TTL: u32 = 900;

impl Bench {
    /// So many more jobs that nobody takes.
    pub(super) async fn park(&self, count: usize) -> Result<()> {
        let left = Arc::new(AtomicUsize::new(count));
        let mut lines = JoinSet::new();
        for _ in 0..CREATES {
            let (left, api) = (Arc::clone(&left), jobs::api(&self.access.uploader));
            lines.spawn(async move {
                while take(&left) {
                    jobs::create(&api, &jobs::new(PARKED, PLAIN, LONG_TTL)?.job).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = lines.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Waits until every replica knows that so many jobs are live.
    pub(super) async fn all_seen(&self, replicas: &[Replica], count: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for replica in replicas {
            while replica.live_jobs().await? < count as u64 {
                if Instant::now() > deadline {
                    bail!("the operator does not see all jobs");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Memory, and the CPU time of a while in which nothing happens.
    pub(super) async fn idle(
        &mut self,
        replica: &Replica,
        [memory, cpu]: [&'static str; 2],
    ) -> Result<()> {
        let idle = self.plan.idle;
        // What the last jobs set off has time to end.
        tokio::time::sleep(idle / 2).await;
        let before = replica.process.cpu_seconds()?;
        tokio::time::sleep(idle).await;
        let used = replica.process.cpu_seconds()? - before;
        let percent = used * 100.0 / idle.as_secs_f64();
        let mib = replica.process.rss_mib()?;
        self.samples.worst(memory, mib);
        self.samples.worst(cpu, percent);
        self.progress
            .note(&format!("{mib:.1} MiB, {percent:.1} % of a core"));
        Ok(())
    }

    /// Memory of a replica that did not see the jobs come, but lists them.
    pub(super) async fn listed(&mut self, replicas: &mut [Replica; 2], place: usize) -> Result<()> {
        replicas[place].process.stop().await?;
        replicas[place] = Replica::start(&self.setting, place).await?;
        self.all_seen(&replicas[place..=place], self.plan.many)
            .await?;
        self.idle(
            &replicas[place],
            ["rss_mib_100k_listed", "cpu_percent_100k_listed"],
        )
        .await
    }
}
