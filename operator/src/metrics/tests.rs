//! What is exposed, and the tables of docs/metrics.md against it.

use std::sync::atomic::Ordering;

use super::*;
use crate::core::{Admission, CoreCounters};
use crate::ports::{BreakerState, Leadership, PoolBacklog, PoolKey};
use kinora_telemetry::exposed::{documented, rows, values};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

struct Exposed {
    counters: Arc<CoreCounters>,
    metrics: Metrics,
    upkeep: Upkeep,
}

impl Exposed {
    /// A leader with one pool.
    fn new() -> Exposed {
        let counters = Arc::new(CoreCounters::default());
        let key = PoolKey {
            namespace: "videos".to_owned(),
            name: "default".to_owned(),
        };
        let pool = PoolBacklog {
            queued: 3,
            running: 1,
            effective_limit: Some(7),
            call_seconds: Some(1.5),
            paused: true,
            breaker: BreakerState::Refused,
            ..PoolBacklog::default()
        };
        let metrics = Metrics::default();
        let upkeep = metrics.upkeep();
        metrics.default_pool_applied();
        metrics.readiness(watch::channel(None).1);
        let gate = Arc::new(Mutex::new(Gate::new(1000)));
        metrics.admission(watch::channel(Some(Admission { live: 4 })).1, gate);
        metrics.watch(Sources {
            counters: counters.clone(),
            backlog: watch::channel(Arc::new([(key, pool)].into())).1,
            admission: watch::channel(Admission { live: 4 }).1,
            max_live_jobs: 1000,
            leadership: watch::channel(Leadership::Leader).1,
        });
        Exposed {
            counters,
            metrics,
            upkeep,
        }
    }

    fn text(&self) -> String {
        self.metrics.encode().unwrap()
    }

    fn shows(&self, lines: &[&str]) {
        let text = self.text();
        for line in lines {
            assert!(
                text.lines().any(|other| other == *line),
                "{line} is missing in:\n{text}"
            );
        }
    }
}

#[test]
fn counts_and_pools_are_read_at_the_scrape() {
    let exposed = Exposed::new();
    exposed.counters.claims.fetch_add(2, Ordering::Relaxed);
    exposed.counters.throttled.fetch_add(1, Ordering::Relaxed);
    let without_pool = &exposed.counters.jobs_without_pool;
    without_pool.store(5, Ordering::Relaxed);
    let pool = "namespace=\"videos\",pool=\"default\"";
    exposed.shows(&[
        "kinora_claims_total 2",
        "kinora_attempts_ended_total{class=\"throttled\"} 1",
        &format!("kinora_pool_jobs_queued{{{pool}}} 3.0"),
        &format!("kinora_pool_effective_limit{{{pool}}} 7.0"),
        &format!("kinora_pool_call_seconds{{{pool}}} 1.5"),
        &format!("kinora_pool_paused{{{pool}}} 1.0"),
        &format!("kinora_pool_breaker{{{pool},state=\"refused\"}} 1"),
        &format!("kinora_pool_breaker{{{pool},state=\"closed\"}} 0"),
        "kinora_jobs_without_pool 5",
        "kinora_live_jobs 4",
        "kinora_live_jobs_max 1000",
        "kinora_leader 1",
        "kinora_ready 1",
        "kinora_archive_lag_seconds 0",
    ]);
}

#[test]
fn what_keeps_store_and_control_plane_in_step_begins_at_zero_and_counts() {
    let exposed = Exposed::new();
    exposed.shows(&[
        "kinora_audit_entries_total{outcome=\"created\"} 0",
        "kinora_deletions_judged_total{verdict=\"loss\"} 0",
        "kinora_redrive_letters_total{outcome=\"done\"} 0",
        "kinora_cleaner_passes_total{outcome=\"clocks\"} 0",
        "kinora_control_plane_rewinds_total 0",
    ]);
    exposed.upkeep.settled(Entry::Created, 3);
    exposed.upkeep.judged(Judged::Loss);
    exposed.upkeep.redriven(Redriven::Done);
    exposed.upkeep.cleaned(PassEnd::Clocks);
    exposed.upkeep.rewound();
    exposed.shows(&[
        "kinora_audit_entries_total{outcome=\"created\"} 3",
        "kinora_deletions_judged_total{verdict=\"loss\"} 1",
        "kinora_redrive_letters_total{outcome=\"done\"} 1",
        "kinora_cleaner_passes_total{outcome=\"clocks\"} 1",
        "kinora_control_plane_rewinds_total 1",
    ]);
}

/// The values of a label, as the text shows them in their order.
fn shown(text: &str, series: &str, label: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with(series));
    let found = lines.filter_map(|line| {
        let (_, rest) = line.split_once(&format!("{label}=\""))?;
        Some(rest.split('"').next()?.to_owned())
    });
    let mut all: Vec<String> = found.collect();
    all.sort_unstable();
    all
}

#[test]
fn the_documentation_lists_every_metric_and_every_label() {
    let text = Exposed::new().text();
    let mut want = rows(&text);
    let labels = [
        ("`state` of jobs", "kinora_jobs_ended_total{", "state"),
        ("`class`", "kinora_attempts_ended_total{", "class"),
        ("`answer`", "kinora_status_writes_total{", "answer"),
        ("`outcome` of events", "kinora_events_total{", "outcome"),
        ("`state` of a breaker", "kinora_pool_breaker{", "state"),
        (
            "`outcome` of audits",
            "kinora_audit_passes_total{",
            "outcome",
        ),
        (
            "`outcome` of entries",
            "kinora_audit_entries_total{",
            "outcome",
        ),
        ("`verdict`", "kinora_deletions_judged_total{", "verdict"),
        (
            "`outcome` of letters",
            "kinora_redrive_letters_total{",
            "outcome",
        ),
        (
            "`outcome` of cleaner passes",
            "kinora_cleaner_passes_total{",
            "outcome",
        ),
        (
            "`outcome` of items",
            "kinora_cleaner_items_total{",
            "outcome",
        ),
        (
            "`outcome` of samples",
            "kinora_cleaner_samples_total{",
            "outcome",
        ),
    ];
    for (title, series, label) in labels {
        let words = shown(&text, series, label);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert!(!words.is_empty(), "{series} shows no {label}");
        want.push(values(title, &words));
    }
    let docs = std::fs::read_to_string(DOCS).unwrap();
    let got = documented(&docs, "## Operator");
    assert_eq!(
        got,
        want,
        "docs/metrics.md must hold below ## Operator:\n{}\n",
        want.join("\n")
    );
}
