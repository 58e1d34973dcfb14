//! The decisions of the operator, pure: events in, actions out; time and randomness are arguments.
//!
//! [`Engine::step`] takes one [`Event`] (a job was seen, a worker reported, a write came back) and answers with [`Action`]s
//! (write this status, send that message). Nothing here reads a clock, opens a socket or knows Kubernetes.
//!
//! - [`job`] is the machine of one job: its facts, its transitions, its fence. It knows no other job.
//! - [`schedule`] and [`limits`] decide which ready job is claimed next, for which worker.
//! - [`audit`], [`control`], [`deletions`], [`redrive`], [`retention`], [`watermark`] decide what is done beside the queue.
//! - [`engine`] wires them: one outstanding write a job, every decision made again from what was read.

pub mod action;
pub mod archive;
pub mod audit;
pub mod backoff;
pub mod control;
pub mod deletions;
pub mod engine;
pub mod event;
mod graves;
pub mod health;
pub mod ids;
pub mod index;
pub mod job;
pub mod limits;
pub mod outcome;
pub mod pace;
pub mod policy;
pub mod redrive;
pub mod retention;
pub mod schedule;
pub mod time;
pub mod watermark;
pub mod workers;

pub use action::Action;
pub use engine::Engine;
pub use event::Event;
pub use ids::{AttemptId, PoolName, Rv, Symbol, Token, Uid};
pub use job::{Job, Phase, Reason, Spec, Status};
pub use policy::PoolPolicy;
pub use time::{Mono, Now, Wall};
