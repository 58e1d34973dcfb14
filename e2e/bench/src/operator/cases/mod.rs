//! The measurements, in the order in which they run.

mod ceiling;
mod cuts;
mod failover;
mod live;
mod scaling;
mod throughput;
mod waits;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kinora_crds::VideoJob;
use kube::Api;
use kube::api::ListParams;

use super::Args;
use super::access::Access;
use super::book::Expected;
use super::crew::Crew;
use super::jobs::{self, Decisions, HELD, Statuses};
use super::plan::Plan;
use super::pool::{self, OUTPUTS, PARKED, SCALED, SERVED, Seat};
use super::replica::{Replica, Setting};
use crate::null::NullStore;
use crate::process::cpu_seconds;
use crate::progress::Progress;
use crate::samples::Samples;
use crate::servers::null_args;

/// Nothing takes longer on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// Of a job that is to be looked at after its end.
const LONG_TTL: u32 = 3600;
const STEPS: usize = 9;

/// A run under way.
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    pub(crate) samples: Samples,
    pub(crate) progress: Progress,
    access: Access,
    setting: Setting,
    store: Arc<NullStore>,
    audit_log: PathBuf,
    /// API server and etcd.
    control_plane: [i32; 2],
    scratch: PathBuf,
}

impl Bench {
    /// Clients, pools, store; nothing is measured.
    pub(crate) async fn prepare(args: &Args, plan: Plan, scratch: &Path) -> Result<Self> {
        let access = Access::open(&args.kubeconfig, scratch).await?;
        pool::service_account(&access.admin).await?;
        pool::make(
            &access.admin,
            SERVED,
            plan.slots,
            Some(plan.workers),
            &OUTPUTS,
        )
        .await?;
        pool::make(&access.admin, PARKED, 1, Some(0), &OUTPUTS).await?;
        let store = NullStore::with_outputs().await?;
        let flags = null_args(store.address(), scratch)?;
        let setting = Setting {
            program: args.operator.clone(),
            kubeconfig: access.operator_kubeconfig.clone(),
            store: flags.store_endpoint,
            credentials: flags.store_credentials_dir,
            logs: scratch.to_owned(),
        };
        Ok(Self {
            progress: Progress::new(STEPS + 2 * plan.rounds),
            plan,
            samples: Samples::default(),
            access,
            setting,
            store: Arc::new(store),
            audit_log: args.audit_log.clone(),
            control_plane: [args.apiserver_pid, args.etcd_pid],
            scratch: scratch.to_owned(),
        })
    }

    /// Measures everything.
    pub(crate) async fn run(&mut self) -> Result<()> {
        self.progress
            .step("an idle operator; seats for workers; one job");
        let first = Replica::start(&self.setting, 0).await?;
        self.lead(&first).await?;
        let seats =
            pool::seats(&self.access.admin, SERVED, self.plan.workers, &self.scratch).await?;
        self.idle(&first, ["rss_mib_0", "cpu_percent_0"]).await?;
        let crew = Crew::start(seats.clone(), self.plan.slots);
        crew.all_connected().await?;
        let statuses = self.one_job(&crew).await?;
        drop(crew);
        first.process.stop().await?;
        for round in 1..=self.plan.rounds {
            let rounds = self.plan.rounds;
            self.progress
                .step(&format!("round {round} of {rounds}: the bare loop"));
            let ceiling = self.ceiling(&statuses).await?;
            self.progress
                .step(&format!("round {round} of {rounds}: Kinora"));
            self.throughput(&seats, ceiling).await?;
        }
        self.progress.step("jobs on SeaweedFS");
        self.recorded().await?;
        self.progress.step("create to lease at half load");
        self.waits(&seats, &statuses).await?;
        self.with_many_jobs(seats).await
    }

    async fn with_many_jobs(&mut self, seats: Vec<Seat>) -> Result<()> {
        let mut replicas = [
            Replica::start(&self.setting, 0).await?,
            Replica::start(&self.setting, 1).await?,
        ];
        let mut crew = Crew::start(seats, self.plan.slots);
        let (some, many) = (self.plan.some, self.plan.many);
        self.progress.step(&format!("{some} live jobs"));
        self.park(some).await?;
        let leader = self.leader(&replicas).await?;
        self.all_seen(&replicas, some).await?;
        crew.all_connected().await?;
        self.idle(&replicas[leader], ["rss_mib_20k", "cpu_percent_20k"])
            .await?;
        self.progress
            .step("workers that are killed, and silent ones");
        self.cuts(&mut crew).await?;
        self.silence(&mut crew).await?;
        self.progress.step("a backlog for a pool that is scaled");
        pool::make(&self.access.admin, SCALED, 1, None, &OUTPUTS).await?;
        self.scaling().await?;
        self.progress.step("the leader is killed");
        self.failover(&mut crew, &mut replicas).await?;
        self.progress.step(&format!("{many} live jobs"));
        self.park(many - some).await?;
        self.all_seen(&replicas, many).await?;
        let leader = self.leader(&replicas).await?;
        crew.all_connected().await?;
        self.idle(&replicas[leader], ["rss_mib_100k", "cpu_percent_100k"])
            .await?;
        drop(crew);
        self.progress.step("a replica that lists them all");
        self.listed(&mut replicas, 1 - leader).await
    }

    /// Takes one job through its life, and keeps what was written.
    async fn one_job(&mut self, crew: &Crew) -> Result<Statuses> {
        let admin = self.access.admin.clone();
        let new = jobs::new(SERVED, HELD, LONG_TTL)?;
        let Expected { leased, acked } = crew.book.watch_for(&new.name);
        let uploader = jobs::api(&self.access.uploader);
        new.submit(&uploader, &self.decisions()).await?;
        within("the first lease", leased).await?;
        let (running, _) = jobs::stored(&admin, &new.name).await?;
        let (created, bytes_created) = self.untouched().await?;
        crew.let_go(true);
        within("the first acknowledgement", acked).await?;
        crew.let_go(false);
        let (finished, bytes_finished) = jobs::stored(&admin, &new.name).await?;
        let told = [
            ("videojob_bytes_created", bytes_created),
            ("videojob_bytes_finished", bytes_finished),
        ];
        for (name, bytes) in told {
            self.samples.worst(name, bytes as f64);
        }
        let api = jobs::api(&self.access.operator);
        let job: VideoJob = serde_json::from_value(finished.clone())?;
        // Its record is not waited for: the delete is the benchmark's, and its resourceVersion may be old by then.
        jobs::delete(&api, &job).await?;
        Ok(Statuses::of([&created, &running, &finished]))
    }

    /// A job as it is right after its create; the pool without workers leaves it so.
    async fn untouched(&self) -> Result<(serde_json::Value, usize)> {
        let new = jobs::new(PARKED, HELD, LONG_TTL)?;
        let made = jobs::create(&jobs::api(&self.access.uploader), &new.job).await?;
        let found = jobs::stored(&self.access.admin, &new.name).await?;
        jobs::delete(&jobs::api(&self.access.operator), &made).await?;
        Ok(found)
    }

    /// Waits until a replica leads.
    async fn lead(&self, replica: &Replica) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !replica.leads(&self.access.admin).await? {
            if Instant::now() > deadline {
                bail!(
                    "the operator does not lead: {}",
                    replica.process.last_words()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Which of the replicas leads.
    async fn leader(&self, replicas: &[Replica; 2]) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (place, replica) in replicas.iter().enumerate() {
                if replica.leads(&self.access.admin).await? {
                    return Ok(place);
                }
            }
            if Instant::now() > deadline {
                bail!("no replica leads");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until no job is left.
    async fn all_gone(&self) -> Result<()> {
        let api: Api<VideoJob> = jobs::api(&self.access.admin);
        let deadline = Instant::now() + PATIENCE;
        // From the API server's cache, which costs it nothing.
        let one = ListParams::default().limit(1).match_any();
        while !api.list_metadata(&one).await?.items.is_empty() {
            if Instant::now() > deadline {
                bail!("finished jobs are not deleted");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The store that keeps nothing else.
    fn decisions(&self) -> Decisions {
        Decisions::Null(Arc::clone(&self.store))
    }

    fn control_plane_cpu(&self) -> Result<f64> {
        let [api_server, etcd] = self.control_plane;
        Ok(cpu_seconds(api_server)? + cpu_seconds(etcd)?)
    }
}

/// What a worker sees, in bounded time.
async fn within<T>(what: &str, seen: tokio::sync::oneshot::Receiver<T>) -> Result<T> {
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    seen.with_context(|| format!("{what} did not come"))?
        .with_context(|| format!("{what}: the workers are gone"))
}

/// CPU seconds of this program: load, workers, store.
fn own_cpu() -> Result<f64> {
    cpu_seconds(std::process::id().cast_signed())
}

fn per(total: usize, jobs: usize) -> f64 {
    total as f64 / jobs as f64
}
