//! The operator: observes jobs, pods, pools and workers, lets the engine decide, and acts.

pub mod core;
pub mod ports;
