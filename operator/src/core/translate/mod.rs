//! Kubernetes objects to the engine's facts, and the engine's statuses to merge patches. Pure: no I/O, no clock.

mod facts;
mod names;
mod patch;
mod policy;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use facts::{Terms, facts};
pub(crate) use names::{Names, uid_of, uid_text};
pub(crate) use patch::{Extras, FailureText, status_patch};
pub(crate) use policy::policy;
pub(crate) use words::class_word;
