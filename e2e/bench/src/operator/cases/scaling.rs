//! A backlog comes to an idle pool: when its Deployment asks for enough workers, and whether for too many.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kinora_crds::names::worker_deployment_name;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ceiling::take;
use super::{Bench, PATIENCE};
use crate::operator::access::JOBS_NAMESPACE;
use crate::operator::jobs::{self, PLAIN};
use crate::operator::pool::SCALED;

const CREATES: usize = 16;
/// Too many are asked for within this, if at all.
const AFTER: Duration = Duration::from_secs(2);

impl Bench {
    pub(super) async fn scaling(&mut self) -> Result<()> {
        let needed = i32::try_from(self.plan.backlog).context("backlog")?;
        let (seen, mut replicas) = mpsc::unbounded_channel();
        let watching = tokio::spawn(watch(self.access.admin.clone(), seen));
        asked(&mut replicas, |asked| asked == 0).await?;
        let (first_created, last_created) = self.backlog().await?;
        let first = asked(&mut replicas, |asked| asked > 0).await?;
        let all = if first.1 >= needed {
            first
        } else {
            asked(&mut replicas, |asked| asked >= needed).await?
        };
        let mut most = all.1;
        while let Ok(Some((_, asked))) = tokio::time::timeout(AFTER, replicas.recv()).await {
            most = most.max(asked);
        }
        watching.abort();
        let seconds =
            |(at, _): (Instant, i32), since| at.saturating_duration_since(since).as_secs_f64();
        let worst = seconds(first, first_created).max(seconds(all, last_created));
        let beyond = f64::from(most - needed) * 100.0 / f64::from(needed);
        self.samples.worst("scale_s", worst);
        self.samples.worst("overscale_percent", beyond);
        self.progress.note(&format!(
            "{needed} jobs: first patch after {:.2} s, {most} replicas {:.2} s after the last of them",
            seconds(first, first_created),
            seconds(all, last_created)
        ));
        Ok(())
    }

    /// When the first job was there, and the last.
    async fn backlog(&self) -> Result<(Instant, Instant)> {
        let left = Arc::new(AtomicUsize::new(self.plan.backlog));
        let mut lines = JoinSet::new();
        for _ in 0..CREATES {
            let (left, api) = (Arc::clone(&left), jobs::api(&self.access.uploader));
            lines.spawn(async move {
                let mut made = Vec::new();
                while take(&left) {
                    jobs::create(&api, &jobs::new(SCALED, PLAIN, 0)?.job).await?;
                    made.push(Instant::now());
                }
                anyhow::Ok(made)
            });
        }
        let mut made = Vec::new();
        while let Some(ended) = lines.join_next().await {
            made.extend(ended??);
        }
        let (first, last) = (made.iter().min(), made.iter().max());
        Ok((*first.context("no job")?, *last.context("no job")?))
    }
}

/// The first such number of replicas that the Deployment asks for.
async fn asked(
    replicas: &mut mpsc::UnboundedReceiver<(Instant, i32)>,
    wanted: impl Fn(i32) -> bool,
) -> Result<(Instant, i32)> {
    let found = async {
        loop {
            let seen = replicas.recv().await.context("the watch ended")?;
            if wanted(seen.1) {
                return Ok(seen);
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.context("the Deployment is not scaled")?
}

async fn watch(client: Client, seen: mpsc::UnboundedSender<(Instant, i32)>) {
    let api: Api<Deployment> = Api::namespaced(client, JOBS_NAMESPACE);
    let name = format!("metadata.name={}", worker_deployment_name(SCALED));
    let config = watcher::Config::default().fields(&name);
    let mut events = std::pin::pin!(watcher(api, config));
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(found) | Event::InitApply(found)) = event else {
            continue;
        };
        let replicas = found.spec.and_then(|spec| spec.replicas);
        if seen.send((Instant::now(), replicas.unwrap_or(0))).is_err() {
            return;
        }
    }
}
