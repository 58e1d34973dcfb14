//! The worker: leases in, one processing call each, outcomes out.
//!
//! `machine` decides (pure, time is an argument); `driver` feeds it and does what it says; `link` is the stream to the
//! operator, `call` and `service` the one call to the processing service. No Kubernetes rights, no store credentials.

pub mod answer;
pub mod call;
pub mod config;
pub mod dial;
pub mod driver;
pub mod http;
pub mod link;
pub mod machine;
pub mod metrics;
pub mod plain_http;
pub mod report;
pub mod retry_after;
pub mod service;
pub mod text;
mod trace;

pub use config::{Args, Config, ConfigError};
pub use driver::{Exit, run};
