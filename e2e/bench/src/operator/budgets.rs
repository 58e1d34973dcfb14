//! What was promised of the operator.

use crate::budgets::{Budget, least, most};

/// What no machine and no haste changes: a quick run is judged by these.
pub(super) const COUNTED: &[&str] = &[
    "writes_per_job",
    "videojob_bytes_created",
    "videojob_bytes_finished",
];

/// In the order of the page.
pub(super) const OPERATOR: &[Budget] = &[
    most("API writes of a job", "writes_per_job", 4.1),
    most(
        "bytes of a VideoJob at create",
        "videojob_bytes_created",
        1536.0,
    ),
    most(
        "bytes of a finished one with two outputs",
        "videojob_bytes_finished",
        3584.0,
    ),
    least(
        "jobs/s, of a bare loop of the same writes",
        "jobs_ratio",
        0.80,
    ),
    most(
        "create to lease at half load, p50 in ms",
        "lease_p50_ms",
        20.0,
    ),
    most(
        "create to lease at half load, p99 in ms",
        "lease_p99_ms",
        100.0,
    ),
    most(
        "the same p99, of a bare create and status PUT",
        "lease_p99_ratio",
        3.0,
    ),
    most("memory without jobs, MiB", "rss_mib_0", 40.0),
    most("memory at 20,000 live jobs, MiB", "rss_mib_20k", 52.8),
    most("memory at 100,000 live jobs, MiB", "rss_mib_100k", 104.0),
    most("leader killed, first new lease after s", "failover_s", 8.0),
    most(
        "leader killed, all running jobs adopted or queued after s",
        "settled_s",
        18.0,
    ),
    most(
        "leader killed, jobs of the other workers not adopted",
        "not_adopted",
        0.0,
    ),
    most(
        "worker killed, job leased again after s, p99",
        "relet_s",
        3.0,
    ),
    most("worker silent, job leased again after s", "silence_s", 16.0),
    most("backlog to scale patch, s", "scale_s", 1.0),
    most(
        "replicas beyond what the backlog needs, %",
        "overscale_percent",
        5.0,
    ),
];
