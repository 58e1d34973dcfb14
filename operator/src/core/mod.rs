//! The core: the shell around the engine. It observes jobs and workers, lets the engine decide, and acts.
//!
//! One task ([`run`]) owns the engine; everything else sends to it and is sent by it.

mod act;
mod allowance;
pub(crate) mod attempt_pods;
mod deletions;
mod dispatch;
mod effects;
mod handle;
mod lease;
mod memory;
mod observe;
mod outputs;
mod queues;
mod reports;
mod results;
mod run;
pub mod seams;
mod seen;
mod stored;
mod tally;
#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests;
mod trace;
mod translate;
mod view;
mod writes;
mod written;

pub use dispatch::DispatchService;
pub use handle::{Admission, CoreConfig, CoreCounters, CoreHandle};
pub use run::spawn;
