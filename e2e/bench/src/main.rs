//! The benchmarks, started by `cargo xtask bench …`, which builds what they measure.
//!
//! Figures go to standard output, what happens to standard error. Everything is on loopback and ends with the run.

mod budgets;
mod cases;
mod content;
mod files;
mod http;
mod kube;
mod machine;
mod markdown;
mod null;
mod operator;
mod plan;
mod process;
mod progress;
mod raw;
mod samples;
mod serve;
mod servers;
mod tus;
mod uploader;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use budgets::Verdict;
use progress::Progress;
use samples::Samples;

/// However slow the machine, this is the end.
const LIMIT: Duration = Duration::from_mins(60);

/// Measures a part of Kinora.
#[derive(Debug, Parser)]
enum Job {
    /// The uploader beside a plain S3 client and tusd; $KINORA_WEED is the path of SeaweedFS.
    Uploader(uploader::Args),
    /// The operator on a control plane, with simulated workers and a store that keeps nothing but records.
    Operator(operator::Args),
}

fn main() -> ExitCode {
    // Fails only if a provider is there already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let job = Job::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let done = runtime.context("start the runtime").and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                done = tokio::time::timeout(LIMIT, run(&job)) => {
                    done.context("the benchmark did not end within an hour")?
                }
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            }
        })
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: a budget was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(job: &Job) -> Result<bool> {
    match job {
        Job::Uploader(args) => uploader::measure(args).await,
        Job::Operator(args) => operator::measure(args).await,
    }
}

/// A folder for logs, which goes with the handle.
fn scratch() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("kinora-bench-")
        .tempdir()
        .context("make a folder for logs")
}

/// Verdicts for people, figures for programs.
fn tell(
    samples: &Samples,
    verdicts: &[Verdict],
    progress: &Progress,
    one_line: bool,
) -> Result<()> {
    for verdict in verdicts {
        let word = if verdict.holds { "holds " } else { "MISSED" };
        eprintln!(
            "{word}  {:<70} {:>10.2}  {}",
            verdict.what, verdict.value, verdict.limit
        );
    }
    eprintln!("done in {} s", progress.seconds());
    let json = samples.json();
    println!(
        "{}",
        if one_line {
            json.to_string()
        } else {
            serde_json::to_string_pretty(&json)?
        }
    );
    Ok(())
}
