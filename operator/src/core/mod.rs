//! The core: the shell around the engine. It observes jobs and workers, lets the engine decide, and acts.

mod handle;
pub mod seams;

pub use handle::{Admission, CoreConfig, CoreCounters, CoreHandle};
