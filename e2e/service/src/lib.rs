//! The reference processing service: what a service behind Kinora looks like, and what the tests run against.
//!
//! One call (`kinora.processing.v1`, or its HTTP form): download the source, transcode with ffmpeg, PUT the outputs, tell progress.
//! `faults` and `control` make it misbehave on request; nothing else here knows about tests.

pub mod config;
pub mod control;
pub mod failure;
pub mod faults;
pub mod ffmpeg;
pub mod http_form;
pub mod job;
pub mod ledger;
pub mod memory;
pub mod probe;
pub mod service;
pub mod transfer;
