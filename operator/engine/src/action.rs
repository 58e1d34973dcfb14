//! What the engine asks of the shell. Everything with a token is answered by an [`Event::Answer`](crate::Event::Answer).

use crate::ids::{AttemptId, PoolName, Rv, SessionId, Token, Uid};
use crate::job::Status;
use crate::outcome::Class;

/// Why a status is written: for events, counters, and the parts of a status that only the shell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// First status of a declared job, a change of its spec was seen, or a claim is dated anew before its lease goes out.
    Observed,
    /// No such pool, or there is one again.
    Blocked,
    /// Held or let go by its author.
    Suspension,
    /// Claimed for a worker.
    Claimed,
    /// Claimed again right after a loss.
    Reclaimed(Class),
    /// Cancelled by its author.
    Cancelled,
    /// A deadline of the spec is past.
    Expired,
    /// The source was missing at the second look.
    SourceGone,
    /// The pod that was made for the attempt reported, and is its holder now.
    Placed,
    /// Nothing changes but how far the attempt is, in percent.
    Progress(u32),
    /// The attempt ended.
    Ended(Class),
    /// Brought back from the dead letters.
    Redriven,
}

/// What became of a request to bring a dead letter back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Redrive {
    /// It waits for its next attempt.
    Done,
    /// It is no dead letter (any more), or this request brought it back before.
    Skipped,
    /// It is not there (any more).
    Gone,
    /// It cannot be brought back.
    Refused,
    /// This replica decides nothing now.
    NotLeader,
}

/// What is to be done about the pod of one attempt. Its name follows from the job's and the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PodAction {
    /// Create it. Yes: it is there, ours; No: refused for good, or its name is another's; Unknown: no clear answer.
    Make {
        /// For the answer.
        token: Token,
        /// The attempt.
        attempt: AttemptId,
        /// Pool.
        pool: PoolName,
    },
    /// Read it from etcd. Yes: it is there, ours; No: it is not; Away: no answer.
    Find {
        /// For the answer.
        token: Token,
        /// The attempt.
        attempt: AttemptId,
    },
    /// Delete it, with its uid as precondition. Not answered: the watch shows the effect.
    Remove {
        /// Pod uid.
        worker: Uid,
    },
}

/// A message for a worker, without what only the shell holds (URLs, texts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToWorker {
    /// Do this.
    Lease(AttemptId),
    /// Echo of a heartbeat.
    Beat(u64),
    /// The report is stored (`true`), or is about somebody else's attempt (`false`).
    Ack(AttemptId, bool),
    /// Stop.
    Cancel(AttemptId),
    /// Take no more leases, on this stream.
    Drain,
}

/// Why a stream is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// A newer stream of the same worker took its place.
    Replaced,
    /// Silent for too long.
    Silent,
    /// Somebody else leads.
    NotLeader,
    /// Its worker was asked to leave, and is to stay after all: what was asked on a stream ends with it.
    Recalled,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Action {
    /// Write this status with a compare-and-swap on `rv`.
    Write {
        /// The job.
        job: Uid,
        /// For the answer.
        token: Token,
        /// What it was decided from.
        rv: Rv,
        /// The status at `rv`.
        before: Box<Status>,
        /// The status to store.
        after: Box<Status>,
        /// Why.
        cause: Cause,
    },
    /// Read the job from etcd (a quorum read), until there is an answer.
    Read {
        /// The job.
        job: Uid,
        /// For the answer.
        token: Token,
    },
    /// Sign the URLs of a lease and keep them for [`ToWorker::Lease`].
    Prepare {
        /// For the answer.
        token: Token,
        /// The attempt.
        attempt: AttemptId,
        /// Pod uid.
        worker: Uid,
        /// Pool.
        pool: PoolName,
    },
    /// Look for the outputs of an attempt that is said to have succeeded.
    CheckOutputs {
        /// For the answer.
        token: Token,
        /// The attempt.
        attempt: AttemptId,
        /// Pod uid.
        worker: Uid,
        /// Pool.
        pool: PoolName,
    },
    /// Look for the source.
    CheckSource {
        /// For the answer.
        token: Token,
        /// The job.
        job: Uid,
    },
    /// Read the final record.
    ReadRecord {
        /// For the answer.
        token: Token,
        /// The job.
        job: Uid,
    },
    /// Write the final record.
    WriteRecord {
        /// For the answer.
        token: Token,
        /// The job.
        job: Uid,
    },
    /// Remove the `active/` entry and losing outputs.
    Clean {
        /// For the answer.
        token: Token,
        /// The job.
        job: Uid,
    },
    /// Write the `active/` entry of the job's next life, or take it back: that life was refused.
    Reactivate {
        /// For the answer.
        token: Token,
        /// The job.
        job: Uid,
        /// Number of redrives of the next life.
        redrives: u32,
        /// Take it back.
        undo: bool,
    },
    /// Answers an [`Event::Redrive`](crate::Event::Redrive).
    Redriven {
        /// The job.
        job: Uid,
        /// The VideoJobRedrive.
        by: Uid,
        /// What became of it.
        outcome: Redrive,
    },
    /// Delete the VideoJob, with uid and resourceVersion as preconditions.
    Delete {
        /// For the answer.
        token: Token,
        /// The job.
        job: Uid,
        /// What it was decided from.
        rv: Rv,
    },
    /// Make, find or remove the pod of an attempt.
    Pod(PodAction),
    /// Send a message down a stream.
    Send {
        /// The stream.
        session: SessionId,
        /// `ToWorker.seq`.
        seq: u64,
        /// The message.
        message: ToWorker,
    },
    /// End a stream.
    Close {
        /// The stream.
        session: SessionId,
        /// Why.
        why: CloseReason,
    },
}
