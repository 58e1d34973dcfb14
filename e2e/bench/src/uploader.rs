//! The benchmark of the uploader: flags, run, result.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::budgets::{self, UPLOADER};
use crate::cases::Bench;
use crate::machine::Machine;
use crate::plan::{Part, Plan};
use crate::servers::Setting;
use crate::{markdown, tell};

/// How the uploader is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
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
    let plan = Plan {
        only: args.only,
        ..plan
    };
    crate::files::room_for(plan.stalled)?;
    let scratch = crate::scratch()?;
    let setting = Setting {
        uploader: args.uploader.clone(),
        tusd: args.tusd.clone(),
        kubeconfig: PathBuf::new(),
        scratch: scratch.path().to_owned(),
    };
    let mut bench = Bench::new(setting, plan);
    bench.run().await?;
    let verdicts = budgets::judge(UPLOADER, &bench.samples);
    let of_all = args.only.is_none();
    let told: Vec<_> = verdicts
        .iter()
        .filter(|verdict| of_all || !verdict.value.is_nan())
        .cloned()
        .collect();
    tell(&bench.samples, &told, &bench.progress, args.json)?;
    if let Some(path) = &args.write {
        let page = markdown::page(&bench.samples, &verdicts, &Machine::read(), &bench.plan);
        std::fs::write(path, page).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(budgets::hold(&told, args.quick, budgets::COUNTED))
}
