//! What the shell tells the engine.

use std::time::Duration;

use crate::ids::SessionId;
use crate::ids::{AttemptId, PoolName, Token, Uid};
use crate::job::Job;
use crate::job::decide::Look;
use crate::outcome::Fact;
use crate::policy::PoolPolicy;
use crate::time::Wall;

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lead {
    /// Somebody else, or nobody: watch only.
    #[default]
    Standby,
    /// This process.
    Leader,
    /// This process did, and no other holder was seen yet: no claims, no expiry, results are still taken.
    Doubtful,
}

/// What is known of the control plane's past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum History {
    /// It has only moved forward.
    #[default]
    Unbroken,
    /// Not compared yet with what a leader saw last: no upload job is touched.
    Unknown,
    /// It was lost or restored from a backup; found out then. Jobs made before may have ended already.
    Rewound(Wall),
}

/// Answer to a status write or a delete.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A write: done, with the object that came back.
    Written(Box<Job>),
    /// A write, a delete: 409, timeout, 5xx, connection lost. Nobody knows.
    Unknown,
    /// A write: refused for good (4xx).
    Refused,
    /// A write: not sent at all (the lease's renew deadline is past).
    NotSent,
    /// A read: the object.
    Found(Box<Job>),
    /// A read, a write, a delete: the object is not there (any more).
    Gone,
    /// Leases: URLs are signed. Checks: everything is there. Records: written, cleaned.
    Yes,
    /// Leases: refused for good. Checks: something is missing.
    No,
    /// The store could not be asked.
    Away,
    /// A record: the number of redrives it covers. Refused: it is there and cannot be read.
    Record(u32),
}

impl Answer {
    /// The answer as that of a look: there, missing, or no answer at all.
    #[must_use]
    pub fn look(&self) -> Look {
        match self {
            Answer::Yes => Look::There,
            Answer::No => Look::Missing,
            Answer::Written(_)
            | Answer::Unknown
            | Answer::Refused
            | Answer::NotSent
            | Answer::Found(_)
            | Answer::Gone
            | Answer::Away
            | Answer::Record(_) => Look::Away,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A job was listed, or came with the watch.
    Job(Box<Job>),
    /// The watch says that a job was deleted.
    JobDeleted(Uid),
    /// All jobs were listed.
    JobsSynced,
    /// A pool is new or changed.
    Pool(PoolName, Box<PoolPolicy>),
    /// A pool was deleted.
    PoolGone(PoolName),
    /// All pools were listed.
    PoolsSynced,
    /// Leadership changed.
    Lead(Lead),
    /// A write of this process succeeded (the lease renewal counts).
    Alive,
    /// Time passed.
    Tick,
    /// A worker's stream begins.
    Hello {
        /// The stream.
        session: SessionId,
        /// Pod uid.
        worker: Uid,
        /// Pool of the pod.
        pool: PoolName,
        /// Leases at once.
        slots: u32,
        /// Of the process.
        instance: Uid,
        /// Leases it holds.
        held: Vec<AttemptId>,
        /// Leases whose outcome nobody acknowledged.
        unacked: Vec<AttemptId>,
    },
    /// A worker's sign of life.
    Heartbeat {
        /// The stream.
        session: SessionId,
        /// Number to echo.
        seq: u64,
        /// Last message of this stream that the worker had received.
        received: u64,
        /// Leases it holds.
        held: Vec<AttemptId>,
        /// Leases whose outcome nobody acknowledged.
        unacked: Vec<AttemptId>,
    },
    /// How an attempt ended.
    Outcome {
        /// The stream.
        session: SessionId,
        /// The attempt.
        attempt: AttemptId,
        /// What happened.
        fact: Fact,
        /// What the service asked for.
        retry_after: Option<Duration>,
    },
    /// How far an attempt is.
    Progress {
        /// The stream.
        session: SessionId,
        /// The attempt.
        attempt: AttemptId,
        /// 0 to 100.
        percent: u32,
    },
    /// Somebody wants a dead letter back.
    Redrive {
        /// The job.
        job: Uid,
        /// The VideoJobRedrive.
        by: Uid,
    },
    /// What is known of the control plane's past.
    History(History),
    /// Whether this clock agrees with the store's: signed URLs depend on it.
    ClockTrusted(bool),
    /// The worker takes no more leases.
    Draining(SessionId),
    /// Its pool gives the worker so many slots now.
    Slots(SessionId, u32),
    /// The stream is over.
    Closed(SessionId),
    /// A pod that was made for one attempt is there; said again before its Hello.
    AttemptPod {
        /// Pod uid.
        worker: Uid,
        /// The attempt.
        attempt: AttemptId,
    },
    /// The object of such a pod is gone; its [`Event::PodGone`] came before.
    AttemptPodDeleted(Uid),
    /// The pod is being deleted or disrupted.
    PodDraining(Uid),
    /// It is not, after all.
    PodStays(Uid),
    /// The pod, or its phase, is gone: no call of it runs any more.
    PodGone {
        /// Pod uid.
        worker: Uid,
        /// Nobody asked for it.
        by_itself: bool,
    },
    /// The worker's container ended.
    ContainerEnded {
        /// Pod uid.
        worker: Uid,
        /// When.
        finished: Wall,
        /// Nobody asked for it.
        by_itself: bool,
    },
    /// No more leases there, or leases again.
    Cordon {
        /// Pod uid.
        worker: Uid,
        /// Whether to.
        on: bool,
    },
    /// The worker's pod goes next: it is told to take no more leases, until a [`Event::Cordon`] lifts that.
    Drain(Uid),
    /// The answer to the action that carried `token`.
    Answer {
        /// The job it was about.
        job: Uid,
        /// Of the action.
        token: Token,
        /// The answer.
        answer: Answer,
    },
}
