//! The result as a page of `docs/benchmarks`.

use std::fmt::Write as _;

use crate::budgets::Verdict;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::samples::Samples;

/// Rows of figures: what, then the names of raw, Kinora, tusd; an empty name leaves a cell empty.
const SIDE_BY_SIDE: &[(&str, [&str; 3])] = &[
    (
        "one 300 MiB upload, MiB/s",
        ["raw_mib_per_s_1", "mib_per_s_1", "tusd_mib_per_s_1"],
    ),
    (
        "four at once, MiB/s",
        ["raw_mib_per_s_4", "mib_per_s_4", "tusd_mib_per_s_4"],
    ),
    (
        "one in pieces of 8 MiB, MiB/s",
        ["", "mib_per_s_chunks", "tusd_mib_per_s_chunks"],
    ),
    (
        "CPU-s/GiB, streamed",
        ["", "seaweed_cpu_s_per_gib", "tusd_cpu_s_per_gib"],
    ),
    (
        "CPU-s/GiB, pieces of 8 MiB",
        ["", "chunks_cpu_s_per_gib", "tusd_chunks_cpu_s_per_gib"],
    ),
    (
        "1 MiB videos/s, 16 clients",
        ["raw_small_per_s", "small_per_s", "tusd_small_per_s"],
    ),
    ("their p99, ms", ["", "small_p99_ms", "tusd_small_p99_ms"]),
    (
        "their CPU, ms each",
        ["", "small_cpu_ms", "tusd_small_cpu_ms"],
    ),
    (
        "1 MiB videos/s, 256 clients",
        ["", "crowd_per_s", "tusd_crowd_per_s"],
    ),
    ("their p99, ms", ["", "crowd_p99_ms", "tusd_crowd_p99_ms"]),
    ("their errors", ["", "crowd_errors", "tusd_crowd_errors"]),
    (
        "store calls, 1 MiB in one request",
        ["", "s3_calls_small", "tusd_s3_calls_small"],
    ),
    (
        "store calls, create and PATCH",
        ["", "s3_calls_small_patch", "tusd_s3_calls_small_patch"],
    ),
    (
        "store calls of a 300 MiB upload beyond its parts",
        [
            "",
            "s3_calls_stream_beyond_parts",
            "tusd_s3_calls_stream_beyond_parts",
        ],
    ),
    (
        "memory idle, MiB",
        ["", "rss_mib_idle", "tusd_rss_mib_idle"],
    ),
    (
        "memory at 100 uploads, peak MiB",
        ["", "rss_mib_100", "tusd_rss_mib_100"],
    ),
    (
        "what those 100 store together, MiB/s",
        ["", "active_mib_per_s", "tusd_active_mib_per_s"],
    ),
    (
        "how many of them end within 25 s",
        ["", "active_ended", "tusd_active_ended"],
    ),
    (
        "into a store that keeps nothing, four at once, MiB/s",
        ["", "null_mib_per_s", "tusd_null_mib_per_s"],
    ),
    (
        "the same, CPU-s/GiB",
        ["", "cpu_s_per_gib", "tusd_null_cpu_s_per_gib"],
    ),
];

/// The page.
pub(crate) fn page(
    samples: &Samples,
    verdicts: &[Verdict],
    machine: &Machine,
    plan: &Plan,
) -> String {
    let mut text = String::from("# Uploader\n\n");
    let held = verdicts.iter().filter(|verdict| verdict.holds).count();
    let _ = writeln!(
        text,
        "Written by `cargo xtask bench uploader --write`; medians of {} rounds. {held} of {} budgets hold. Rates are of this \
         machine; ratios travel.\n\n{machine} SeaweedFS 4.48 is on its disk.\n",
        plan.rounds,
        verdicts.len()
    );
    text.push_str(METHOD);
    text.push_str(&table(verdicts));
    text.push_str("\n## Side by side\n\n| | raw | Kinora | tusd |\n|---|---|---|---|\n");
    for (what, names) in SIDE_BY_SIDE {
        let cells = names.map(|name| cell(samples, name));
        let _ = writeln!(text, "| {what} | {} |", cells.join(" | "));
    }
    let by_itself = ["tusd_default_mib_per_s_1", "tusd_default_mib_per_s_4"];
    let by_itself = by_itself.map(|name| cell(samples, name));
    let _ = writeln!(
        text,
        "\ntusd with its own defaults (50 MiB parts, ten in flight), once: one upload {} MiB/s, four {} MiB/s.",
        by_itself[0], by_itself[1]
    );
    text
}

/// What was promised, beside what was measured.
pub(crate) fn table(verdicts: &[Verdict]) -> String {
    let mut text =
        "\n## Budgets\n\n| | figure | budget | measured | |\n|---|---|---|---|---|\n".to_owned();
    for verdict in verdicts {
        let word = if verdict.holds { "holds" } else { "**missed**" };
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {} | {word} |",
            verdict.what,
            verdict.figure,
            verdict.limit,
            number(verdict.value)
        );
    }
    text
}

/// A median with its spread.
pub(crate) fn cell(samples: &Samples, name: &str) -> String {
    let Some(value) = samples.get(name) else {
        return String::new();
    };
    match samples.spread(name) {
        Some((low, high, count)) if count > 1 => {
            format!("{} ({}–{})", number(value), number(low), number(high))
        }
        _ => number(value),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".to_owned(),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

const METHOD: &str = "\
## How it is measured

All on loopback, in one run: client, servers and store share the machine's cores, so whatever one of them saves the others
use. Kinora's uploader is built in the release profile, as `cargo xtask images --release` builds it; it checks an API key and
looks into every video. tusd is 2.9.1 with its S3 store, 8 MiB parts and two in flight as Kinora has, defaults otherwise.
Both are processes of their own, whose CPU time and memory come from `/proc`. The raw client sends 8 MiB parts one after the
other, or whole objects, with checksums that were computed before. Raw, Kinora and tusd take turns within every round, and
each round has a fresh SeaweedFS; ratios are taken within a round, and their median is told. What Kinora stored is compared
by CRC64NVME with what was sent.

- The store that keeps nothing is an HTTP server in the benchmark: it reads and drops the bodies of videos and answers as S3
  does, conditional writes included; it counts calls. It and the client use about half of the CPU time of those runs.
- Kubernetes is a server in the benchmark that answers every create with 201.
- Videos are a real 0.5 MB MP4 with a `free` box of noise behind it.
- Cuts happen at 80 % of a 64 MiB upload that comes at 40 MiB/s; the first new byte counts when a PATCH of 64 KiB at the other
  replica is acknowledged, after HEAD told the offset.
- What a kill costs depends on how full the part under way is: each round kills four replicas, 1, 3, 5 and 7 MiB behind half of
  such an upload, which spreads them evenly over a part. Median and worst are of all kills of all rounds.
- Stalled connections are half creates of a 1 MiB video in one request and half PATCHes; each sends 16 KiB and then nothing.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budgets::{UPLOADER, judge};

    #[test]
    fn the_page_tells_medians_with_their_spread_and_what_is_missed() {
        let mut samples = Samples::default();
        for value in [100.0, 140.0, 120.0] {
            samples.add("mib_per_s_1", value);
        }
        samples.add("ratio_raw_1", 1.05);
        let verdicts = judge(UPLOADER, &samples);
        let page = page(&samples, &verdicts, &Machine::read(), &Plan::full(3));
        assert!(
            page.contains("| one 300 MiB upload, MiB/s |  | 120 (100–140) |  |"),
            "{page}"
        );
        assert!(
            page.contains("| `ratio_raw_1` | ≥ 1.1 | 1.05 | **missed** |"),
            "{page}"
        );
    }
}
