//! Names and meanings, as the registry and docs/metrics.md have them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::{
    Finish, FinishEnd, Kind, Limit, Limited, Metrics, On, Refusal, Refused, Rejected, Rejection,
    Sweep, SweepEnd, Wait, Writer, WriterEnd, Written,
};

/// From 1 ms to half a minute: the longest call to the store has a limit of a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let all = Self {
            requests: Family::default(),
            refusals: Family::default(),
            limits_reached: Family::default(),
            videos_rejected: Family::default(),
            finishes: Family::default(),
            writers: Family::default(),
            sweeps: Family::default(),
            received_bytes: Counter::default(),
            stored_bytes: Family::default(),
            stored: Family::default(),
            waits: Family::new_with_constructor(seconds),
            store_calls: Family::new_with_constructor(seconds),
            active_uploads: Gauge::default(),
            active_writers: Gauge::default(),
            unfinished_uploads: Gauge::default(),
            connections: Gauge::default(),
            waiters: Gauge::default(),
            budget_bytes: Gauge::default(),
            budget_used_bytes: Gauge::default(),
            budget_waiting: Gauge::default(),
            pending: Gauge::default(),
            stale_pending: Gauge::default(),
            oldest_pending_seconds: Gauge::default(),
            ready: Gauge::default(),
            clock_skew_seconds: Gauge::default(),
        };
        all.at_zero();
        all
    }
}

impl Metrics {
    /// What has not happened yet is 0, not absent: a rate over it then sees the first one.
    fn at_zero(&self) {
        for &reason in Refusal::ALL {
            let _ = self.refusals.get_or_create(&Refused { reason });
        }
        for &limit in Limit::ALL {
            let _ = self.limits_reached.get_or_create(&Limited { limit });
        }
        for &reason in Rejection::ALL {
            let _ = self.videos_rejected.get_or_create(&Rejected { reason });
        }
        for &outcome in FinishEnd::ALL {
            let _ = self.finishes.get_or_create(&Finish { outcome });
        }
        for &outcome in WriterEnd::ALL {
            let _ = self.writers.get_or_create(&Writer { outcome });
        }
        for &outcome in SweepEnd::ALL {
            let _ = self.sweeps.get_or_create(&Sweep { outcome });
        }
        for &kind in Written::ALL {
            let _ = self.stored.get_or_create(&Kind { kind });
            let _ = self.stored_bytes.get_or_create(&Kind { kind });
        }
        for &on in Wait::ALL {
            let _ = self.waits.get_or_create(&On { on });
        }
    }

    /// Registers all under `kinora_uploader_`.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("kinora_uploader");
        self.counters(&mut all);
        self.gauges(&mut all);
        all.register_with_unit(
            "wait",
            "Time that requests waited for memory, or for another writer of their upload to close",
            Unit::Seconds,
            self.waits.clone(),
        );
        all.register_with_unit(
            "store_call",
            "Duration of calls to the object store, each attempt by itself",
            Unit::Seconds,
            self.store_calls.clone(),
        );
        all
    }

    #[rustfmt::skip]
    fn counters(&self, all: &mut Registry) {
        all.register("requests", "Requests answered", self.requests.clone());
        all.register("refusals", "Requests refused, by the type of the problem", self.refusals.clone());
        all.register("limits_reached", "Requests and connections that a limit on clients stopped", self.limits_reached.clone());
        all.register("videos_rejected", "Whole uploads that are no video of their profile", self.videos_rejected.clone());
        all.register("finishes", "Ends of the finish sequence", self.finishes.clone());
        all.register("writers", "Ends of writing requests", self.writers.clone());
        all.register("sweeps", "Passes over the outbox", self.sweeps.clone());
        all.register("received_bytes", "Body bytes received", self.received_bytes.clone());
        all.register("stored", "Parts, tail slices and whole objects written for uploads", self.stored.clone());
        all.register("stored_bytes", "Bytes of what was written for uploads", self.stored_bytes.clone());
    }

    #[rustfmt::skip]
    fn gauges(&self, all: &mut Registry) {
        let gauge = |all: &mut Registry, name: &str, help: &str, gauge: &Gauge| all.register(name, help, gauge.clone());
        gauge(all, "active_uploads", "Requests that bring bytes now; scale on its average", &self.active_uploads);
        gauge(all, "active_writers", "Uploads that are being written into now", &self.active_writers);
        gauge(all, "unfinished_uploads", "Unfinished uploads in the store, by the last hourly sweep", &self.unfinished_uploads);
        gauge(all, "connections", "Open connections", &self.connections);
        gauge(all, "waiters", "Requests that wait for a video's state", &self.waiters);
        gauge(all, "budget_bytes", "Memory for bodies", &self.budget_bytes);
        gauge(all, "budget_used_bytes", "Memory that bodies take now", &self.budget_used_bytes);
        gauge(all, "budget_waiting", "Requests that wait for memory now", &self.budget_waiting);
        gauge(all, "pending", "Outbox entries, by the last sweep", &self.pending);
        gauge(all, "stale_pending", "Outbox entries older than a minute, by the last sweep", &self.stale_pending);
        gauge(all, "oldest_pending_seconds", "Age of the oldest outbox entry, by the last sweep", &self.oldest_pending_seconds);
        gauge(all, "ready", "1 while this replica is ready; 0 also while it waits for the store", &self.ready);
        gauge(all, "clock_skew_seconds", "The store's clock minus this replica's", &self.clock_skew_seconds);
    }
}
