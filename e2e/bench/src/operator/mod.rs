//! The benchmark of the operator: the release binary on a real API server and etcd, with everything around it simulated.
//!
//! Workers are streams of this program over the real protocol, with real tokens; their calls succeed at once. The store
//! keeps nothing but records. Jobs are created as the uploader creates them, by its ServiceAccount.

mod access;
mod audit;
mod book;
mod budgets;
mod cases;
mod crew;
mod hands;
mod jobs;
mod page;
mod plan;
mod pool;
mod replica;
mod worker;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::budgets::{hold, judge};
use crate::machine::Machine;
use crate::tell;
use cases::Bench;
use plan::Plan;

/// How the operator is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Path of kinora-operator.
    #[arg(long)]
    operator: PathBuf,
    /// Kubeconfig of an admin of a control plane on which Kinora's manifests are applied, and nothing else is.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The API server's audit log.
    #[arg(long)]
    audit_log: PathBuf,
    /// Process id of the API server.
    #[arg(long)]
    apiserver_pid: i32,
    /// Process id of etcd.
    #[arg(long)]
    etcd_pid: i32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// A little of everything, in about a minute; its figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// How often ceiling and Kinora take turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Write the result to this Markdown file.
    #[arg(long, conflicts_with = "quick")]
    write: Option<PathBuf>,
}

/// Measures, and tells what came of it; whether it holds.
pub(crate) async fn measure(args: &Args) -> Result<bool> {
    let plan = if args.quick {
        Plan::quick()
    } else {
        Plan::full(usize::from(args.runs))
    };
    let scratch = crate::scratch()?;
    let mut bench = Bench::prepare(args, plan, scratch.path()).await?;
    bench.run().await?;
    let verdicts = judge(budgets::OPERATOR, &bench.samples);
    tell(&bench.samples, &verdicts, &bench.progress, args.json)?;
    if let Some(path) = &args.write {
        let page = page::page(&bench.samples, &verdicts, &Machine::read(), &bench.plan);
        std::fs::write(path, page).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(hold(&verdicts, args.quick, budgets::COUNTED))
}
