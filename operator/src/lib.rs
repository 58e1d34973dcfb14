//! The operator: observes jobs, pods, pools and workers, lets the engine decide, and acts.

pub mod auth;
pub mod core;
pub mod leader;
pub mod pods;
pub mod pools;
pub mod ports;
pub mod tls;
pub mod archive;
pub mod config;
pub mod default_pool;
pub mod http;
pub mod metrics;
pub mod start;
