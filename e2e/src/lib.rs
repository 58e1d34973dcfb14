//! Kinora's workshop: the local cluster, images, demo and tests behind `cargo xtask`.
//!
//! Nothing here is part of what is installed on a user's cluster.

pub mod audit;
pub mod bench;
pub mod cache;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod demo;
pub mod diagnose;
pub mod faults;
pub mod figures;
pub mod hello;
pub mod host;
pub mod images;
pub mod jobs;
pub mod progress;
pub mod promises;
pub mod stack;
pub mod suite;
pub mod test;
pub mod tools;
pub mod uploads;
pub mod wait;
pub mod watching;
