//! Workers that are killed or fall silent, with a free slot elsewhere: how soon their jobs are leased again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Bench, PATIENCE, within};
use crate::operator::book::Expected;
use crate::operator::crew::Crew;
use crate::operator::jobs::{self, HELD};
use crate::operator::pool::SERVED;
use crate::samples::percentile_ms;

/// Between two cuts: far fewer than three of ten streams drop within two seconds, which would be the network's fault.
const BETWEEN: Duration = Duration::from_millis(300);

/// A running job that waits for the end of its worker.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) uid: String,
    pub(super) worker: usize,
}

impl Bench {
    /// So many jobs that go on until they are let go, each leased; the ends of all.
    pub(super) async fn running(
        &self,
        crew: &Crew,
        count: usize,
    ) -> Result<(Vec<Running>, Vec<Expected>)> {
        let api = jobs::api(&self.access.uploader);
        let since = Instant::now();
        let mut all = Vec::new();
        for _ in 0..count {
            let new = jobs::new(SERVED, HELD, 0)?;
            let mut expected = crew.book.watch_for(&new.name);
            new.submit(&api, &self.decisions()).await?;
            let (_, never) = tokio::sync::oneshot::channel();
            within("a lease", std::mem::replace(&mut expected.leased, never)).await?;
            all.push(expected);
        }
        let leased = crew.book.since(since);
        let running = leased.into_iter().map(|(uid, leased)| Running {
            uid,
            worker: leased.worker,
        });
        Ok((running.collect(), all))
    }

    /// All that run end.
    pub(super) async fn end(&self, crew: &Crew, ends: Vec<Expected>) -> Result<()> {
        crew.let_go(true);
        for expected in ends {
            within("the end of a held job", expected.acked).await?;
        }
        crew.let_go(false);
        Ok(())
    }

    /// One worker after the other is killed.
    pub(super) async fn cuts(&mut self, crew: &mut Crew) -> Result<()> {
        crew.book.forget();
        let (running, ends) = self.running(crew, self.plan.cuts).await?;
        let mut cut = Vec::new();
        for job in first_of_each_worker(&running) {
            let at = Instant::now();
            crew.cut(job.worker);
            cut.push((job, at));
            tokio::time::sleep(BETWEEN).await;
        }
        let times = relet(crew, &cut).await?;
        for (job, _) in &cut {
            crew.replace(job.worker);
        }
        crew.all_connected().await?;
        self.end(crew, ends).await?;
        let (p50, p99) = (percentile_ms(&times, 50), percentile_ms(&times, 99));
        self.samples.worst("relet_p50_s", p50 / 1000.0);
        self.samples.worst("relet_s", p99 / 1000.0);
        self.progress.note(&format!(
            "{} killed: leased again after {:.2} s, p99 {:.2} s",
            cut.len(),
            p50 / 1000.0,
            p99 / 1000.0
        ));
        Ok(())
    }

    /// Some fall silent at once.
    pub(super) async fn silence(&mut self, crew: &mut Crew) -> Result<()> {
        crew.book.forget();
        let (running, ends) = self.running(crew, self.plan.silent).await?;
        let frozen: Vec<_> = first_of_each_worker(&running)
            .into_iter()
            .map(|job| {
                crew.freeze(job.worker);
                (job, Instant::now())
            })
            .collect();
        let times = relet(crew, &frozen).await?;
        for (job, _) in &frozen {
            crew.replace(job.worker);
        }
        crew.all_connected().await?;
        self.end(crew, ends).await?;
        let worst = percentile_ms(&times, 100) / 1000.0;
        self.samples.worst("silence_s", worst);
        self.progress.note(&format!(
            "{} silent: leased again after {worst:.2} s at most",
            frozen.len()
        ));
        Ok(())
    }
}

fn first_of_each_worker(running: &[Running]) -> Vec<Running> {
    let mut seen = std::collections::HashSet::new();
    let first = running.iter().filter(|job| seen.insert(job.worker));
    first.cloned().collect()
}

/// How long each took until another worker had it.
async fn relet(crew: &Crew, lost: &[(Running, Instant)]) -> Result<Vec<Duration>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut times = Vec::new();
        for (job, at) in lost {
            let later = crew.book.since(*at);
            let again = later.iter().find(|(uid, leased)| {
                *uid == job.uid && leased.attempt > 1 && leased.worker != job.worker
            });
            times.extend(again.map(|(_, leased)| leased.at - *at));
        }
        if times.len() == lost.len() {
            return Ok(times);
        }
        if Instant::now() > deadline {
            let (again, all) = (times.len(), lost.len());
            bail!("only {again} of {all} jobs were leased again");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
