//! One worker: its stream, its leases, and whether a lease may go there.

use std::collections::BTreeMap;

use crate::ids::{AttemptId, PoolName, SessionId, Uid};
use crate::time::Mono;

/// One lease, as far as one worker goes. It takes a slot until the worker is known to have forgotten it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    /// `ToWorker.seq` from which on a heartbeat must know it. `None`: not sent yet; 0: never sent by us, as far as is known.
    pub since_seq: Option<u64>,
    /// The worker said that it has it.
    pub listed: bool,
    /// The attempt is over for the operator; the worker was told, or will be.
    pub ended: bool,
    /// The worker said so at least once.
    pub proven: bool,
    /// It was sent down the stream that its worker has now.
    pub pushed: bool,
    /// That stream ended from the other side.
    pub cut: bool,
    /// No other lease goes to its worker meanwhile.
    pub alone: bool,
    /// It was sent down a stream from which nothing had come for longer than a beat.
    pub doubtful: bool,
}

impl Lease {
    /// One that the worker brought along. There only as long as it says so.
    pub(super) fn presented() -> Lease {
        Lease {
            since_seq: Some(0),
            listed: true,
            proven: true,
            ..Lease::default()
        }
    }

    /// Whether only its worker speaks of it.
    pub(super) fn is_hearsay(&self) -> bool {
        self.since_seq == Some(0)
    }

    /// Whether its worker's process can be taken to have had it when it ended.
    #[must_use]
    pub fn arrived(&self) -> bool {
        self.since_seq.is_some() && (self.proven || !self.doubtful)
    }
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    next_seq: u64,
    pub(super) heard: Mono,
    pub(super) acked: BTreeMap<AttemptId, u64>,
    told_to_leave: bool,
}

impl Session {
    pub(super) fn new(id: SessionId, now: Mono) -> Session {
        Session {
            id,
            next_seq: 1,
            heard: now,
            acked: BTreeMap::new(),
            told_to_leave: false,
        }
    }

    /// Takes the next number of a message.
    pub fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq = self.next_seq.saturating_add(1);
        seq
    }
}

/// One worker, known from its stream or from a job that is stored as running there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Worker {
    /// Its pool, once it has said Hello.
    pub pool: Option<PoolName>,
    /// Leases at once.
    pub slots: u32,
    /// Its stream, while there is one.
    pub session: Option<Session>,
    /// Its process.
    pub instance: Option<Uid>,
    /// Which service its pod was made for: its pool's when it was met first.
    pub service: Option<u64>,
    /// It said that it leaves.
    pub draining: bool,
    /// Its pod is being deleted or disrupted: whatever ends now did not end by itself.
    pub doomed: bool,
    /// Scale-down picked it.
    pub cordoned: bool,
    /// Scale-down is about to take its pod away.
    pub dismissed: bool,
    /// Its pod was made for one attempt: no other lease goes there.
    pub dedicated: bool,
    /// It gets no more leases until it is idle, and then one that wants it for itself.
    pub kept: bool,
    /// Without a stream: until when it may come back.
    pub absent_until: Option<Mono>,
    /// What it holds, and what it is about to get.
    pub leases: BTreeMap<AttemptId, Lease>,
}

impl Worker {
    /// Whether a lease may go there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let stays = !self.draining && !self.doomed && !self.cordoned && !self.dismissed;
        self.session.is_some() && stays
    }

    /// Whether it has to be told now, on the stream it has, that it must leave.
    pub(crate) fn take_farewell(&mut self) -> bool {
        let leaves = self.doomed || self.dismissed;
        match &mut self.session {
            Some(session) if leaves => !std::mem::replace(&mut session.told_to_leave, true),
            Some(_) | None => false,
        }
    }

    /// Whether it is there, and has a job that wants it for itself. One that was lost may stand in its books for long.
    #[must_use]
    pub fn works_alone(&self) -> bool {
        let mut leases = self.leases.values();
        self.session.is_some() && leases.any(|lease| lease.alone && !lease.ended)
    }

    /// Leases that take a slot.
    #[must_use]
    pub fn busy(&self) -> u32 {
        u32::try_from(self.leases.len()).unwrap_or(u32::MAX)
    }

    /// Slots for new leases.
    #[must_use]
    pub fn free(&self) -> u32 {
        let alone = self.leases.values().any(|lease| lease.alone);
        if self.is_open() && !self.dedicated && !self.kept && !alone {
            self.slots.saturating_sub(self.busy())
        } else {
            0
        }
    }
}
