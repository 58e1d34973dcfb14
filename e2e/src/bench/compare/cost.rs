//! What a stretch of time cost the control plane: CPU of API server and etcd, and what the audit log holds.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::audit;
use crate::cluster::{Cluster, Daemon};

/// What is not an item's doing: leaders' and the node's leases, and the node's status.
const BESIDE: [&str; 3] = ["leases", "nodes", "nodes/status"];

/// The window in which nothing is done.
const IDLE: Duration = Duration::from_secs(15);

/// One way to run work, measured.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// Items.
    pub items: usize,
    /// From the first create until all was gone.
    pub took: Duration,
    /// From the first create until the last item was done.
    pub done: Duration,
    /// Of API server and etcd, without what they take in the same time when nothing is done.
    pub cpu: Duration,
    /// Successful writes without Events, and without what is beside.
    pub writes: usize,
    /// Writes of Events.
    pub events: usize,
}

impl Measured {
    fn per_item(&self, amount: f64) -> f64 {
        amount / self.items.max(1) as f64
    }

    /// All gone.
    pub(super) fn per_second(&self) -> f64 {
        self.items as f64 / self.took.as_secs_f64()
    }

    /// The last one done.
    pub(super) fn done_per_second(&self) -> f64 {
        self.items as f64 / self.done.as_secs_f64()
    }

    /// Milliseconds of API server and etcd.
    pub(super) fn cpu_ms(&self) -> f64 {
        self.per_item(self.cpu.as_secs_f64() * 1000.0)
    }

    /// Writes.
    pub(super) fn writes(&self) -> f64 {
        self.per_item(self.writes as f64)
    }

    /// Events.
    pub(super) fn events(&self) -> f64 {
        self.per_item(self.events as f64)
    }
}

/// CPU seconds a second of API server and etcd while nothing is done: items of a slow way must not pay for their time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle(pub f64);

impl Idle {
    /// Measures for a while.
    ///
    /// # Errors
    /// As [`Meter::begin`].
    pub(super) fn measured(cluster: &Cluster) -> Result<Self> {
        let (before, began) = (cpu(cluster)?, Instant::now());
        std::thread::sleep(IDLE);
        let spent = cpu(cluster)?.saturating_sub(before);
        Ok(Self(spent.as_secs_f64() / began.elapsed().as_secs_f64()))
    }
}

/// A measurement that has begun.
pub(super) struct Meter<'a> {
    cluster: &'a Cluster,
    idle: Idle,
    audited: u64,
    cpu: Duration,
    began: Instant,
}

impl<'a> Meter<'a> {
    /// Begins.
    ///
    /// # Errors
    /// The control plane's processes or the audit log cannot be read.
    pub(super) fn begin(cluster: &'a Cluster, idle: Idle) -> Result<Self> {
        Ok(Self {
            cluster,
            idle,
            audited: cluster.audit_log().metadata()?.len(),
            cpu: cpu(cluster)?,
            began: Instant::now(),
        })
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends, when all is gone.
    ///
    /// # Errors
    /// As [`Meter::begin`].
    pub(super) fn end(self, items: usize, done: Duration) -> Result<Measured> {
        let took = self.began.elapsed();
        let standing = took.mul_f64(self.idle.0);
        let cpu = cpu(self.cluster)?.saturating_sub(self.cpu + standing);
        let all = audit::writes_from(self.cluster, self.audited)?;
        let (events, others): (Vec<_>, Vec<_>) = all
            .into_iter()
            .filter(|write| !BESIDE.contains(&write.resource.as_str()))
            .partition(|write| write.resource == "events");
        Ok(Measured {
            items,
            took,
            done,
            cpu,
            writes: others.len(),
            events: events.len(),
        })
    }
}

fn cpu(cluster: &Cluster) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for daemon in [Daemon::ApiServer, Daemon::Etcd] {
        let pid = cluster.daemon_pid(daemon);
        let pid = pid.with_context(|| format!("{} does not run", daemon.name()))?;
        let path = Path::new("/proc").join(pid.to_string()).join("stat");
        let stat =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        sum += of_stat(&stat).with_context(|| format!("{} says {stat:?}", path.display()))?;
    }
    Ok(sum)
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms; the name before them may hold anything.
fn of_stat(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_read_behind_any_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 10 0 0 0 150 25 0 0 20 0 9 0 100 1 1";
        assert_eq!(of_stat(stat), Some(Duration::from_millis(1750)));
        assert_eq!(of_stat("42 (x) S 1"), None);
    }
}
