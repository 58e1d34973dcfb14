//! Two replicas on one upload, without stickiness, on a real SeaweedFS: whatever meets whatever, nothing is answered
//! with a server error, nothing acknowledged is lost, and no object is half one client's and half another's.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

#[allow(dead_code, reason = "shared with the tests of the server")]
#[path = "../server/harness.rs"]
mod harness;
mod kill;
#[path = "../support/process.rs"]
mod process;
mod races;
mod zombies;
