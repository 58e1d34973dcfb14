//! Kinora's workshop: the local cluster, images, demo and tests behind `cargo xtask`.
//!
//! Nothing here is part of what is installed on a user's cluster.

pub mod cache;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod host;
pub mod images;
pub mod progress;
pub mod tools;
