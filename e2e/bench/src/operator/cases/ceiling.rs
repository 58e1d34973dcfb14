//! The bare loop: what this machine's API server does of the four writes of a job, with nobody else at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use futures::StreamExt;
use kinora_crds::VideoJob;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::task::{JoinHandle, JoinSet};

use super::{Bench, own_cpu};
use crate::operator::jobs::{self, PLAIN, Statuses};
use crate::operator::pool::SERVED;

impl Bench {
    /// Sets of four writes a second.
    pub(super) async fn ceiling(&mut self, statuses: &Statuses) -> Result<f64> {
        let count = self.plan.jobs;
        let watch = watch(self.access.operator.clone()).await?;
        let uploader = jobs::api(&self.access.uploader);
        let operator = jobs::api(&self.access.operator);
        let left = Arc::new(AtomicUsize::new(count));
        let (cpu, own) = (self.control_plane_cpu()?, own_cpu()?);
        let began = Instant::now();
        let mut loops = JoinSet::new();
        for _ in 0..self.plan.at_once {
            let (left, statuses) = (Arc::clone(&left), statuses.clone());
            let (uploader, operator) = (uploader.clone(), operator.clone());
            loops.spawn(async move {
                while take(&left) {
                    set(&uploader, &operator, &statuses).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = loops.join_next().await {
            ended??;
        }
        let seconds = began.elapsed().as_secs_f64();
        watch.abort();
        let rate = count as f64 / seconds;
        let cpu_ms = (self.control_plane_cpu()? - cpu) * 1000.0 / count as f64;
        self.samples.add("ceiling_jobs_per_s", rate);
        self.samples.add("ceiling_control_plane_cpu_ms", cpu_ms);
        let own_ms = (own_cpu()? - own) * 1000.0 / count as f64;
        self.samples.add("ceiling_bench_cpu_ms", own_ms);
        self.progress.note(&format!(
            "{rate:.0} sets/s; API server and etcd {cpu_ms:.1} CPU-ms a set"
        ));
        Ok(rate)
    }
}

/// One of what is left, if there is any.
pub(super) fn take(left: &AtomicUsize) -> bool {
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    });
    taken.is_ok()
}

async fn set(
    uploader: &Api<VideoJob>,
    operator: &Api<VideoJob>,
    statuses: &Statuses,
) -> Result<()> {
    let made = jobs::create(uploader, &jobs::new(SERVED, PLAIN, 0)?.job).await?;
    let claimed = jobs::patch(operator, &made, &statuses.claim).await?;
    let finished = jobs::patch(operator, &claimed, &statuses.finish).await?;
    jobs::delete(operator, &finished).await
}

/// An open watch of all jobs, as the operator has one; it is open when this returns.
async fn watch(client: Client) -> Result<JoinHandle<()>> {
    let (opened, open) = tokio::sync::oneshot::channel();
    let mut opened = Some(opened);
    let watching = tokio::spawn(async move {
        let config = watcher::Config::default().streaming_lists();
        let mut events = std::pin::pin!(watcher(Api::<VideoJob>::all(client), config));
        while let Some(event) = events.next().await {
            if matches!(event, Ok(Event::InitDone))
                && let Some(opened) = opened.take()
            {
                let _ = opened.send(());
            }
        }
    });
    let open = tokio::time::timeout(super::PATIENCE, open).await;
    open.context("the watch did not open")??;
    Ok(watching)
}
