//! What the core publishes, encoded at the scrape.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use kinora_engine::watermark::Gate;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::core::{Admission, CoreCounters};
use crate::http::Readiness;
use crate::ports::{Backlog, BreakerState, Leadership, PoolBacklog, PoolKey};

/// What the core publishes, as far as metrics go.
#[derive(Clone)]
pub struct Sources {
    /// Counts since start.
    pub counters: Arc<CoreCounters>,
    /// Counts of the pools.
    pub backlog: watch::Receiver<Backlog>,
    /// Live jobs.
    pub admission: watch::Receiver<Admission>,
    /// Above so many, uploads wait in the outbox.
    pub max_live_jobs: u64,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources(..)")
    }
}

/// Whether this replica is ready; there from the start, long before the rest.
#[derive(Debug)]
pub(super) struct Ready(pub(super) watch::Receiver<Readiness>);

impl Collector for Ready {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "1 while this replica is ready; 0 also while it waits for the store";
        let metric = encoder.encode_descriptor("kinora_ready", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(self.0.borrow().is_none())).encode(metric)
    }
}

/// Whether uploads wait in the outbox; a scrape asks the gate as an uploader does.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) live: watch::Receiver<Option<Admission>>,
    pub(super) gate: Arc<Mutex<Gate>>,
}

impl Collector for Closed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let live = *self.live.borrow();
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let is_closed = live.is_some_and(|Admission { live }| !gate.admit(live));
        drop(gate);
        let help = "1 while /admission says no: from the watermark on, until a tenth of it is free";
        let name = "kinora_admission_closed";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(is_closed)).encode(metric)
    }
}

/// Reads one number of a pool at a time in Unix milliseconds.
type Read = fn(&PoolBacklog, i64) -> f64;

/// Name, meaning, label; then its values with their counters.
type Group<'a> = (&'a str, &'a str, &'a str, Vec<(&'a str, &'a AtomicU64)>);

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, counter) in self.single() {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            counter_of(counter).encode(metric)?;
        }
        for (name, help, label, group) in self.groups() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, counter) in group {
                counter_of(counter).encode(family.encode_family(&[(label, value)])?)?;
            }
        }
        for (name, help, value) in self.gauges() {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        self.pools(&mut encoder)?;
        self.breakers(&mut encoder)
    }
}

impl Sources {
    #[rustfmt::skip]
    fn single(&self) -> [(&'static str, &'static str, &AtomicU64); 10] {
        let c = self.counters.as_ref();
        [
            ("kinora_claims", "Claims written", &c.claims),
            ("kinora_leases", "Leases pushed to workers", &c.leases),
            ("kinora_job_deletes", "Jobs deleted after their TTL", &c.deletes),
            ("kinora_job_reads", "Quorum reads of jobs", &c.reads),
            ("kinora_job_read_retries", "Quorum reads that got no answer and were tried again", &c.read_retries),
            ("kinora_jobs_redriven", "Jobs brought back from the dead letters while they were VideoJobs", &c.redriven),
            ("kinora_results_left_out", "Results that records lack, because 64 MiB of others waited for theirs", &c.results_left_out),
            ("kinora_stale_outcomes", "Outcomes of attempts that were no longer current", &c.stale_outcomes),
            ("kinora_worker_streams_refused", "Worker streams refused or closed for cause", &c.refused_streams),
            ("kinora_illegal_writes", "Writes that the table of transitions forbade: a fault of the operator", &c.illegal_writes),
        ]
    }

    #[rustfmt::skip]
    fn groups(&self) -> [Group<'_>; 4] {
        let c = self.counters.as_ref();
        let ends = vec![
            ("succeeded", &c.succeeded),
            ("dead_lettered", &c.dead_lettered),
            ("cancelled", &c.cancelled),
        ];
        let attempts = vec![
            ("succeeded", &c.succeeded),
            ("failed", &c.failed),
            ("rejected", &c.rejected),
            ("throttled", &c.throttled),
            ("unavailable", &c.unavailable),
            ("misconfigured", &c.misconfigured),
            ("interrupted", &c.interrupted),
            ("lost", &c.lost),
            ("released", &c.released),
        ];
        let writes = vec![
            ("written", &c.writes),
            ("conflict", &c.conflicts),
            ("unknown", &c.unknown_writes),
            ("refused", &c.refused_writes),
        ];
        let events = vec![
            ("posted", &c.events_posted),
            ("dropped", &c.events_dropped),
            ("failed", &c.events_failed),
        ];
        [
            ("kinora_jobs_ended", "Jobs that reached an end state", "state", ends),
            ("kinora_attempts_ended", "Attempts that ended, by the class of their outcome", "class", attempts),
            ("kinora_status_writes", "Writes of job status, by answer", "answer", writes),
            ("kinora_events", "Events about declared jobs", "outcome", events),
        ]
    }

    #[rustfmt::skip]
    fn gauges(&self) -> [(&'static str, &'static str, i64); 10] {
        let c = self.counters.as_ref();
        let leads = i64::from(*self.leadership.borrow() == Leadership::Leader);
        let live = signed(self.admission.borrow().live);
        let oldest = c.archive_oldest_ms.load(Ordering::Relaxed);
        let now = Timestamp::now().as_millisecond();
        let lag = if oldest == 0 { 0 } else { (now - oldest).max(0) / 1000 };
        let read = |counter: &AtomicU64| signed(counter.load(Ordering::Relaxed));
        [
            ("kinora_leader", "1 while this replica leads", leads),
            ("kinora_live_jobs", "Non-final jobs of uploads, which count against the watermark", live),
            ("kinora_live_jobs_max", "The watermark: with so many live jobs, uploads wait in the outbox", signed(self.max_live_jobs)),
            ("kinora_jobs_without_pool", "Jobs that wait for a pool that does not exist", read(&c.jobs_without_pool)),
            ("kinora_worker_streams", "Open worker streams", read(&c.streams)),
            ("kinora_archive_pending", "Final jobs whose record and clean-up are not known to be done, at the leader", read(&c.archive_pending)),
            ("kinora_archive_lag_seconds", "Time since the oldest of those ended whose record is known to be missing, or was written by this leader and whose clean-up is not done", lag),
            ("kinora_attempt_pods", "Pods that were made for one attempt and are not known to be gone", c.attempt_pods.load(Ordering::Relaxed)),
            ("kinora_unreadable_jobs", "VideoJobs that cannot be read and are set aside", c.unreadable_jobs.load(Ordering::Relaxed)),
            ("kinora_store_clock_skew_seconds", "The store's clock minus this replica's", c.clock_skew_seconds.load(Ordering::Relaxed)),
        ]
    }

    #[rustfmt::skip]
    fn pools(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let backlog = self.backlog.borrow().clone();
        let now = Timestamp::now().as_millisecond();
        let families: [(&str, &str, Read); 10] = [
            ("kinora_pool_jobs_queued", "Jobs that wait, those in backoff among them", |pool, _| pool.queued.into()),
            ("kinora_pool_jobs_claimable", "Jobs that could be claimed within 30 s; 0 while the pool is suspended", |pool, _| pool.claimable.into()),
            ("kinora_pool_jobs_running", "Jobs that run", |pool, _| pool.running.into()),
            ("kinora_pool_oldest_queued_seconds", "Age of the oldest job that waits", |pool, now| {
                pool.oldest_queued_ms.map_or(0.0, |since| float((now - since).max(0) / 1000))
            }),
            ("kinora_pool_workers", "Connected workers", |pool, _| float(count(pool.workers.len()))),
            ("kinora_pool_slots", "Slots of connected workers", |pool, _| pool.workers.values().map(|w| f64::from(w.slots)).sum()),
            ("kinora_pool_slots_busy", "Slots that hold a lease", |pool, _| pool.workers.values().map(|w| f64::from(w.busy)).sum()),
            ("kinora_pool_effective_limit", "Calls at a time that the limiter allows now; +Inf without a limit", |pool, _| {
                pool.effective_limit.map_or(f64::INFINITY, f64::from)
            }),
            ("kinora_pool_paused", "1 while the service throttles the fewest calls and is left alone", |pool, _| f64::from(u8::from(pool.paused))),
            ("kinora_pool_call_seconds", "Mean duration of a call lately; 0 until one was measured", |pool, _| {
                pool.call_seconds.unwrap_or(0.0)
            }),
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

    /// One series for each state, 1 for the present one.
    fn breakers(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let backlog = self.backlog.borrow().clone();
        let help = "1 for where the circuit breaker stands; refused: the service does not know us";
        let mut family =
            encoder.encode_descriptor("kinora_pool_breaker", help, None, MetricType::Gauge)?;
        for (PoolKey { namespace, name }, pool) in backlog.iter() {
            for (state, word) in BREAKERS {
                let labels = [
                    ("namespace", namespace.as_str()),
                    ("pool", name.as_str()),
                    ("state", word),
                ];
                let is_now = i64::from(pool.breaker == state);
                ConstGauge::new(is_now).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// The words for where a breaker stands.
pub(super) const BREAKERS: [(BreakerState, &str); 4] = [
    (BreakerState::Closed, "closed"),
    (BreakerState::Open, "open"),
    (BreakerState::Refused, "refused"),
    (BreakerState::HalfOpen, "half_open"),
];

fn counter_of(counter: &AtomicU64) -> ConstCounter<u64> {
    ConstCounter::new(counter.load(Ordering::Relaxed))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Counts and seconds are far below what a float holds exactly.
#[allow(clippy::cast_precision_loss)]
fn float(value: i64) -> f64 {
    value as f64
}
