//! The tables of docs/metrics.md against the registry, and S19: what a label can be is an enum's.

use std::collections::{BTreeMap, BTreeSet};

use kinora_upload_engine::finish::Finished;
use prometheus_client::encoding::text::encode;

use super::*;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

/// The registry's text after one of everything.
fn exposed(metrics: &Metrics) -> String {
    metrics.answered(Route::Upload, Verb::Patch, Class::Success);
    metrics.wrote("closed");
    metrics.observed(StoreCall::Get, Ok(()), Duration::from_millis(3));
    let mut text = String::new();
    encode(&mut text, &metrics.registry()).unwrap();
    text
}

/// One row of the documentation for each metric, sorted.
fn rows(text: &str) -> Vec<String> {
    let mut help = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, rest)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            help.insert(name, rest.trim_end_matches('.'));
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            kinds.insert(name, kind);
        } else if let Some((series, rest)) = line.split_once('{') {
            let name = ["_total", "_bucket", "_sum", "_count"]
                .iter()
                .find_map(|ending| series.strip_suffix(ending));
            let all = rest.split('}').next().unwrap_or_default().split(',');
            let names = all.filter_map(|pair| Some(pair.split_once('=')?.0));
            let names = names.filter(|name| *name != "le");
            labels
                .entry(name.unwrap_or(series))
                .or_default()
                .extend(names);
        }
    }
    let row = |(name, kind): (&&str, &&str)| {
        let ending = if *kind == "counter" { "_total" } else { "" };
        let labels = labels.get(name).into_iter().flatten();
        let labels: Vec<String> = labels.map(|label| format!("`{label}`")).collect();
        format!(
            "| `{name}{ending}` | {kind} | {} | {} |",
            labels.join(", "),
            help[name]
        )
    };
    kinds.iter().map(row).collect()
}

fn words<T: Copy>(label: &str, all: &[T], word: fn(T) -> &'static str) -> String {
    let all: Vec<String> = all.iter().map(|one| format!("`{}`", word(*one))).collect();
    format!("| {label} | {} |", all.join(", "))
}

fn values() -> Vec<String> {
    vec![
        words("`route`", Route::ALL, Route::word),
        words("`method`", Verb::ALL, Verb::word),
        words("`status`", Class::ALL, Class::word),
        words(
            "`reason` of rejected videos",
            Rejection::ALL,
            Rejection::word,
        ),
        words("`outcome` of finishes", FinishEnd::ALL, FinishEnd::word),
        words("`outcome` of sweeps", SweepEnd::ALL, SweepEnd::word),
        words("`outcome` of store calls", CallEnd::ALL, CallEnd::word),
        words("`call`", StoreCall::ALL, StoreCall::word),
        words("`limit`", Limit::ALL, Limit::word),
        words("`kind`", Written::ALL, Written::word),
        words("`on`", Wait::ALL, Wait::word),
    ]
}

#[test]
fn the_documentation_lists_every_metric_and_every_label() {
    let mut want = rows(&exposed(&Metrics::default()));
    want.extend(values());
    let docs = std::fs::read_to_string(DOCS).unwrap();
    let there = |row: &&str| row.starts_with("| `");
    let got: Vec<&str> = docs.lines().filter(there).collect();
    assert_eq!(
        got,
        want,
        "docs/metrics.md must hold:\n{}\n",
        want.join("\n")
    );
}

#[test]
fn what_never_happened_is_zero_and_not_absent() {
    let text = exposed(&Metrics::default());
    for line in [
        "kinora_uploader_refusals_total{reason=\"overloaded\"} 0",
        "kinora_uploader_videos_rejected_total{reason=\"TooLong\"} 0",
        "kinora_uploader_finishes_total{outcome=\"store_lost\"} 0",
        "kinora_uploader_limits_reached_total{limit=\"owner.bytesPerDay\"} 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}:\n{text}");
    }
}

/// covers: S19
#[test]
fn words_of_others_become_no_label() {
    let metrics = Metrics::default();
    metrics.finished(&Finished::Rejected("\"} 1\nevil".into()));
    let odd = http::Method::from_bytes(b"BREW").unwrap();
    metrics.answered(
        Route::of(Some("/etc/passwd")),
        Verb::of(&odd),
        Class::Client,
    );
    let text = exposed(&metrics);
    for line in [
        "kinora_uploader_videos_rejected_total{reason=\"other\"} 1",
        "kinora_uploader_requests_total{route=\"other\",method=\"other\",status=\"4xx\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}:\n{text}");
    }
    assert!(!text.contains("evil") && !text.contains("BREW") && !text.contains("passwd"));
}

#[test]
fn what_is_present_is_counted_until_it_goes() {
    let metrics = Metrics::default();
    let (first, second) = (metrics.uploading(), metrics.uploading());
    assert_eq!(metrics.active_uploads.get(), 2);
    drop(first);
    assert_eq!(metrics.active_uploads.get(), 1);
    drop(second);
    assert_eq!(metrics.active_uploads.get(), 0);
}
