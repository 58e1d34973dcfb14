//! From create to the lease at a worker, at half of what Kinora can do, beside a bare create and status PUT.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kinora_crds::VideoJob;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Bench, within};
use crate::operator::crew::Crew;
use crate::operator::jobs::{self, PLAIN, Statuses};
use crate::operator::pool::{SERVED, Seat};
use crate::operator::replica::Replica;
use crate::samples::percentile_ms;

impl Bench {
    /// Both at the same rate.
    pub(super) async fn waits(&mut self, seats: &[Seat], statuses: &Statuses) -> Result<()> {
        let full = self.samples.get("jobs_per_s").context("no jobs/s")?;
        let rate = full / 2.0;
        self.samples.worst("half_load_per_s", rate);
        let bare = self.bare(rate, statuses).await?;
        let leases = self.leases(rate, seats).await?;
        let (bare_p99, lease_p99) = (percentile_ms(&bare, 99), percentile_ms(&leases, 99));
        for (name, value) in [
            ("bare_p50_ms", percentile_ms(&bare, 50)),
            ("bare_p99_ms", bare_p99),
            ("lease_p50_ms", percentile_ms(&leases, 50)),
            ("lease_p99_ms", lease_p99),
            ("lease_p99_ratio", lease_p99 / bare_p99),
        ] {
            self.samples.worst(name, value);
        }
        self.progress.note(&format!(
            "p50 {:.1} ms, p99 {lease_p99:.1} ms; bare p99 {bare_p99:.1} ms",
            percentile_ms(&leases, 50)
        ));
        Ok(())
    }

    async fn leases(&self, rate: f64, seats: &[Seat]) -> Result<Vec<Duration>> {
        let replica = Replica::start(&self.setting, 0).await?;
        self.lead(&replica).await?;
        let crew = Crew::start(seats.to_vec(), self.plan.slots);
        crew.all_connected().await?;
        let api = jobs::api(&self.access.uploader);
        let times = paced(rate, self.plan.waits, || {
            let (api, book) = (api.clone(), Arc::clone(&crew.book));
            let store = self.decisions();
            async move {
                let new = jobs::new(SERVED, PLAIN, 0)?;
                let expected = book.watch_for(&new.name);
                let began = Instant::now();
                new.submit(&api, &store).await?;
                let leased = within("a lease", expected.leased).await?;
                within("an acknowledgement", expected.acked).await?;
                Ok(leased - began)
            }
        });
        let times = times.await?;
        self.all_gone().await?;
        drop(crew);
        replica.process.stop().await?;
        Ok(times)
    }

    async fn bare(&self, rate: f64, statuses: &Statuses) -> Result<Vec<Duration>> {
        let uploader = jobs::api(&self.access.uploader);
        let operator = jobs::api(&self.access.operator);
        let admin = jobs::api(&self.access.admin);
        paced(rate, self.plan.waits, || {
            let (uploader, operator, admin) = (uploader.clone(), operator.clone(), admin.clone());
            let statuses = statuses.clone();
            async move {
                let new = jobs::new(SERVED, PLAIN, 0)?;
                let began = Instant::now();
                let made = jobs::create(&uploader, &new.job).await?;
                let claimed = put(&admin, &made, &statuses).await?;
                let took = began.elapsed();
                let finished = jobs::patch(&operator, &claimed, &statuses.finish).await?;
                jobs::delete(&operator, &finished).await?;
                Ok(took)
            }
        })
        .await
    }
}

/// The claim as a PUT.
async fn put(api: &Api<VideoJob>, made: &VideoJob, statuses: &Statuses) -> Result<VideoJob> {
    let mut job = json!(made);
    job["status"] = statuses.claim.clone();
    let job: VideoJob = serde_json::from_value(job)?;
    let params = PostParams::default();
    let written = api.replace_status(&made.name_any(), &params, &job).await;
    written.context("PUT a status")
}

/// Starts `count` of them with random gaps, so many a second on average; how long each took.
async fn paced<F>(rate: f64, count: usize, mut one: impl FnMut() -> F) -> Result<Vec<Duration>>
where
    F: Future<Output = Result<Duration>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut due = tokio::time::Instant::now();
    for _ in 0..count {
        tokio::time::sleep_until(due).await;
        running.spawn(one());
        let gap = -(1.0 - rand::random::<f64>()).ln() / rate;
        due += Duration::from_secs_f64(gap);
    }
    let mut times = Vec::new();
    while let Some(ended) = running.join_next().await {
        times.push(ended??);
    }
    Ok(times)
}
