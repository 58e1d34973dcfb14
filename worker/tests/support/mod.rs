//! What the integration tests share: a fake operator, a fake service, and a worker between them.

#![allow(dead_code, unreachable_pub)]

pub mod http_service;
pub mod operator;
pub mod service;

use std::time::Duration;

use kinora_worker::config::{OperatorTarget, Protocol, ServiceTarget};
use kinora_worker::machine::Timings;
use kinora_worker::metrics::Metrics;
use kinora_worker::{Config, Exit};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use operator::FakeOperator;

/// Nothing that is expected takes so long, on however slow a machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A running worker.
pub struct Worker {
    pub task: JoinHandle<Exit>,
    pub terminate: mpsc::Sender<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The configuration of a worker between these two, with production timings.
pub fn config(operator: &FakeOperator, service_endpoint: &str) -> Config {
    Config {
        operator: OperatorTarget {
            host: "localhost".to_owned(),
            port: operator.address.port(),
            token_file: operator.dir.path().join("token"),
            ca_file: operator.dir.path().join("ca.crt"),
        },
        service: ServiceTarget {
            protocol: Protocol::Grpc,
            endpoint: service_endpoint.to_owned(),
            tls_dir: None,
            token_file: None,
        },
        slots: 2,
        drain: Duration::from_secs(60),
        timings: Timings::default(),
        reconnect: (Duration::from_millis(10), Duration::from_millis(20)),
    }
}

/// Starts it.
pub fn start(config: Config) -> Worker {
    let (terminate, signals) = mpsc::channel(4);
    let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default(), 1);
    Worker {
        task: tokio::spawn(kinora_worker::run(config, metrics, signals)),
        terminate,
    }
}
