//! The pure state machine of an upload: state and event in, new state and store calls out.
//! Nothing here does I/O, reads a clock or draws a random number: time and nonces are arguments,
//! so the server, the tests and a crash explorer drive the very same decisions.

pub mod access;
pub mod call;
mod cas;
pub mod crc;
pub mod create;
pub mod document;
pub mod end;
pub mod finish;
pub mod grid;
pub mod media;
pub mod open;
pub mod parts;
pub mod sniff;
pub mod write;

pub use access::{Owner, Principal};
pub use call::{Answer, Call, Context, Decision, Expect, Next, PutAnswer};
pub use document::{Phase, Slice, State};
pub use grid::Grid;
