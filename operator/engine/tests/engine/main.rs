//! The engine against an in-memory etcd: tables of what must happen, and of what must not.

mod archive;
mod claims;
mod ends;
mod failover;
mod fixtures;
mod outcomes;
mod properties;
mod simulation;
mod workers;
