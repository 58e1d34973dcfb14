//! What was measured, and how it is told: a text, one JSON object, a page for `docs/benchmarks`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::world::{LIVE, SLOTS, TENANTS, WORKERS};

/// The budget: events a second.
const BUDGET: f64 = 500_000.0;

/// See the module.
pub(crate) struct Report {
    pub(crate) events_per_s: f64,
    pub(crate) slowest: f64,
    pub(crate) fastest: f64,
    pub(crate) bytes_per_job: u64,
    pub(crate) mix: BTreeMap<&'static str, usize>,
}

impl Report {
    pub(crate) fn json(&self) -> String {
        format!(
            r#"{{"events_per_s":{:.0},"bytes_per_job":{}}}"#,
            self.events_per_s, self.bytes_per_job
        )
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{:.0} events/s on one core (budget {BUDGET:.0}; {:.0} to {:.0} in all runs)\n{} bytes a waiting job\n",
            self.events_per_s, self.slowest, self.fastest, self.bytes_per_job
        );
        for (kind, count) in &self.mix {
            let _ = writeln!(text, "{count:>9} {kind}");
        }
        text
    }

    /// Writes the page. A relative path is meant from where the command was given: cargo goes elsewhere.
    pub(crate) fn write(&self, path: &str) -> Result<(), String> {
        let from = std::env::var_os("PWD").map(std::path::PathBuf::from);
        let path = from.unwrap_or_default().join(path);
        let page = self.page();
        std::fs::write(&path, page).map_err(|error| format!("write {}: {error}", path.display()))
    }

    fn page(&self) -> String {
        let total: usize = self.mix.values().sum();
        let mut page = format!(
            "# The engine alone\n\n\
             Written by `cargo bench -p kinora-engine -- --write docs/benchmarks/engine.md`.\n\n\
             | what | measured | budget |\n|---|---|---|\n\
             | events a second on one core, median of runs | {:.0} ({:.0} to {:.0}) | ≥ {BUDGET:.0} |\n\
             | resident bytes of a waiting job, of 100,000 | {} | 480 allocated, by a test |\n\n\
             {LIVE} live jobs of {TENANTS} tenants with weights, a rate and a limit of calls; {WORKERS} workers with {SLOTS} \
             slots each; one call in 25 fails, a worker restarts every 5 s, a job is cancelled every second. The time is the \
             processor's, so that others on the machine do not count.\n\n\
             | events | share |\n|---|---|\n",
            self.events_per_s, self.slowest, self.fastest, self.bytes_per_job
        );
        for (kind, count) in &self.mix {
            let tenths = count * 1000 / total.max(1);
            let _ = writeln!(page, "| {kind} | {}.{} % |", tenths / 10, tenths % 10);
        }
        let _ = write!(page, "\nMachine: {}.\n", machine());
        page
    }
}

/// Resident bytes that `make` takes for each of so many.
pub(crate) fn bytes_per<T>(count: usize, make: impl FnOnce() -> T) -> Result<u64, String> {
    let before = resident()?;
    let made = make();
    let after = resident()?;
    drop(made);
    Ok(after.saturating_sub(before) / count as u64)
}

fn resident() -> Result<u64, String> {
    let status = read("/proc/self/status")?;
    let kib = field(&status, "VmRSS:").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    Ok(kib.ok_or("no VmRSS")? * 1024)
}

/// Time that this thread has run.
pub(crate) fn on_cpu() -> Result<Duration, String> {
    let stat = read("/proc/thread-self/schedstat")?;
    let nanos = stat.split(' ').next().and_then(|text| text.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| "no time in schedstat".to_owned())
}

fn machine() -> String {
    let cpu = read("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpu, "model name").unwrap_or("unknown");
    let cores = cpu.matches("processor\t").count();
    let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Without the suffix of a build.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    format!("{cores} × {model}, Linux {kernel}")
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line[name.len()..].trim_matches([' ', '\t', ':']))
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"))
}
