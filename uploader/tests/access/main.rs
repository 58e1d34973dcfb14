//! Who may do what, and how much: over real sockets, against a store in this process.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

mod abuse;
mod crowds;
mod documented;
mod limits;
mod logs;
mod matrix;
mod outage;
mod owasp;
mod parked;
mod stage;
mod tokens;
