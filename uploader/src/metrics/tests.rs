//! The tables of docs/metrics.md against the registry, and S19: what a label can be is an enum's.

use kinora_telemetry::exposed;
use kinora_upload_engine::finish::Finished;
use prometheus_client::encoding::text::encode;

use super::*;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

/// The registry's text after one of everything.
fn text_of(metrics: &Metrics) -> String {
    metrics.answered(Route::Upload, Verb::Patch, Class::Success);
    metrics.observed(StoreCall::Get, Ok(()), Duration::from_millis(3));
    let mut text = String::new();
    encode(&mut text, &metrics.registry()).unwrap();
    text
}

fn words<T: Copy>(label: &str, all: &[T], word: fn(T) -> &'static str) -> String {
    let all: Vec<&str> = all.iter().map(|one| word(*one)).collect();
    exposed::values(label, &all)
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
        words("`outcome` of writers", WriterEnd::ALL, WriterEnd::word),
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
    let mut want = exposed::rows(&text_of(&Metrics::default()));
    want.extend(values());
    let docs = std::fs::read_to_string(DOCS).unwrap();
    let got = exposed::documented(&docs, "## Uploader");
    assert_eq!(
        got,
        want,
        "docs/metrics.md must hold below ## Uploader:\n{}\n",
        want.join("\n")
    );
}

#[test]
fn what_never_happened_is_zero_and_not_absent() {
    let text = text_of(&Metrics::default());
    for line in [
        "kinora_uploader_refusals_total{reason=\"overloaded\"} 0",
        "kinora_uploader_videos_rejected_total{reason=\"TooLong\"} 0",
        "kinora_uploader_finishes_total{outcome=\"store_lost\"} 0",
        "kinora_uploader_writers_total{outcome=\"lost\"} 0",
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
    let text = text_of(&metrics);
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
