//! Metrics of one worker. Labels come from enums only.

use kinora_protocol::dispatch::outcome::Fact;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// How an attempt ended, by kind of fact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum FactLabel {
    /// A complete answer.
    Succeeded,
    /// A gRPC code.
    Grpc,
    /// An HTTP status.
    Http,
    /// Given back.
    Released,
}

impl FactLabel {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Succeeded, Self::Grpc, Self::Http, Self::Released];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    fact: FactLabel,
}

/// Handles to all metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    slots: Gauge,
    held: Gauge,
    unacked: Gauge,
    connected: Gauge,
    leases: Counter,
    streams: Counter,
    outcomes: Family<OutcomeLabels, Counter>,
    call_seconds: Histogram,
}

impl Metrics {
    /// Registers everything under `kinora_worker_`.
    #[must_use]
    pub fn new(registry: &mut Registry, slots: u32) -> Self {
        let metrics = Self {
            slots: Gauge::default(),
            held: Gauge::default(),
            unacked: Gauge::default(),
            connected: Gauge::default(),
            leases: Counter::default(),
            streams: Counter::default(),
            outcomes: Family::default(),
            call_seconds: Histogram::new(exponential_buckets(0.1, 2.0, 16)),
        };
        metrics.slots.set(i64::from(slots));
        // What has not happened yet is 0, not absent: a rate over it then sees the first one.
        for fact in FactLabel::ALL {
            let _ = metrics.outcomes.get_or_create(&OutcomeLabels { fact });
        }
        let r = registry.sub_registry_with_prefix("kinora_worker");
        r.register("slots", "Leases held at once", metrics.slots.clone());
        r.register("held", "Leases whose call runs", metrics.held.clone());
        r.register(
            "unacked",
            "Outcomes not acknowledged yet",
            metrics.unacked.clone(),
        );
        r.register(
            "connected",
            "1 while a stream to the operator is open",
            metrics.connected.clone(),
        );
        r.register("leases", "Leases taken", metrics.leases.clone());
        r.register(
            "streams",
            "Streams opened to an operator",
            metrics.streams.clone(),
        );
        r.register(
            "outcomes",
            "Outcome messages sent by kind of fact, repeats included",
            metrics.outcomes.clone(),
        );
        r.register_with_unit(
            "call",
            "Duration of calls that ended by themselves",
            Unit::Seconds,
            metrics.call_seconds.clone(),
        );
        metrics
    }

    pub(crate) fn in_hand(&self, held: usize, unacked: usize) {
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.unacked.set(i64::try_from(unacked).unwrap_or(i64::MAX));
    }

    pub(crate) fn opened(&self) {
        self.streams.inc();
        self.connected.set(1);
    }

    pub(crate) fn closed(&self) {
        self.connected.set(0);
    }

    pub(crate) fn leased(&self) {
        self.leases.inc();
    }

    pub(crate) fn ended(&self, fact: &Fact) {
        let fact = match fact {
            Fact::Succeeded(_) => FactLabel::Succeeded,
            Fact::Grpc(_) => FactLabel::Grpc,
            Fact::Http(_) => FactLabel::Http,
            Fact::Released(_) => FactLabel::Released,
        };
        self.outcomes.get_or_create(&OutcomeLabels { fact }).inc();
    }

    pub(crate) fn called(&self, seconds: f64) {
        self.call_seconds.observe(seconds);
    }
}

#[cfg(test)]
mod tests {
    use kinora_telemetry::exposed::{documented, rows, values};
    use prometheus_client::encoding::text::encode;

    use super::*;

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

    #[test]
    fn the_documentation_lists_every_metric_and_every_label() {
        let mut registry = Registry::default();
        let _metrics = Metrics::new(&mut registry, 2);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let mut want = rows(&text);
        let facts = FactLabel::ALL.map(|fact| format!("{fact:?}"));
        for fact in &facts {
            let line = format!("kinora_worker_outcomes_total{{fact=\"{fact}\"}} 0");
            assert!(text.contains(&line), "{line}:\n{text}");
        }
        want.push(values("`fact`", &facts.each_ref().map(String::as_str)));
        let docs = std::fs::read_to_string(DOCS).unwrap();
        assert_eq!(
            documented(&docs, "## Worker"),
            want,
            "docs/metrics.md must hold below ## Worker:\n{}\n",
            want.join("\n")
        );
    }
}
