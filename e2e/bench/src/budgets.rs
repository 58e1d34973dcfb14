//! What was promised, beside what was measured.

use crate::samples::Samples;

/// On which side of the limit a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    AtLeast,
    AtMost,
}

/// One promise.
pub(crate) struct Budget {
    what: &'static str,
    figure: &'static str,
    side: Side,
    limit: Limit,
}

enum Limit {
    Is(f64),
    /// Another figure of the same run.
    Figure(&'static str),
}

/// A promise and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) what: &'static str,
    pub(crate) figure: &'static str,
    /// In words.
    pub(crate) limit: String,
    pub(crate) value: f64,
    pub(crate) holds: bool,
}

/// At least so much.
pub(crate) const fn least(what: &'static str, figure: &'static str, limit: f64) -> Budget {
    let (side, limit) = (Side::AtLeast, Limit::Is(limit));
    Budget {
        what,
        figure,
        side,
        limit,
    }
}

/// At most so much.
pub(crate) const fn most(what: &'static str, figure: &'static str, limit: f64) -> Budget {
    let (side, limit) = (Side::AtMost, Limit::Is(limit));
    Budget {
        what,
        figure,
        side,
        limit,
    }
}

/// At most what another figure of the same run is.
pub(crate) const fn below(what: &'static str, figure: &'static str, other: &'static str) -> Budget {
    let (side, limit) = (Side::AtMost, Limit::Figure(other));
    Budget {
        what,
        figure,
        side,
        limit,
    }
}

/// What no machine and no haste changes of the uploader's: a quick run is judged by these.
pub(crate) const COUNTED: &[&str] = &["s3_calls_small", "crowd_errors"];

/// The uploader's.
pub(crate) const UPLOADER: &[Budget] = &[
    least(
        "one 300 MiB upload, of a plain client's sequential parts",
        "ratio_raw_1",
        1.10,
    ),
    least(
        "four 300 MiB uploads, of four plain clients",
        "ratio_raw_4",
        0.90,
    ),
    least(
        "one upload in 8 MiB pieces, of a plain client",
        "ratio_raw_chunks",
        0.75,
    ),
    least("one upload, of tusd", "ratio_tusd_1", 1.0),
    least("four uploads, of tusd", "ratio_tusd_4", 1.0),
    least("8 MiB pieces, of tusd", "ratio_tusd_chunks", 1.0),
    most(
        "CPU seconds per GiB on SeaweedFS",
        "seaweed_cpu_s_per_gib",
        2.0,
    ),
    below(
        "CPU per GiB on SeaweedFS, less than tusd's",
        "seaweed_cpu_s_per_gib",
        "tusd_cpu_s_per_gib",
    ),
    least("own ceiling, MiB/s", "null_mib_per_s", 1024.0),
    most("own CPU seconds per GiB", "cpu_s_per_gib", 1.0),
    most("memory when idle, MiB", "rss_mib_idle", 15.0),
    most("memory at 100 large uploads, MiB", "rss_mib_100", 256.0),
    most(
        "memory at 5,000 stalled connections, MiB",
        "rss_mib_5000_stalled",
        200.0,
    ),
    most(
        "a healthy upload beside them, p99 in ms",
        "stalled_healthy_p99_ms",
        1000.0,
    ),
    Budget {
        what: "1 MiB videos a second, 16 clients, at least tusd's",
        figure: "small_per_s",
        side: Side::AtLeast,
        limit: Limit::Figure("tusd_small_per_s"),
    },
    most("CPU of a 1 MiB video, ms", "small_cpu_ms", 4.8),
    most("errors with 256 clients", "crowd_errors", 0.0),
    most(
        "store calls of a small video in one request",
        "s3_calls_small",
        4.1,
    ),
    most(
        "store calls of create and PATCH",
        "s3_calls_small_patch",
        8.0,
    ),
    most(
        "sent again after a client's cut, MiB",
        "resent_mib_cut_most",
        1.0,
    ),
    most(
        "sent again after kill -9, median MiB",
        "resent_mib_kill9",
        8.0,
    ),
    most(
        "sent again after kill -9, most MiB",
        "resent_mib_kill9_most",
        16.0,
    ),
    most(
        "first new byte elsewhere after FIN, ms",
        "first_byte_ms_fin",
        250.0,
    ),
    most(
        "first new byte elsewhere after RST, ms",
        "first_byte_ms_rst",
        250.0,
    ),
    most(
        "first new byte elsewhere, half-open, ms",
        "first_byte_ms_half_open",
        2500.0,
    ),
    most(
        "first new byte on the same replica, ms",
        "first_byte_ms_same_replica",
        100.0,
    ),
    most(
        "a 21 MiB upload beside 200 stalled bodies, of its time alone",
        "parked_ratio",
        2.0,
    ),
];

/// Judges a run; a figure that was not measured does not hold.
pub(crate) fn judge(budgets: &[Budget], samples: &Samples) -> Vec<Verdict> {
    let verdict = |budget: &Budget| {
        let value = samples.get(budget.figure).unwrap_or(f64::NAN);
        let (limit, words) = match budget.limit {
            Limit::Is(limit) => (limit, format!("{limit}")),
            Limit::Figure(name) => {
                let limit = samples.get(name).unwrap_or(f64::NAN);
                (limit, format!("{limit:.2}"))
            }
        };
        let (holds, sign) = match budget.side {
            Side::AtLeast => (value >= limit, "≥"),
            Side::AtMost => (value <= limit, "≤"),
        };
        Verdict {
            what: budget.what,
            figure: budget.figure,
            limit: format!("{sign} {words}"),
            value,
            holds,
        }
    };
    budgets.iter().map(verdict).collect()
}

/// Whether all holds, or, of a quick run, what is counted.
pub(crate) fn hold(verdicts: &[Verdict], quick: bool, counted: &[&str]) -> bool {
    let judged = |verdict: &&Verdict| !quick || counted.contains(&verdict.figure);
    verdicts.iter().filter(judged).all(|verdict| verdict.holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_holds_on_its_side_of_the_limit_and_never_unmeasured() {
        let mut samples = Samples::default();
        samples.add("ratio_raw_1", 1.2);
        samples.add("small_per_s", 99.0);
        samples.add("tusd_small_per_s", 100.0);
        samples.worst("crowd_errors", 0.0);
        let verdicts = judge(UPLOADER, &samples);
        let holds = |figure: &str| {
            let found = verdicts.iter().find(|verdict| verdict.figure == figure);
            found.map(|verdict| verdict.holds)
        };
        assert_eq!(holds("ratio_raw_1"), Some(true));
        assert_eq!(holds("small_per_s"), Some(false), "behind the other");
        assert_eq!(holds("crowd_errors"), Some(true), "at the limit");
        assert_eq!(holds("rss_mib_idle"), Some(false), "not measured");
        assert!(!hold(&verdicts, false, &[]));
        assert!(hold(&verdicts, true, &["crowd_errors"]));
        assert!(!hold(&verdicts, true, COUNTED));
    }
}
