//! The result as a page of `docs/benchmarks`.

use std::fmt::Write as _;

use super::plan::Plan;
use crate::budgets::Verdict;
use crate::machine::Machine;
use crate::markdown::{cell, table};
use crate::samples::Samples;

const FIGURES: &[(&str, &str)] = &[
    ("bare loop, sets of four writes/s", "ceiling_jobs_per_s"),
    ("Kinora, jobs/s", "jobs_per_s"),
    ("its ratio, within a round", "jobs_ratio"),
    ("Kinora on SeaweedFS, jobs/s", "seaweed_jobs_per_s"),
    (
        "operator CPU there, of a job, ms",
        "seaweed_operator_cpu_ms",
    ),
    ("writes of a job: create", "writes_create"),
    ("writes of a job: status patch", "writes_status"),
    ("writes of a job: delete", "writes_delete"),
    ("refused writes of a job", "writes_failed"),
    ("Kinora's other writes a minute", "other_writes_per_minute"),
    ("store calls of a job", "store_calls_per_job"),
    ("operator CPU of a job, ms", "operator_cpu_ms"),
    (
        "API server and etcd CPU of a job, ms",
        "control_plane_cpu_ms",
    ),
    ("the same of a bare set, ms", "ceiling_control_plane_cpu_ms"),
    ("load, workers and store, CPU of a job, ms", "bench_cpu_ms"),
    (
        "the bare loop itself, CPU of a set, ms",
        "ceiling_bench_cpu_ms",
    ),
    ("bare create and status PUT, p50 ms", "bare_p50_ms"),
    ("bare create and status PUT, p99 ms", "bare_p99_ms"),
    ("create → lease, p50 ms", "lease_p50_ms"),
    ("create → lease, p99 ms", "lease_p99_ms"),
    ("load of both, jobs/s", "half_load_per_s"),
    ("operator memory, no jobs, MiB", "rss_mib_0"),
    ("operator memory, 20,000 live jobs, MiB", "rss_mib_20k"),
    ("operator memory, 100,000 live jobs, MiB", "rss_mib_100k"),
    ("a standby's, which listed them, MiB", "rss_mib_100k_listed"),
    ("idle CPU, no jobs, % of a core", "cpu_percent_0"),
    ("idle CPU, 20,000 live jobs, % of a core", "cpu_percent_20k"),
    (
        "idle CPU, 100,000 live jobs, % of a core",
        "cpu_percent_100k",
    ),
    ("worker killed → leased again, p50 s", "relet_p50_s"),
    (
        "jobs of surviving workers that were not adopted",
        "not_adopted",
    ),
];

/// The page.
pub(super) fn page(
    samples: &Samples,
    verdicts: &[Verdict],
    machine: &Machine,
    plan: &Plan,
) -> String {
    let mut text = String::from("# Operator\n\n");
    let held = verdicts.iter().filter(|verdict| verdict.holds).count();
    let Plan {
        rounds,
        jobs,
        at_once,
        ..
    } = plan;
    let _ = writeln!(
        text,
        "Written by `cargo xtask bench operator --write`; medians of {rounds} rounds of {jobs} jobs, {at_once} at a time. {held} \
         of {} budgets hold. Rates are of this machine; ratios travel.\n\n{machine}\n",
        verdicts.len()
    );
    text.push_str(METHOD);
    text.push_str(&table(verdicts));
    text.push_str("\n## Figures\n\n| | |\n|---|---|\n");
    for (what, name) in FIGURES {
        let _ = writeln!(text, "| {what} | {} |", cell(samples, name));
    }
    text
}

const METHOD: &str = "\
## How it is measured

A real etcd and API server in a network of their own, with Kinora's manifests applied (RBAC, admission policy, definitions),
and no controller, scheduler or node; the API server's garbage collector runs with GOGC=400 for both sides. The operator is
the release binary with leader election, TLS, token authentication and its log on; jobs are created by the uploader's
ServiceAccount with the uploader's bytes. All share the machine's cores, so whatever one of them saves the others use.

- Workers are streams of the benchmark over the real protocol, 100 with two slots each, with the real worker's decisions;
  pods without containers give them their tokens. A call succeeds at once, with two outputs.
- The store is an HTTP server in the benchmark that keeps decisions and records in memory, and says of every output that it is
  there. SeaweedFS takes its place once, on the same cores, with jobs that have no outputs.
- The bare loop makes the same four writes (create, claim, finish, delete) with the bytes that Kinora wrote for one job, as
  many sets at a time as Kinora has jobs, beside one open watch; Kinora's place is free again when the success is acknowledged,
  while record and delete run on. The operator does not run meanwhile. Kinora's TTL is 0, so
  that its delete follows as soon as the record is stored; its time ends when the last job is gone. Both take turns.
- Half load is half of Kinora's jobs/s, with random gaps; the time runs from before the create to the lease at the worker. The
  bare pair runs at the same rate, with the other two writes behind it.
- Live jobs are queued ones in a pool without workers. Idle is an operator that leads and has nothing to do but to keep the
  lease and, beside live jobs, the heartbeats of 100 workers.
- The leader is killed while 100 jobs run and 20,000 wait; ten workers are killed with it and do not come back, and new jobs
  keep coming. All has settled when the jobs of the killed are leased again; of the others it is counted who gets another lease.
- A killed worker is a stream that ends, 50 one after the other; a silent one keeps its connection and says nothing.
- The backlog is 200 jobs to a pool that had none; the time runs from the last create until the Deployment asks for all.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budgets::judge;
    use crate::operator::budgets::OPERATOR;

    #[test]
    fn the_page_tells_what_holds_and_what_is_missed() {
        let mut samples = Samples::default();
        for value in [0.7, 0.9, 0.85] {
            samples.add("jobs_ratio", value);
        }
        samples.worst("failover_s", 9.0);
        let verdicts = judge(OPERATOR, &samples);
        let page = page(&samples, &verdicts, &Machine::read(), &Plan::full(3));
        for want in [
            "| `jobs_ratio` | ≥ 0.8 | 0.85 | holds |",
            "| `failover_s` | ≤ 8 | 9 | **missed** |",
            "| its ratio, within a round | 0.85 (0.70–0.90) |",
        ] {
            assert!(page.contains(want), "{page}");
        }
    }
}
