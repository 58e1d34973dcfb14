//! `/metrics`: what the core counts and the pools hold, read at the scrape; nothing is counted twice.
//!
//! Labels come from enums and from pool names, never from jobs, tenants or error texts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::core::{Admission, CoreCounters};
use crate::ports::{Backlog, Leadership, PoolBacklog, PoolKey};

/// A handle on the registry; clones share it.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

/// What the core publishes, as far as metrics go.
#[derive(Clone)]
pub struct Sources {
    /// Counts since start.
    pub counters: Arc<CoreCounters>,
    /// Counts of the pools.
    pub backlog: watch::Receiver<Backlog>,
    /// Live jobs.
    pub admission: watch::Receiver<Admission>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
}

impl Metrics {
    /// Of the answer of `/metrics`.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Adds what the core publishes.
    pub fn watch(&self, sources: Sources) {
        self.with(|registry| registry.register_collector(Box::new(sources)));
    }

    /// 1 while the default pool is as its ConfigMap says, 0 while it cannot be applied.
    pub fn default_pool_applied(&self) -> Gauge {
        let gauge = Gauge::default();
        let help =
            "1 while the default pool is as its ConfigMap says, 0 while it could not be applied";
        self.with(|registry| registry.register("kinora_default_pool_applied", help, gauge.clone()));
        gauge
    }

    /// The text of all metrics.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut all = String::new();
        self.with(|registry| text::encode(&mut all, registry))?;
        Ok(all)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Registry) -> T) -> T {
        act(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources(..)")
    }
}

/// Reads one number of a pool at a time in Unix milliseconds.
type Read = fn(&PoolBacklog, i64) -> i64;

/// Counters that differ in one label.
type Group<'a> = (&'a str, &'a str, &'a str, Vec<(&'a str, &'a AtomicU64)>);

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, counter) in self.single() {
            counter_of(counter).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Counter,
            )?)?;
        }
        for (name, help, label, group) in self.groups() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, counter) in group {
                counter_of(counter).encode(family.encode_family(&[(label, value)])?)?;
            }
        }
        let leads = i64::from(*self.leadership.borrow() == Leadership::Leader);
        let live = signed(self.admission.borrow().live);
        let streams = signed(self.counters.streams.load(Ordering::Relaxed));
        let gauges = [
            ("kinora_leader", "1 while this replica leads", leads),
            (
                "kinora_live_jobs",
                "Non-final jobs, which count against the watermark",
                live,
            ),
            ("kinora_worker_streams", "Open worker streams", streams),
        ];
        for (name, help, value) in gauges {
            ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?)?;
        }
        self.pools(&mut encoder)
    }
}

impl Sources {
    fn single(&self) -> [(&str, &str, &AtomicU64); 5] {
        let c = self.counters.as_ref();
        [
            ("kinora_claims", "Claims written", &c.claims),
            ("kinora_leases", "Leases pushed to workers", &c.leases),
            (
                "kinora_job_deletes",
                "Jobs deleted after their TTL",
                &c.deletes,
            ),
            (
                "kinora_stale_outcomes",
                "Outcomes of attempts that were no longer current",
                &c.stale_outcomes,
            ),
            (
                "kinora_worker_streams_refused",
                "Worker streams refused or closed for cause",
                &c.refused_streams,
            ),
        ]
    }

    fn groups(&self) -> [Group<'_>; 3] {
        let c = self.counters.as_ref();
        let ends = vec![
            ("succeeded", &c.succeeded),
            ("dead_lettered", &c.dead_lettered),
            ("cancelled", &c.cancelled),
        ];
        let attempts = vec![
            ("failed", &c.failed),
            ("rejected", &c.rejected),
            ("throttled", &c.throttled),
            ("unavailable", &c.unavailable),
            ("misconfigured", &c.misconfigured),
            ("interrupted", &c.interrupted),
            ("lost", &c.lost),
        ];
        let writes = vec![
            ("written", &c.writes),
            ("conflict", &c.conflicts),
            ("unknown", &c.unknown_writes),
            ("refused", &c.refused_writes),
        ];
        [
            (
                "kinora_jobs_ended",
                "Jobs that reached an end state",
                "state",
                ends,
            ),
            (
                "kinora_attempts_ended",
                "Attempts that ended without success, by class",
                "class",
                attempts,
            ),
            (
                "kinora_status_writes",
                "Writes of job status, by answer",
                "answer",
                writes,
            ),
        ]
    }

    fn pools(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let backlog = self.backlog.borrow().clone();
        let now = Timestamp::now().as_millisecond();
        let families: [(&str, &str, Read); 7] = [
            (
                "kinora_pool_jobs_queued",
                "Jobs that wait, those in backoff among them",
                |pool, _| pool.queued.into(),
            ),
            (
                "kinora_pool_jobs_claimable",
                "Jobs that could be claimed within 30 s",
                |pool, _| pool.claimable.into(),
            ),
            ("kinora_pool_jobs_running", "Jobs that run", |pool, _| {
                pool.running.into()
            }),
            ("kinora_pool_workers", "Connected workers", |pool, _| {
                count(pool.workers.len())
            }),
            (
                "kinora_pool_slots",
                "Slots of connected workers",
                |pool, _| pool.workers.values().map(|w| i64::from(w.slots)).sum(),
            ),
            (
                "kinora_pool_slots_busy",
                "Slots that hold a lease",
                |pool, _| pool.workers.values().map(|w| i64::from(w.busy)).sum(),
            ),
            (
                "kinora_pool_oldest_queued_seconds",
                "Age of the oldest job that waits",
                |pool, now| {
                    pool.oldest_queued_ms
                        .map_or(0, |since| (now - since).max(0) / 1000)
                },
            ),
        ];
        for (name, help, value) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (PoolKey { namespace, name }, pool) in backlog.iter() {
                let labels = [("namespace", namespace.as_str()), ("pool", name.as_str())];
                ConstGauge::new(value(pool, now)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn counter_of(counter: &AtomicU64) -> ConstCounter<u64> {
    ConstCounter::new(counter.load(Ordering::Relaxed))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_pools_are_read_at_the_scrape() {
        let counters = Arc::new(CoreCounters::default());
        let key = PoolKey {
            namespace: "videos".to_owned(),
            name: "default".to_owned(),
        };
        let pool = PoolBacklog {
            queued: 3,
            running: 1,
            ..PoolBacklog::default()
        };
        let (_backlog, backlog) = watch::channel(Arc::new([(key, pool)].into()));
        let (_admission, admission) = watch::channel(Admission { live: 4 });
        let (_leadership, leadership) = watch::channel(Leadership::Leader);
        let metrics = Metrics::default();
        metrics.watch(Sources {
            counters: counters.clone(),
            backlog,
            admission,
            leadership,
        });
        counters.claims.fetch_add(2, Ordering::Relaxed);
        counters.throttled.fetch_add(1, Ordering::Relaxed);
        let text = metrics.encode().unwrap();
        for line in [
            "kinora_claims_total 2",
            "kinora_attempts_ended_total{class=\"throttled\"} 1",
            "kinora_pool_jobs_queued{namespace=\"videos\",pool=\"default\"} 3",
            "kinora_live_jobs 4",
            "kinora_leader 1",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is missing in:\n{text}"
            );
        }
    }
}
