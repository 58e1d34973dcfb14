//! The engine against an in-memory etcd: tables of what must happen, and of what must not.

// Helpers of tests are tests.
#![allow(clippy::panic, clippy::expect_used)]

mod another_service;
mod archive;
mod attempt_pods;
mod claims;
mod conservation;
mod deadlines;
mod decisions;
mod drain;
mod drift;
mod edges;
mod ends;
mod failover;
mod fixtures;
mod foreign;
mod gone;
mod hearsay;
mod history;
mod late;
mod level;
mod outcomes;
mod pools;
mod probes;
mod progress;
mod properties;
mod queue;
mod redrive;
mod schedule;
mod service;
mod shared;
mod simulation;
mod suspects;
mod throttled;
mod workers;
