//! The e2e suite: each case drives the installed Kinora on the real cluster and waits for conditions.
//!
//! Cases run one after another, because faults of the reference service are global; each starts with faults cleared.

mod clients;
mod cluster;
mod crds;
mod crowds;
mod edges;
mod failures;
mod gitops;
mod kustomize;
mod lifecycle;
mod outages;
mod policy;
mod pools;
mod redrives;
mod rewinds;
mod uploading;
mod workers;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use kinora_storage::PutOptions;

use crate::stack::{JOBS_NAMESPACE, Stack, StackOptions};
use crate::tools::repository_root;

/// Long enough for one job with a cold worker on a busy machine.
pub const JOB: Duration = Duration::from_mins(3);

type Run = for<'a> fn(&'a Context) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// One case: a sentence and what proves it.
pub struct Case {
    /// What must hold, as a sentence in kebab case.
    pub name: &'static str,
    run: Run,
}

/// What every case gets.
pub struct Context {
    /// The installed Kinora.
    pub stack: Stack,
    /// How it is installed.
    pub options: StackOptions,
    /// A static ffmpeg.
    pub ffmpeg: PathBuf,
    /// Upload clients that others wrote, when cases want them.
    pub clients: Option<PathBuf>,
    /// Where cases put what they download.
    pub scratch: PathBuf,
}

impl Context {
    /// The 1 MB sample.
    ///
    /// # Errors
    /// The checkout is incomplete.
    pub fn bunny(&self) -> Result<Bytes> {
        sample("bigbuckbunny.mp4")
    }

    /// The 500 kB sample.
    ///
    /// # Errors
    /// The checkout is incomplete.
    pub fn bikes(&self) -> Result<Bytes> {
        sample("bikes.mp4")
    }

    /// Stores the small sample where declared jobs may name it; answers its key.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn import(&self, name: &str) -> Result<String> {
        let key = format!("imports/{JOBS_NAMESPACE}/{name}");
        let store = self.stack.store().await?;
        let put = store.put(&key, self.bikes()?, PutOptions::default());
        put.await.context("store the source")?;
        Ok(key)
    }

    /// Base URLs of two uploader replicas.
    ///
    /// # Errors
    /// Fewer than two are ready.
    pub async fn two_replicas(&self) -> Result<(String, String)> {
        let replicas = self.stack.uploader_replicas().await?;
        let second = replicas
            .get(1)
            .context("two uploader replicas are needed")?;
        Ok((replicas[0].clone(), second.clone()))
    }
}

/// Bytes of a sample video.
///
/// # Errors
/// The checkout is incomplete.
pub fn sample(name: &str) -> Result<Bytes> {
    let path = repository_root().join("e2e/samples").join(name);
    Ok(std::fs::read(&path)
        .with_context(|| format!("read {}", path.display()))?
        .into())
}

/// A playable MP4 of at least `bytes` bytes: the sample with a `free` box behind it, which players skip.
///
/// # Errors
/// The checkout is incomplete.
pub fn padded_sample(name: &str, bytes: usize) -> Result<Bytes> {
    let mut video = sample(name)?.to_vec();
    let padding = bytes.saturating_sub(video.len()).max(8);
    video.extend_from_slice(&u32::try_from(padding)?.to_be_bytes());
    video.extend_from_slice(b"free");
    video.resize(video.len() + padding - 8, 0x5a);
    Ok(video.into())
}

/// Cases that need a cluster without Kinora, in the order in which they run.
#[must_use]
pub fn before_install() -> Vec<Case> {
    [cluster::cases(), crds::cases(), kustomize::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// Cases on the installed Kinora, in the order in which they run.
#[must_use]
pub fn installed() -> Vec<Case> {
    [
        policy::cases(),
        gitops::cases(),
        uploading::cases(),
        clients::cases(),
        workers::cases(),
        pools::cases(),
        failures::cases(),
        lifecycle::cases(),
        outages::cases(),
        edges::cases(),
        crowds::cases(),
        redrives::cases(),
        rewinds::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether a case is chosen that runs upload clients of others.
#[must_use]
pub fn wants_clients(filter: &str) -> bool {
    !chosen(clients::cases(), filter).is_empty()
}

/// Makes sure that every part of `filter` names a case.
///
/// # Errors
/// One names none; the message lists the names.
pub fn known(filter: &str) -> Result<()> {
    let cases = before_install().into_iter().chain(installed());
    let cases: Vec<_> = cases.map(|case| case.name).collect();
    for text in filter.split(',') {
        if !cases.iter().any(|name| name.contains(text)) {
            bail!(
                "no case is named like {text:?}; there are:\n  {}",
                cases.join("\n  ")
            );
        }
    }
    Ok(())
}

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Cases that held.
    pub passed: u32,
    /// Cases that did not.
    pub failed: u32,
}

/// Runs the cases whose name contains `filter`; prints a line each and the usual summary.
///
/// # Errors
/// Kinora could not be installed.
pub async fn run(context: &Context, filter: &str) -> Result<Counts> {
    let started = Instant::now();
    let early = chosen(before_install(), filter);
    let late = chosen(installed(), filter);
    println!("running {} tests", early.len() + late.len());
    let mut counts = Counts::default();
    if !early.is_empty() {
        context.stack.uninstall()?;
    }
    for case in &early {
        one(context, case, &mut counts).await;
    }
    if !late.is_empty() {
        context.stack.install(&context.options).await?;
        println!("    Kinora is installed");
    }
    for case in &late {
        for ended in context.stack.cluster.mend()? {
            // The case before it left it so, or the machine had no room for it.
            println!("    before {}: {ended}", case.name);
        }
        context.stack.faults(&serde_json::json!({})).await?;
        one(context, case, &mut counts).await;
    }
    let word = if counts.failed == 0 { "ok" } else { "FAILED" };
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "test result: {word}. {} passed; {} failed; finished in {seconds:.1}s",
        counts.passed, counts.failed
    );
    Ok(counts)
}

fn chosen(cases: Vec<Case>, filter: &str) -> Vec<Case> {
    cases
        .into_iter()
        .filter(|case| filter.split(',').any(|text| case.name.contains(text)))
        .collect()
}

async fn one(context: &Context, case: &Case, counts: &mut Counts) {
    let began = Instant::now();
    let verdict = (case.run)(context).await;
    let seconds = began.elapsed().as_secs_f64();
    let Err(error) = verdict else {
        counts.passed += 1;
        println!("test {} ... ok ({seconds:.1} s)", case.name);
        return;
    };
    counts.failed += 1;
    println!(
        "test {} ... FAILED ({seconds:.1} s)\n    {error:#}",
        case.name
    );
    println!(
        "    objects and logs: {}",
        crate::diagnose::save(&context.stack, case.name)
            .await
            .display()
    );
}

/// Makes a [`Case`] of an async function that takes `&Context`.
macro_rules! case {
    ($name:literal, $run:path) => {
        $crate::suite::Case {
            name: $name,
            run: |context| Box::pin($run(context)),
        }
    };
}
pub(crate) use case;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_names_no_case_is_refused_with_the_names() {
        let first = before_install()[0].name;
        for filter in ["", "clients-", first, &format!("{first},clients-")] {
            assert!(known(filter).is_ok(), "{filter}");
        }
        for filter in ["no-such-case", "clients-,no-such-case"] {
            let said = known(filter).unwrap_err().to_string();
            assert!(
                said.contains("\"no-such-case\"") && said.contains(first),
                "{said}"
            );
        }
    }
}
