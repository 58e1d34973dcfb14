//! Serves the workers' streams: who may speak, in which version, how much. Says what was said; decides nothing.

mod allowances;
mod service;
mod stream;

use std::sync::Arc;

use kinora_engine::AttemptId;
use kinora_engine::ids::SessionId;
use kinora_protocol::{MAX_SURPLUS, dispatch as wire};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wire::from_worker::Message;

pub use service::DispatchService;
pub(crate) use service::redirect;

use super::translate::uid_of;
use crate::ports::WorkerIdentity;

/// Messages that wait for a worker which does not read; with more its stream is closed.
pub(crate) const QUEUE: usize = 1024;
/// More slots than this no worker has.
const MAX_SLOTS: u32 = 1024;
/// Longer than this no uid is; a worker gets those of jobs from us, as UUIDs.
const MAX_UID_BYTES: usize = 64;

/// The way to one worker.
#[derive(Debug)]
pub(crate) struct Line {
    /// Messages to it; at most [`QUEUE`] wait.
    pub(crate) out: mpsc::Sender<Result<wire::ToWorker, tonic::Status>>,
    /// Ends the stream.
    pub(crate) hang_up: CancellationToken,
    /// Slots that it says it has.
    pub(crate) slots: u32,
    /// Leases that it holds at most.
    pub(crate) most: usize,
}

/// More leases than this a worker with so many slots never holds, ended ones included.
fn most_leases(slots: u32) -> usize {
    usize::try_from(slots.saturating_add(MAX_SURPLUS)).unwrap_or(usize::MAX)
}

/// The leases that a message names. A second Hello says nothing.
fn leases(message: &Message) -> impl Iterator<Item = &wire::AttemptRef> + Clone {
    let (held, unacked, of): (&[_], &[_], _) = match message {
        Message::Heartbeat(beat) => (&beat.held, &beat.unacked, None),
        Message::Outcome(outcome) => (&[], &[], outcome.attempt.as_ref()),
        Message::Progress(progress) => (&[], &[], progress.attempt.as_ref()),
        Message::Hello(_) | Message::Draining(_) => (&[], &[], None),
    };
    held.iter().chain(unacked).chain(of)
}

/// Whether these are no more leases than a worker with so many slots can hold, and each named by what can be a uid.
fn is_believable<'a>(
    leases: impl Iterator<Item = &'a wire::AttemptRef> + Clone,
    slots: u32,
) -> bool {
    leases.clone().count() <= most_leases(slots)
        && leases
            .map(|lease| lease.job_uid.len())
            .all(|len| len <= MAX_UID_BYTES)
}

/// What a worker's stream says.
#[derive(Debug)]
pub(crate) enum Said {
    /// A stream begins.
    Hello {
        /// The stream.
        session: SessionId,
        /// Who it is.
        who: Arc<WorkerIdentity>,
        /// The way back.
        line: Line,
        /// Its first message.
        hello: wire::Hello,
        /// Answered once the core knows the stream.
        known: oneshot::Sender<()>,
    },
    /// Any later message.
    Message {
        /// The stream.
        session: SessionId,
        /// The message.
        message: Message,
    },
    /// The stream is over.
    Closed(SessionId),
}

/// An attempt as the engine names it. Uids are UUIDs on the wire, too.
pub(crate) fn attempt_id(attempt: &wire::AttemptRef) -> AttemptId {
    AttemptId {
        job: uid_of(&attempt.job_uid),
        attempt: attempt.attempt,
    }
}
