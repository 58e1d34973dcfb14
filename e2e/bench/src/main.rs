//! The benchmarks, started by `cargo xtask bench …`, which builds what they measure.
//!
//! Figures go to standard output, what happens to standard error. Everything is on loopback and ends with the run.

mod budgets;
mod cases;
mod content;
mod http;
mod kube;
mod machine;
mod markdown;
mod null;
mod plan;
mod process;
mod progress;
mod raw;
mod samples;
mod serve;
mod servers;
mod tus;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use budgets::Verdict;
use cases::Bench;
use machine::Machine;
use plan::{Part, Plan};
use servers::Setting;

/// However slow the machine, this is the end.
const LIMIT: Duration = Duration::from_mins(60);

/// Measures a part of Kinora.
#[derive(Debug, Parser)]
enum Job {
    /// The uploader beside a plain S3 client and tusd; $KINORA_WEED is the path of SeaweedFS.
    Uploader(Args),
}

/// How the uploader is measured.
#[derive(Debug, clap::Args)]
struct Args {
    /// Path of kinora-uploader.
    #[arg(long)]
    uploader: PathBuf,
    /// Path of tusd.
    #[arg(long)]
    tusd: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// A little of everything, in less than a minute; its figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Measure only this part; what the others would tell is not judged.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Rounds on the real store.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Write the result to this Markdown file.
    #[arg(long)]
    write: Option<PathBuf>,
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(job: &Job) -> Result<()> {
    match job {
        Job::Uploader(args) => measure(args).await,
    }
}

async fn measure(args: &Args) -> Result<()> {
    let plan = if args.quick {
        Plan::quick()
    } else {
        Plan::full(usize::from(args.runs))
    };
    let plan = Plan {
        only: args.only,
        ..plan
    };
    let scratch = tempfile::Builder::new()
        .prefix("kinora-bench-")
        .tempdir()
        .context("make a folder for logs")?;
    let setting = Setting {
        uploader: args.uploader.clone(),
        tusd: args.tusd.clone(),
        kubeconfig: PathBuf::new(),
        scratch: scratch.path().to_owned(),
    };
    let mut bench = Bench::new(setting, plan);
    bench.run().await?;
    let verdicts = budgets::judge(&bench.samples);
    let of_all = args.only.is_none();
    for verdict in verdicts.iter().filter(|v| of_all || !v.value.is_nan()) {
        eprintln!("{}", line(verdict));
    }
    eprintln!("done in {} s", bench.progress.seconds());
    println!(
        "{}",
        if args.json {
            bench.samples.json().to_string()
        } else {
            serde_json::to_string_pretty(&bench.samples.json())?
        }
    );
    if let Some(path) = &args.write {
        let page = markdown::page(&bench.samples, &verdicts, &Machine::read(), &bench.plan);
        std::fs::write(path, page).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn line(verdict: &Verdict) -> String {
    let word = if verdict.holds { "holds " } else { "MISSED" };
    format!(
        "{word}  {:<70} {:>10.2}  {}",
        verdict.what, verdict.value, verdict.limit
    )
}
