//! `cargo xtask bench …`: builds what is measured and what measures it in the release profile, fetches the peers, and
//! starts the benchmark, which is a program of its own: a debug build of it would take the cores from the servers.

mod compare;
// One description of the machine for all benchmarks.
#[path = "../../bench/src/machine.rs"]
mod machine;
mod operator;
mod uploader;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde_json::Value;

pub(crate) use operator::smoke as smoke_of_operator;
pub(crate) use uploader::smoke as smoke_of_uploader;

use crate::images::{Profile, binaries};
use crate::tools::repository_root;

/// Where results are kept.
const RESULTS: &str = "docs/benchmarks";
/// The program that measures.
const BENCH: &str = "kinora-bench";
const UPLOADER: &str = "kinora-uploader";
const OPERATOR: &str = "kinora-operator";

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum Job {
    /// The uploader beside a plain S3 client and tusd on SeaweedFS, and alone on a store that keeps nothing.
    ///
    /// Takes about a quarter of an hour once all is built, and wants the machine for itself. All traffic is on loopback.
    Uploader(uploader::Options),
    /// The operator on a real API server and etcd, with simulated workers and a store that keeps nothing but records.
    ///
    /// Takes about a quarter of an hour once all is built, needs root, and wants the machine for itself. All traffic is
    /// in a network namespace of its own.
    Operator(operator::Options),
    /// Kinora's workers beside bare pods and native Jobs on the same node: how fast, and what it costs the control plane.
    ///
    /// Makes a cluster of its own and removes it. Takes some minutes once all is built, and wants the machine for itself.
    Compare(compare::Options),
}

/// What every benchmark can be asked.
#[derive(Clone, Copy, Debug, Args)]
pub struct Asked {
    /// Print one JSON object on one line.
    #[arg(long)]
    pub json: bool,
    /// A little of everything, in about a minute; its figures mean nothing.
    #[arg(long)]
    pub quick: bool,
    /// Write the result to docs/benchmarks/, under the benchmark's name.
    #[arg(long, conflicts_with = "quick")]
    pub write: bool,
}

impl Asked {
    /// The same as flags of the program that measures.
    fn flags(self, runs: u16, name: &str) -> Result<Vec<String>> {
        let mut flags = vec!["--runs".to_owned(), runs.to_string()];
        let plain = [("--json", self.json), ("--quick", self.quick)];
        let given = plain.into_iter().filter(|(_, given)| *given);
        flags.extend(given.map(|(flag, _)| flag.to_owned()));
        if self.write {
            let file = result_file(name)?;
            flags.extend(["--write".to_owned(), file.to_string_lossy().into_owned()]);
        }
        Ok(flags)
    }
}

/// A quick run; a busy machine may take a few times as long as a quiet one.
const QUICK_LIMIT: Duration = Duration::from_mins(10);

fn exit_code(succeeded: bool) -> ExitCode {
    if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Builds and measures.
///
/// # Errors
/// Something could not be built, fetched or started.
pub fn run(job: &Job) -> Result<ExitCode> {
    match job {
        Job::Uploader(options) => uploader::run(options),
        Job::Operator(options) => operator::run(options),
        Job::Compare(options) => compare::run(options),
    }
}

/// Compiles what is measured and what measures it: in the release profile for both benchmarks at once, else beside what
/// the tests have compiled for the whole workspace already.
fn compiled(profile: Profile, program: &str) -> Result<BTreeMap<String, PathBuf>> {
    match profile {
        Profile::Dev => binaries(profile, &["--workspace", "--bin", program, "--bin", BENCH]),
        Profile::Release => {
            let packages = [OPERATOR, UPLOADER, BENCH].map(|name| ["--package", name]);
            binaries(profile, &[&["--bins"], packages.as_flattened()].concat())
        }
    }
}

/// Where a result is written; makes the folder.
fn result_file(name: &str) -> Result<PathBuf> {
    let folder = repository_root().join(RESULTS);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder.join(format!("{name}.md")))
}

/// That a benchmark told every figure as a number.
fn must_tell(said: &str, figures: &[&str]) -> Result<()> {
    let told: Value = serde_json::from_str(said).context("the benchmark told no JSON")?;
    let missing: Vec<_> = figures
        .iter()
        .filter(|name| !told[**name].is_number())
        .collect();
    ensure!(missing.is_empty(), "the benchmark did not tell {missing:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_figure_that_is_not_told_is_named() {
        assert!(must_tell(r#"{"a": 1.5, "b": 2}"#, &["a", "b"]).is_ok());
        for said in [r#"{"a": 1.5, "b": null}"#, r#"{"a": 1.5}"#] {
            let error = must_tell(said, &["a", "b"]).unwrap_err().to_string();
            assert!(
                error.contains("\"b\"") && !error.contains("\"a\""),
                "{error}"
            );
        }
    }

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        _job: Job,
    }

    #[test]
    fn a_quick_run_writes_no_page() {
        for job in ["uploader", "operator", "compare"] {
            let asked =
                |flags: &[&str]| Line::try_parse_from(["bench", job].iter().chain(flags)).is_ok();
            assert!(asked(&["--write"]) && asked(&["--quick"]), "{job}");
            assert!(!asked(&["--quick", "--write"]), "{job}");
        }
    }
}
