//! Jobs a second through Kinora, and what each of them costs.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use anyhow::{Context, Result};
use kinora_crds::VideoJob;
use kinora_storage::testing::Weed;
use kube::Api;
use tokio::task::JoinSet;

use super::ceiling::take;
use super::{Bench, own_cpu, per, within};
use crate::operator::audit::{Mark, Writes};
use crate::operator::book::Book;
use crate::operator::crew::Crew;
use crate::operator::jobs::{self, Decisions, PLAIN};
use crate::operator::pool::{self, RECORDED, SERVED, Seat};
use crate::operator::replica::{Replica, Setting};

/// What had been used before.
struct Before {
    control_plane: f64,
    operator: f64,
    own: f64,
    calls: u64,
    mark: Mark,
    began: Instant,
}

impl Bench {
    /// One turn, beside the ceiling of the same round.
    pub(super) async fn throughput(&mut self, seats: &[Seat], ceiling: f64) -> Result<()> {
        let replica = Replica::start(&self.setting, 0).await?;
        self.lead(&replica).await?;
        let crew = Crew::start(seats.to_vec(), self.plan.slots);
        crew.all_connected().await?;
        self.store.clear();
        let before = Before {
            control_plane: self.control_plane_cpu()?,
            operator: replica.process.cpu_seconds()?,
            own: own_cpu()?,
            calls: self.store.calls().values().sum(),
            mark: Mark::now(&self.audit_log)?,
            began: Instant::now(),
        };
        self.flow(&crew, SERVED, &self.decisions()).await?;
        self.all_gone().await?;
        self.tell(&before, &replica, ceiling)?;
        drop(crew);
        replica.process.stop().await
    }

    /// The same once on SeaweedFS, in a pool whose jobs have no outputs.
    pub(super) async fn recorded(&mut self) -> Result<()> {
        let weed = Weed::start().await?;
        let args = weed.args();
        let setting = Setting {
            store: args.store_endpoint,
            credentials: args.store_credentials_dir,
            ..self.setting.clone()
        };
        let workers = self.plan.workers;
        pool::make(
            &self.access.admin,
            RECORDED,
            self.plan.slots,
            Some(workers),
            &[],
        )
        .await?;
        let replica = Replica::start(&setting, 0).await?;
        self.lead(&replica).await?;
        let seats = pool::seats(&self.access.admin, RECORDED, workers, &self.scratch).await?;
        let crew = Crew::start(seats, self.plan.slots);
        crew.all_connected().await?;
        let (cpu, began) = (replica.process.cpu_seconds()?, Instant::now());
        let store = Decisions::Real(weed.store()?);
        self.flow(&crew, RECORDED, &store).await?;
        self.all_gone().await?;
        let (count, seconds) = (self.plan.jobs as f64, began.elapsed().as_secs_f64());
        let cpu_ms = (replica.process.cpu_seconds()? - cpu) * 1000.0 / count;
        self.samples.worst("seaweed_jobs_per_s", count / seconds);
        self.samples.worst("seaweed_operator_cpu_ms", cpu_ms);
        let rate = count / seconds;
        self.progress.note(&format!(
            "{rate:.0} jobs/s, operator {cpu_ms:.1} CPU-ms a job"
        ));
        drop(crew);
        replica.process.stop().await
    }

    /// Keeps so many jobs under way until all have been acknowledged.
    async fn flow(&self, crew: &Crew, pool: &'static str, store: &Decisions) -> Result<()> {
        let left = Arc::new(AtomicUsize::new(self.plan.jobs));
        let mut lines = JoinSet::new();
        for _ in 0..self.plan.at_once {
            let (left, store) = (Arc::clone(&left), store.clone());
            let (api, book) = (jobs::api(&self.access.uploader), Arc::clone(&crew.book));
            lines.spawn(async move {
                while take(&left) {
                    one(&api, pool, &store, &book).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = lines.join_next().await {
            ended??;
        }
        Ok(())
    }

    fn tell(&mut self, before: &Before, replica: &Replica, ceiling: f64) -> Result<()> {
        let seconds = before.began.elapsed().as_secs_f64();
        let count = self.plan.jobs;
        let rate = count as f64 / seconds;
        let each_ms = |cpu: f64| cpu * 1000.0 / count as f64;
        let control_plane = each_ms(self.control_plane_cpu()? - before.control_plane);
        let operator = each_ms(replica.process.cpu_seconds()? - before.operator);
        let calls = self.store.calls().values().sum::<u64>() - before.calls;
        let Writes {
            jobs,
            others,
            failed,
        } = before.mark.writes()?;
        let kind = |kind: &str| per(jobs.get(kind).copied().unwrap_or(0), count);
        let others = others as f64 * 60.0 / seconds;
        let all = per(jobs.values().sum(), count);
        for (name, value) in [
            ("jobs_per_s", rate),
            ("jobs_ratio", rate / ceiling),
            ("control_plane_cpu_ms", control_plane),
            ("operator_cpu_ms", operator),
            ("bench_cpu_ms", each_ms(own_cpu()? - before.own)),
            ("store_calls_per_job", calls as f64 / count as f64),
            ("writes_per_job", all),
            ("writes_create", kind("create")),
            ("writes_status", kind("patch status")),
            ("writes_delete", kind("delete")),
            ("writes_failed", per(failed, count)),
            ("other_writes_per_minute", others),
        ] {
            self.samples.add(name, value);
        }
        self.progress.note(&format!(
            "{rate:.0} jobs/s, {:.2} of the bare loop; {all:.2} writes a job; CPU-ms a job: API server and etcd \
             {control_plane:.1}, operator {operator:.1}",
            rate / ceiling
        ));
        Ok(())
    }
}

async fn one(api: &Api<VideoJob>, pool: &str, store: &Decisions, book: &Book) -> Result<()> {
    let new = jobs::new(pool, PLAIN, 0)?;
    let expected = book.watch_for(&new.name);
    new.submit(api, store).await?;
    within("an acknowledgement", expected.acked)
        .await
        .with_context(|| new.name)?;
    Ok(())
}
