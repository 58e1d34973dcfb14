//! The stateless REST uploader. The upload engine decides; this crate speaks HTTP to clients and
//! executes the engine's calls against the store and Kubernetes. No state of an upload lives here
//! longer than a request, but for hints that the store proves: any replica serves any request.

pub mod access;
pub mod admission;
pub mod app;
pub mod args;
pub mod auth;
pub mod budget;
pub mod digest;
pub mod documents;
pub mod drive;
pub mod erase;
pub mod hints;
pub mod http;
pub mod janitor;
pub mod jobs;
pub mod limits;
pub mod metrics;
pub mod profiles;
pub mod ready;
pub mod run;
pub mod serve;
pub mod sweep;
pub mod trace;
pub mod wire;
pub mod writers;
