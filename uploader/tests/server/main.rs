//! The server against a real SeaweedFS, over real sockets, with a map in Kubernetes' place.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

mod batches;
mod cancelling;
mod checksums;
mod drafts;
mod draining;
mod erasing;
mod finishing;
mod full;
mod hanging;
mod harness;
mod http2;
mod keyed;
mod lengths;
mod listing;
mod locked;
mod protocol;
mod refusing;
mod rereading;
mod resuming;
mod short;
mod small;
mod sweeping;
mod tracing;
mod tries;
mod untold;
mod watching;
