//! Counters and gauges. Labels come from enums, never from text of errors or ids.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Label of counters by outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// A fixed word.
    pub outcome: &'static str,
}

/// Label of counters by HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// HTTP method, or `other`.
    pub method: &'static str,
    /// Status code.
    pub status: u16,
}

/// The uploader's metrics; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Requests answered.
    pub requests: Family<Request, Counter>,
    /// Ends of the finish sequence.
    pub finishes: Family<Outcome, Counter>,
    /// Ends of writers.
    pub writers: Family<Outcome, Counter>,
    /// Body bytes received.
    pub received_bytes: Counter,
    /// Age in seconds of the oldest outbox entry the last sweep saw.
    pub oldest_pending_seconds: Gauge,
    /// Outbox entries older than a minute that the last sweep saw.
    pub stale_pending: Gauge,
    /// Passes of the sweeper.
    pub sweeps: Family<Outcome, Counter>,
}

impl Metrics {
    /// Registers all under `kinora_uploader_`.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("kinora_uploader");
        all.register("requests", "Requests answered", self.requests.clone());
        all.register(
            "finishes",
            "Ends of the finish sequence",
            self.finishes.clone(),
        );
        all.register("writers", "Ends of writing requests", self.writers.clone());
        all.register(
            "received_bytes",
            "Body bytes received",
            self.received_bytes.clone(),
        );
        let oldest = self.oldest_pending_seconds.clone();
        all.register(
            "oldest_pending_seconds",
            "Age of the oldest outbox entry",
            oldest,
        );
        all.register(
            "stale_pending",
            "Outbox entries older than a minute",
            self.stale_pending.clone(),
        );
        all.register("sweeps", "Passes of the sweeper", self.sweeps.clone());
        all
    }

    /// Counts the end of a finish sequence.
    pub fn finished(&self, outcome: &'static str) {
        self.finishes.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts the end of a writer.
    pub fn wrote(&self, outcome: &'static str) {
        self.writers.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a pass of the sweeper.
    pub fn swept(&self, outcome: &'static str) {
        self.sweeps.get_or_create(&Outcome { outcome }).inc();
    }
}
