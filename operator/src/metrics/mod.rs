//! `/metrics`: what the core counts and the pools hold, read at the scrape, so that nothing is counted twice; and what audit,
//! redrives and cleaner count. docs/metrics.md lists all of it, and a test compares the two.
//!
//! Labels come from enums and from pool names, never from jobs, tenants or error texts.

mod labels;
mod sources;
mod upkeep;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use kinora_engine::watermark::Gate;
use prometheus_client::encoding::text;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::core::Admission;
use crate::http::Readiness;

pub use labels::{Cleaned, Entry, Judged, PassEnd, Redriven, Sampled};
pub use sources::Sources;
pub use upkeep::Upkeep;

/// A handle on the registry; clones share it.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Of the answer of `/metrics`.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Adds whether this replica is ready.
    pub fn readiness(&self, readiness: watch::Receiver<Readiness>) {
        self.with(|registry| registry.register_collector(Box::new(sources::Ready(readiness))));
    }

    /// Adds whether this gate is closed.
    pub fn admission(&self, live: watch::Receiver<Option<Admission>>, gate: Arc<Mutex<Gate>>) {
        self.with(|registry| {
            registry.register_collector(Box::new(sources::Closed { live, gate }));
        });
    }

    /// Adds what the core publishes.
    pub fn watch(&self, sources: Sources) {
        self.with(|registry| registry.register_collector(Box::new(sources)));
    }

    /// Adds what audit, redrives and cleaner count.
    pub fn upkeep(&self) -> Upkeep {
        let upkeep = Upkeep::default();
        self.with(|registry| upkeep.register(registry));
        upkeep
    }

    /// Of the default pool at the leader; 0 elsewhere.
    pub fn default_pool_applied(&self) -> Gauge {
        let gauge = Gauge::default();
        let help = "1 at the leader once the default pool was applied as its ConfigMap says, 0 while it could not be";
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

#[cfg(test)]
mod tests;
