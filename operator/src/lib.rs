//! The operator: observes jobs, pods, pools and workers, lets the engine decide, and acts.

pub mod archive;
pub mod audit;
pub mod auth;
pub mod cleaner;
pub mod config;
pub mod core;
pub mod default_pool;
pub mod http;
pub mod leader;
pub mod metrics;
pub mod pods;
pub mod pools;
pub mod ports;
pub mod redrive;
pub mod start;
#[cfg(test)]
mod stub;
pub mod tls;
mod watches;
