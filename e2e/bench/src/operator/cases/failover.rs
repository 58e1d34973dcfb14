//! The leader is killed, and some workers with it: when work goes on, and when every running job has a place again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Bench, PATIENCE};
use crate::operator::crew::Crew;
use crate::operator::jobs::{self, PLAIN};
use crate::operator::pool::SERVED;
use crate::operator::replica::Replica;

/// New jobs keep coming.
const NEW_EVERY: Duration = Duration::from_millis(100);

impl Bench {
    /// Kills the one that leads and starts it anew afterwards.
    pub(super) async fn failover(
        &mut self,
        crew: &mut Crew,
        replicas: &mut [Replica; 2],
    ) -> Result<()> {
        crew.book.forget();
        let (running, ends) = self.running(crew, self.plan.running).await?;
        let leader = self.leader(replicas).await?;
        let mut doomed = HashSet::new();
        for job in &running {
            if doomed.len() < self.plan.killed {
                doomed.insert(job.worker);
            }
        }
        let survivors: HashSet<String> = running
            .iter()
            .filter(|job| !doomed.contains(&job.worker))
            .map(|job| job.uid.clone())
            .collect();
        let orphans: HashSet<String> = running
            .iter()
            .filter(|job| doomed.contains(&job.worker))
            .map(|job| job.uid.clone())
            .collect();
        let began = Instant::now();
        replicas[leader].process.kill_hard()?;
        for worker in &doomed {
            crew.cut(*worker);
        }
        let (first, settled) = self.watch(crew, &orphans, began).await?;
        for worker in &doomed {
            crew.replace(*worker);
        }
        self.end(crew, ends).await?;
        // A survivor's job was adopted, if nobody got it again.
        let leases = crew.book.since(began);
        let again = leases
            .iter()
            .filter(|(uid, leased)| survivors.contains(uid) && leased.attempt > 1);
        self.samples.worst("not_adopted", again.count() as f64);
        self.samples.worst("failover_s", first.as_secs_f64());
        self.samples.worst("settled_s", settled.as_secs_f64());
        self.progress.note(&format!(
            "first lease after {:.2} s; {} jobs of killed workers leased again after {:.2} s",
            first.as_secs_f64(),
            orphans.len(),
            settled.as_secs_f64()
        ));
        replicas[leader] = Replica::start(&self.setting, leader).await?;
        crew.all_connected().await
    }

    /// New jobs come until the orphans are leased again: when the first lease came, and the last of theirs.
    async fn watch(
        &self,
        crew: &Crew,
        orphans: &HashSet<String>,
        began: Instant,
    ) -> Result<(Duration, Duration)> {
        let api = jobs::api(&self.access.uploader);
        let deadline = began + PATIENCE;
        loop {
            let new = jobs::new(SERVED, PLAIN, 0)?;
            new.submit(&api, &self.decisions()).await?;
            let leases = crew.book.since(began);
            let again: Vec<Instant> = leases
                .iter()
                .filter(|(uid, leased)| orphans.contains(uid) && leased.attempt > 1)
                .map(|(_, leased)| leased.at)
                .collect();
            if again.len() >= orphans.len() {
                let first = leases.first().context("no lease")?.1.at;
                let last = again.iter().max().copied().unwrap_or(first);
                return Ok((first - began, last - began));
            }
            if Instant::now() > deadline {
                bail!(
                    "only {} of {} jobs were leased again after the fail-over",
                    again.len(),
                    orphans.len()
                );
            }
            tokio::time::sleep(NEW_EVERY).await;
        }
    }
}
