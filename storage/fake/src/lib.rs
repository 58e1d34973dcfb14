//! An S3 in this process that fails on command: for tests and benchmarks, never shipped.
