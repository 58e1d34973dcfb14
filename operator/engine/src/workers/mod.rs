//! The workers as their streams show them: who is there, what each holds, who was silent for too long.
//!
//! Says what happened; what it means for a job is decided elsewhere.

mod silence;

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{AttemptId, PoolName, SessionId, Uid};
use crate::time::Mono;

pub use silence::{ADOPTION_HOLD, DROP_GRACE, SILENCE};

/// One lease, as far as one worker goes. It takes a slot until the worker is known to have forgotten it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    /// `ToWorker.seq` from which on a heartbeat must know it. `None`: not sent yet.
    pub since_seq: Option<u64>,
    /// The worker said that it has it.
    pub listed: bool,
    /// The attempt is over for the operator; the worker was told, or will be.
    pub ended: bool,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    next_seq: u64,
    heard: Mono,
    acked: BTreeMap<AttemptId, u64>,
}

impl Session {
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
    /// It said that it leaves.
    pub draining: bool,
    /// Its pod is being deleted or disrupted: whatever ends now did not end by itself.
    pub doomed: bool,
    /// Scale-down picked it.
    pub cordoned: bool,
    /// Its pod was made for one attempt: no other lease goes there.
    pub dedicated: bool,
    /// Without a stream: until when it may come back.
    pub absent_until: Option<Mono>,
    /// What it holds, and what it is about to get.
    pub leases: BTreeMap<AttemptId, Lease>,
}

impl Worker {
    /// Whether a lease may go there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.session.is_some() && !self.draining && !self.doomed && !self.cordoned
    }

    /// Leases that take a slot.
    #[must_use]
    pub fn busy(&self) -> u32 {
        u32::try_from(self.leases.len()).unwrap_or(u32::MAX)
    }

    /// Slots for new leases.
    #[must_use]
    pub fn free(&self) -> u32 {
        if self.is_open() && !self.dedicated {
            self.slots.saturating_sub(self.busy())
        } else {
            0
        }
    }
}

/// What a Hello brought to light.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Greeting {
    /// The stream that this one replaces.
    pub replaced: Option<SessionId>,
    /// Leases that the former process of this pod had: proof that they ended with it.
    pub died: Vec<AttemptId>,
}

/// All workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workers {
    all: BTreeMap<Uid, Worker>,
    sessions: BTreeMap<SessionId, Uid>,
    free: BTreeMap<PoolName, BTreeSet<(u32, Uid)>>,
    placed: BTreeMap<Uid, (PoolName, u32)>,
    drops: Vec<Mono>,
}

impl Workers {
    /// One worker.
    #[must_use]
    pub fn get(&self, worker: Uid) -> Option<&Worker> {
        self.all.get(&worker)
    }

    /// The worker behind a stream; `None` for a stream that was replaced.
    #[must_use]
    pub fn of_session(&self, session: SessionId) -> Option<Uid> {
        self.sessions.get(&session).copied()
    }

    /// All of them, by pod uid.
    pub fn iter(&self) -> impl Iterator<Item = (&Uid, &Worker)> {
        self.all.iter()
    }

    /// Changes a worker and keeps the order of free slots right.
    pub fn update<T>(&mut self, worker: Uid, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let entry = self.all.get_mut(&worker)?;
        let result = change(entry);
        self.place(worker);
        Some(result)
    }

    fn place(&mut self, worker: Uid) {
        let now = self
            .all
            .get(&worker)
            .and_then(|w| w.pool.map(|pool| (pool, w.free())))
            .filter(|(_, free)| *free > 0);
        let before = match now {
            Some(place) => self.placed.insert(worker, place),
            None => self.placed.remove(&worker),
        };
        if before == now {
            return;
        }
        if let Some((pool, free)) = before
            && let Some(set) = self.free.get_mut(&pool)
        {
            set.remove(&(free, worker));
        }
        if let Some((pool, free)) = now {
            self.free.entry(pool).or_default().insert((free, worker));
        }
    }

    /// The worker with the most free slots.
    #[must_use]
    pub fn idlest(&self, pool: PoolName) -> Option<Uid> {
        self.free
            .get(&pool)
            .and_then(|set| set.last())
            .map(|(_, worker)| *worker)
    }

    /// A stream begins. The worker dropped the old one before it said so: what it does not list, it never got.
    pub fn hello(&mut self, session: SessionId, worker: Uid, said: Said, now: Mono) -> Greeting {
        let Said {
            pool,
            slots,
            instance,
            listed,
        } = said;
        let entry = self.all.entry(worker).or_default();
        let mut greeting = Greeting::default();
        if let Some(old) = entry.session.take() {
            self.sessions.remove(&old.id);
            greeting.replaced = Some(old.id);
        }
        let another_process = entry.instance.is_some_and(|old| old != instance);
        if another_process {
            let died: Vec<AttemptId> = entry
                .leases
                .iter()
                .filter(|(id, lease)| lease.since_seq.is_some() && !listed.contains(id))
                .map(|(id, _)| *id)
                .collect();
            entry.leases.retain(|id, _| !died.contains(id));
            greeting.died = died;
        }
        for (id, lease) in &mut entry.leases {
            lease.listed = listed.contains(id);
            // Listed without having been sent by us: another leader did.
            lease.since_seq = lease.since_seq.map(|_| 1).or(lease.listed.then_some(1));
        }
        for id in listed {
            entry.leases.entry(id).or_insert(Lease {
                since_seq: Some(1),
                listed: true,
                ended: false,
            });
        }
        entry.pool = Some(pool);
        entry.slots = slots;
        entry.instance = Some(instance);
        // Who leaves does not come back as the same process.
        entry.draining &= !another_process;
        entry.absent_until = None;
        entry.session = Some(Session {
            id: session,
            next_seq: 1,
            heard: now,
            acked: BTreeMap::new(),
        });
        self.sessions.insert(session, worker);
        self.place(worker);
        greeting
    }

    /// A sign of life with its lists. Answers with the leases that this worker provably has no more.
    pub fn heartbeat(
        &mut self,
        worker: Uid,
        received: u64,
        listed: &[AttemptId],
        now: Mono,
    ) -> Vec<AttemptId> {
        let Some(entry) = self.all.get_mut(&worker) else {
            return Vec::new();
        };
        let mut gone = Vec::new();
        if let Some(session) = &mut entry.session {
            session.heard = now;
            session.acked.retain(|_, seq| *seq > received);
            let listed: BTreeSet<AttemptId> = listed
                .iter()
                .copied()
                // Made before the acknowledgement arrived: it says nothing.
                .filter(|id| !session.acked.contains_key(id))
                .collect();
            entry.leases.retain(|id, lease| {
                lease.listed = listed.contains(id);
                if lease.listed && lease.since_seq.is_none() {
                    lease.since_seq = Some(1);
                }
                let lost = !lease.listed && lease.since_seq.is_some_and(|seq| seq <= received);
                if lost {
                    gone.push(*id);
                }
                !lost
            });
            for id in listed {
                entry.leases.entry(id).or_insert(Lease {
                    since_seq: Some(1),
                    listed: true,
                    ended: false,
                });
            }
        }
        self.place(worker);
        gone
    }

    /// Any other message of the stream is a sign of life, too.
    pub fn heard(&mut self, worker: Uid, now: Mono) {
        if let Some(session) = self.all.get_mut(&worker).and_then(|w| w.session.as_mut()) {
            session.heard = now;
        }
    }

    /// Takes a message number of the worker's stream.
    pub fn take_seq(&mut self, worker: Uid) -> Option<(SessionId, u64)> {
        let session = self.all.get_mut(&worker)?.session.as_mut()?;
        Some((session.id, session.take_seq()))
    }

    /// An acknowledgement with this number went out: the lease is off the worker.
    pub fn acknowledged(&mut self, worker: Uid, attempt: AttemptId, seq: u64) {
        self.update(worker, |w| {
            w.leases.remove(&attempt);
            if let Some(session) = &mut w.session {
                session.acked.insert(attempt, seq);
            }
        });
    }

    /// A job is stored as running there, or is about to be claimed for it.
    pub fn expect(&mut self, worker: Uid, attempt: AttemptId, sent: bool, absent_until: Mono) {
        let entry = self.all.entry(worker).or_insert_with(|| Worker {
            absent_until: Some(absent_until),
            ..Worker::default()
        });
        entry.leases.entry(attempt).or_insert(Lease {
            since_seq: sent.then_some(1),
            listed: false,
            ended: false,
        });
        self.place(worker);
    }

    /// The lease was never sent, or its end is proved.
    pub fn forget(&mut self, worker: Uid, attempt: AttemptId) -> bool {
        self.update(worker, |w| w.leases.remove(&attempt).is_some())
            .unwrap_or(false)
    }

    /// Its pod was made for one attempt. Remembered also of one that has not said Hello yet.
    pub fn dedicate(&mut self, worker: Uid) {
        self.all.entry(worker).or_default().dedicated = true;
        self.place(worker);
    }

    /// The pod is being deleted or disrupted. Remembered also of one that has not said Hello yet.
    pub fn doom(&mut self, worker: Uid) {
        self.all.entry(worker).or_default().doomed = true;
        self.place(worker);
    }

    /// The pod is gone: what it held. Nothing of it runs any more.
    pub fn remove(&mut self, worker: Uid) -> (Vec<AttemptId>, Option<SessionId>) {
        let Some(mut entry) = self.all.remove(&worker) else {
            return (Vec::new(), None);
        };
        self.place(worker);
        let session = entry.session.take().map(|s| s.id);
        if let Some(id) = session {
            self.sessions.remove(&id);
        }
        (entry.leases.into_keys().collect(), session)
    }

    /// Ends all streams, forgets all workers: somebody else leads.
    pub fn disband(&mut self) -> Vec<SessionId> {
        let sessions = self.sessions.keys().copied().collect();
        *self = Workers::default();
        sessions
    }
}

/// What a Hello says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Said {
    /// Pool of the pod.
    pub pool: PoolName,
    /// Leases at once.
    pub slots: u32,
    /// Of the process.
    pub instance: Uid,
    /// Held and unacknowledged.
    pub listed: BTreeSet<AttemptId>,
}
