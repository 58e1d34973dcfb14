//! The result: JSON for programs, Markdown for people, and which budgets were missed.

use std::fmt;

use serde_json::{Value, json};

use super::cost::{Idle, Measured};
use crate::bench::machine::Machine;

/// CPU of API server and etcd a job, against native Jobs', at most.
const CPU_RATIO: f64 = 1.0 / 8.0;
/// Jobs a second against bare pods', at least.
const OVER_PODS: f64 = 20.0;
/// Jobs a second against native Jobs', at least.
const OVER_JOBS: f64 = 30.0;

/// All three.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub idle: Idle,
    pub bare: Measured,
    pub native: Measured,
    pub kinora: Measured,
}

impl Report {
    fn cpu_ratio(&self) -> f64 {
        self.kinora.cpu_ms() / self.native.cpu_ms()
    }

    fn over_pods(&self) -> f64 {
        self.kinora.per_second() / self.bare.per_second()
    }

    fn over_jobs(&self) -> f64 {
        self.kinora.per_second() / self.native.per_second()
    }

    /// Budgets that were missed, as sentences.
    pub(super) fn missed(&self) -> Vec<String> {
        let table = [
            (
                self.cpu_ratio() <= CPU_RATIO,
                "CPU a job is more than 1/8 of native Jobs'",
            ),
            (
                self.over_pods() >= OVER_PODS,
                "jobs a second are less than 20 times bare pods'",
            ),
            (
                self.over_jobs() >= OVER_JOBS,
                "jobs a second are less than 30 times native Jobs'",
            ),
        ];
        let missed = table.into_iter().filter(|(held, _)| !held);
        missed.map(|(_, sentence)| sentence.to_owned()).collect()
    }

    /// One flat object.
    pub(super) fn figures(&self) -> Value {
        let mut all = serde_json::Map::new();
        for (name, one) in [
            ("bare_pods", &self.bare),
            ("native_jobs", &self.native),
            ("kinora_jobs", &self.kinora),
        ] {
            all.insert(format!("{name}_per_s"), json!(round(one.per_second())));
            all.insert(
                format!("{name}_done_per_s"),
                json!(round(one.done_per_second())),
            );
        }
        for (name, one) in [
            ("bare", &self.bare),
            ("native", &self.native),
            ("kinora", &self.kinora),
        ] {
            all.insert(format!("{name}_items"), json!(one.items));
            all.insert(format!("{name}_cpu_ms_per_job"), json!(round(one.cpu_ms())));
            all.insert(format!("{name}_writes_per_job"), json!(round(one.writes())));
            all.insert(format!("{name}_events_per_job"), json!(round(one.events())));
        }
        all.insert(
            "idle_cpu_percent".to_owned(),
            json!(round(self.idle.0 * 100.0)),
        );
        all.insert(
            "cpu_ratio_to_native".to_owned(),
            json!(round(self.cpu_ratio())),
        );
        all.insert(
            "per_s_over_bare_pods".to_owned(),
            json!(round(self.over_pods())),
        );
        all.insert(
            "per_s_over_native_jobs".to_owned(),
            json!(round(self.over_jobs())),
        );
        all.into()
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Kinora beside bare pods and native Jobs\n")?;
        writeln!(
            f,
            "`cargo xtask bench compare`: one node, one control plane, one after the other in one run. {}\n",
            Machine::read()
        )?;
        writeln!(
            f,
            "| | items | all gone, a second | last done, a second | writes each | Events each | API server and etcd, CPU ms each |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for (name, one) in [
            ("bare pods, deleted when done", &self.bare),
            ("batch/v1 Jobs, TTL 0", &self.native),
            ("Kinora, real workers", &self.kinora),
        ] {
            writeln!(
                f,
                "| {name} | {} | {:.1} | {:.1} | {:.2} | {:.2} | {:.1} |",
                one.items,
                one.per_second(),
                one.done_per_second(),
                one.writes(),
                one.events(),
                one.cpu_ms()
            )?;
        }
        writeln!(f, "\n| budget | here | wanted |\n|---|---|---|")?;
        writeln!(
            f,
            "| CPU a job of native Jobs' | {:.3} | ≤ 0.125 |",
            self.cpu_ratio()
        )?;
        writeln!(
            f,
            "| jobs a second over bare pods' | {:.1} | ≥ 20 |",
            self.over_pods()
        )?;
        writeln!(
            f,
            "| jobs a second over native Jobs' | {:.1} | ≥ 30 |",
            self.over_jobs()
        )?;
        for sentence in self.missed() {
            writeln!(f, "\nMissed: {sentence}.")?;
        }
        writeln!(
            f,
            "\nPods run a program that ends at once. The controller manager has its default limits (20 requests a second, bursts of \
             30), which stretch the clean-up after native Jobs. Kinora's jobs are created through the API with the uploader's \
             identity, 16 at a time, go to two worker pods of 16 slots, and the reference service answers each call at once \
             without reading or writing a video; each job gets its record in SeaweedFS and is deleted a second after its end. \
             Everything shares the machine, and the API server's garbage collector runs with GOGC=400 for all three. Leases and \
             the node's status are not counted; Events are counted apart. What API server and etcd take when nothing is done, {:.1} % \
             of a core measured before, is taken off by the second. Each way is measured once, in this order.",
            self.idle.0 * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn measured(items: usize, seconds: u64, cpu_ms: u64) -> Measured {
        Measured {
            items,
            took: Duration::from_secs(seconds),
            done: Duration::from_secs(seconds),
            cpu: Duration::from_millis(cpu_ms),
            writes: items * 4,
            events: 0,
        }
    }

    #[test]
    fn budgets_are_ratios_and_every_missed_one_is_named() {
        let report = Report {
            idle: Idle(0.05),
            bare: measured(60, 15, 3_540),
            native: measured(60, 20, 7_500),
            kinora: measured(2_000, 20, 20_000),
        };
        assert!(report.missed().is_empty(), "{:?}", report.missed());
        let told = report.figures();
        assert_eq!(told["bare_pods_per_s"], 4.0);
        assert_eq!(told["native_jobs_per_s"], 3.0);
        assert_eq!(told["kinora_jobs_per_s"], 100.0);
        assert_eq!(told["native_cpu_ms_per_job"], 125.0);
        assert_eq!(told["kinora_cpu_ms_per_job"], 10.0);
        assert_eq!(told["kinora_writes_per_job"], 4.0);
        assert_eq!(told["per_s_over_bare_pods"], 25.0);
        let slow = Report {
            kinora: measured(2_000, 2_000, 200_000),
            ..report
        };
        assert_eq!(slow.missed().len(), 3);
        assert!(slow.to_string().contains("Missed: CPU a job"));
    }
}
