//! Serves the workers' streams: who may speak, in which version, how much. Says what was said; decides nothing.

mod service;
mod stream;

use std::sync::Arc;

use kinora_engine::AttemptId;
use kinora_engine::ids::SessionId;
use kinora_protocol::{MAX_SURPLUS, dispatch as wire};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use service::DispatchService;
pub(crate) use service::redirect;

use super::translate::uid_of;
use crate::ports::WorkerIdentity;

/// Messages that wait for a worker which does not read; with more its stream is closed.
pub(crate) const QUEUE: usize = 1024;
/// More slots than this no worker has.
const MAX_SLOTS: u32 = 1024;

/// The way to one worker.
#[derive(Debug)]
pub(crate) struct Line {
    /// Messages to it; at most [`QUEUE`] wait.
    pub(crate) out: mpsc::Sender<Result<wire::ToWorker, tonic::Status>>,
    /// Ends the stream.
    pub(crate) hang_up: CancellationToken,
    /// Leases that it holds at most.
    pub(crate) most: usize,
}

/// More leases than this a worker with so many slots never holds, ended ones included.
fn most_leases(slots: u32) -> usize {
    usize::try_from(slots.saturating_add(MAX_SURPLUS)).unwrap_or(usize::MAX)
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
        message: wire::from_worker::Message,
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
