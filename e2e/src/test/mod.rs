//! `cargo xtask test`: every check there is, one named step each, in order of how soon it can fail.
//!
//! The last line of a run is always `N passed, N failed`, over all steps; a step without tests of its own counts as one.

mod cargo;
mod e2e;
mod fences;
mod generated;
mod rights;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::bench;
use crate::progress::seconds;

/// How many checks held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Held.
    pub passed: u32,
    /// Did not.
    pub failed: u32,
}

impl Tally {
    const ONE: Self = Self {
        passed: 1,
        failed: 0,
    };

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// What to run.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// Run only these steps: fmt, clippy, unit, generated, deny, chart, bench, bench-operator, e2e.
    #[arg(long, value_delimiter = ',', value_name = "STEP")]
    pub only: Vec<String>,
    /// Leave these steps out.
    #[arg(long, value_delimiter = ',', value_name = "STEP")]
    pub skip: Vec<String>,
    /// Of the e2e step: run only the cases whose name contains this, or one of these, divided by commas.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub case: String,
    /// Of the e2e step: the cluster, which is made and removed.
    #[arg(long, default_value = e2e::CLUSTER, value_name = "NAME")]
    pub cluster: String,
    /// Leave the test cluster up (`cargo xtask cluster status --name test`), also for the next run.
    #[arg(long)]
    pub keep: bool,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Options) -> Result<Tally>,
}

const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        about: "cargo fmt --check",
        run: |_| cargo::fmt(),
    },
    Step {
        name: "clippy",
        about: "clippy, warnings are errors",
        run: |_| cargo::clippy(),
    },
    Step {
        name: "unit",
        about: "unit tests of all crates",
        run: |_| cargo::unit(),
    },
    Step {
        name: "generated",
        about: "generated files are current",
        run: |_| generated::current(),
    },
    Step {
        name: "deny",
        about: "licences, bans and sources of the dependencies",
        run: |_| cargo::deny(),
    },
    Step {
        name: "chart",
        about: "helm lint --strict",
        run: |_| generated::chart(),
    },
    Step {
        name: "bench",
        about: "a quick run of the uploader's benchmark tells every figure",
        run: |_| bench::smoke_of_uploader().map(|()| Tally::ONE),
    },
    Step {
        name: "bench-operator",
        about: "a quick run of the operator's benchmark tells every figure",
        run: |_| bench::smoke_of_operator().map(|()| Tally::ONE),
    },
    Step {
        name: "e2e",
        about: "cases on a real cluster",
        run: e2e::run,
    },
];

struct Line {
    name: &'static str,
    tally: Tally,
    took: Duration,
}

/// Runs the chosen steps; answers whether all of it held.
///
/// # Errors
/// There is no step of a given name. A check that does not hold is no error but `false`.
pub fn run(options: &Options) -> Result<bool> {
    let steps = chosen(options)?;
    let started = Instant::now();
    let mut lines = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        eprintln!(
            "\n=== [{}/{}] {}: {}",
            at + 1,
            steps.len(),
            step.name,
            step.about
        );
        let began = Instant::now();
        let tally = (step.run)(options).unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", step.name);
            Tally {
                passed: 0,
                failed: 1,
            }
        });
        let line = Line {
            name: step.name,
            tally,
            took: began.elapsed(),
        };
        eprintln!("=== [{}/{}] {}", at + 1, steps.len(), in_words(&line));
        lines.push(line);
    }
    Ok(sum_up(&lines, started.elapsed()))
}

fn sum_up(lines: &[Line], took: Duration) -> bool {
    let mut total = Tally::default();
    println!("\nsummary, {} in all:", seconds(took));
    for line in lines {
        println!("  {}", in_words(line));
        total.add(line.tally);
    }
    for line in lines.iter().filter(|line| line.tally.failed > 0) {
        println!(
            "{} failed: its output is above; once more alone: cargo xtask test --only {}",
            line.name, line.name
        );
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.failed == 0
}

fn in_words(line: &Line) -> String {
    let verdict = if line.tally.failed == 0 {
        "ok"
    } else {
        "FAILED"
    };
    format!(
        "{:<14} {verdict:<7} {} passed, {} failed, {}",
        line.name,
        line.tally.passed,
        line.tally.failed,
        seconds(line.took)
    )
}

fn chosen(options: &Options) -> Result<Vec<&'static Step>> {
    let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    if let Some(unknown) = options
        .only
        .iter()
        .chain(&options.skip)
        .find(|name| !known.contains(&name.as_str()))
    {
        bail!(
            "there is no step `{unknown}`; steps are: {}",
            known.join(", ")
        );
    }
    let named = |list: &[String], step: &Step| list.iter().any(|name| name == step.name);
    let wanted = |step: &&Step| {
        (options.only.is_empty() || named(&options.only, step)) && !named(&options.skip, step)
    };
    Ok(STEPS.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name() {
        let list = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        for (only, skip, want) in [
            (
                list(&[]),
                list(&["e2e", "deny"]),
                Some("fmt clippy unit generated chart bench bench-operator"),
            ),
            (list(&["e2e", "fmt"]), list(&[]), Some("fmt e2e")),
            (list(&["fmt"]), list(&["fmt"]), Some("")),
            (list(&["format"]), list(&[]), None),
        ] {
            let options = Options {
                only,
                skip,
                ..Options::default()
            };
            let names = chosen(&options).map(|steps| {
                steps
                    .iter()
                    .map(|step| step.name)
                    .collect::<Vec<_>>()
                    .join(" ")
            });
            assert_eq!(names.ok().as_deref(), want);
        }
    }

    #[test]
    fn a_run_fails_when_any_step_did() {
        let line = |failed| Line {
            name: "unit",
            tally: Tally { passed: 3, failed },
            took: Duration::ZERO,
        };
        assert!(sum_up(&[line(0), line(0)], Duration::ZERO));
        assert!(!sum_up(&[line(0), line(1)], Duration::ZERO));
    }
}
