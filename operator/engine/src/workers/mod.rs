//! The workers as their streams show them: who is there, what each holds, who was silent for too long.
//!
//! Says what happened; what it means for a job is decided elsewhere.

mod silence;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::graves::Graves;
use crate::ids::{AttemptId, PoolName, SessionId, Uid};
use crate::time::Mono;

pub use silence::{ADOPTION_HOLD, DROP_GRACE, SILENCE};
pub use worker::{Lease, Session, Worker};

/// A worker that beats every 3 s and has said nothing for longer may be dead.
const QUIET: Duration = Duration::from_secs(4);

/// Acknowledgements to one worker that it has not confirmed yet. One more is not remembered: a heartbeat that was made before
/// it arrived takes a slot until the next.
const MAX_ACKED: usize = 4096;

/// What a Hello brought to light.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Greeting {
    /// The stream that this one replaces.
    pub replaced: Option<SessionId>,
    /// Leases that the former process of this pod had: proof that they ended with it.
    pub died: Vec<AttemptId>,
    /// Leases that were sent to that process when it may have been dead already.
    pub never_came: Vec<AttemptId>,
}

/// All workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workers {
    all: BTreeMap<Uid, Worker>,
    sessions: BTreeMap<SessionId, Uid>,
    free: BTreeMap<PoolName, BTreeSet<(u32, Uid)>>,
    placed: BTreeMap<Uid, (PoolName, u32)>,
    drops: Vec<Mono>,
    kept: BTreeMap<PoolName, Uid>,
    /// Pods that went lately.
    gone: Graves,
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

    /// A worker that holds nothing.
    #[must_use]
    pub fn idle(&self, pool: PoolName) -> Option<Uid> {
        let kept = self.kept.get(&pool).copied();
        let free = self.free.get(&pool).into_iter().flatten().rev();
        kept.into_iter()
            .chain(free.map(|(_, worker)| *worker))
            .find(|worker| {
                self.all
                    .get(worker)
                    .is_some_and(|w| w.is_open() && w.leases.is_empty())
            })
    }

    /// Those of a pool.
    pub fn of(&self, pool: PoolName) -> impl Iterator<Item = &Worker> {
        self.all.values().filter(move |w| w.pool == Some(pool))
    }

    /// Keeps the worker with the most free slots of a pool from new leases, or lets all have them again.
    pub fn keep_one(&mut self, pool: PoolName, wanted: bool) {
        let kept = self.kept.get(&pool).copied();
        let good = kept
            .and_then(|worker| self.all.get(&worker))
            .is_some_and(|w| w.kept && w.is_open() && !w.leases.values().any(|lease| lease.alone));
        if good == wanted && (wanted || kept.is_none()) {
            return;
        }
        if let Some(worker) = self.kept.remove(&pool) {
            self.update(worker, |w| w.kept = false);
        }
        if let (true, Some(worker)) = (wanted, self.idlest(pool)) {
            self.update(worker, |w| w.kept = true);
            self.kept.insert(pool, worker);
        }
    }

    /// Whether one is kept from new leases.
    #[must_use]
    pub fn keeps_one(&self, pool: PoolName) -> bool {
        self.kept.contains_key(&pool)
    }

    /// No other lease goes to this worker while it has this one.
    pub fn seclude(&mut self, worker: Uid, attempt: AttemptId) {
        self.update(worker, |w| {
            if let Some(lease) = w.leases.get_mut(&attempt) {
                lease.alone = true;
            }
        });
    }

    /// A stream begins. The worker dropped the old one before it said so: what it does not list, it never got.
    pub fn hello(&mut self, session: SessionId, worker: Uid, said: Said, now: Mono) -> Greeting {
        let Said {
            pool,
            slots,
            instance,
            listed,
        } = said;
        // Whoever speaks is there, whatever its labels told the watch.
        self.gone.open(worker);
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
            (greeting.died, greeting.never_came) = died
                .into_iter()
                .partition(|id| entry.leases.get(id).is_some_and(Lease::arrived));
            entry
                .leases
                .retain(|id, lease| lease.since_seq.is_none() || listed.contains(id));
        }
        entry
            .leases
            .retain(|id, lease| !lease.is_hearsay() || listed.contains(id));
        for (id, lease) in &mut entry.leases {
            lease.listed = listed.contains(id);
            lease.proven |= lease.listed;
            lease.pushed = false;
            // Listed without having been sent by us: another leader did.
            let first = lease.since_seq.map(|seq| seq.min(1));
            lease.since_seq = first.or(lease.listed.then_some(1));
        }
        for id in listed {
            entry.leases.entry(id).or_insert(Lease::presented());
        }
        entry.pool = Some(pool);
        entry.slots = slots;
        entry.instance = Some(instance);
        // Who leaves does not come back as the same process, unless it was only asked to on a stream that is over.
        entry.draining &= !another_process && !entry.dismissed;
        entry.absent_until = None;
        entry.session = Some(Session::new(session, now));
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
                lease.proven |= lease.listed;
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
                entry.leases.entry(id).or_insert(Lease::presented());
            }
        }
        self.place(worker);
        gone
    }

    /// A lease went down the worker's stream with this number.
    pub fn pushed(&mut self, worker: Uid, attempt: AttemptId, seq: u64, now: Mono) {
        self.update(worker, |w| {
            let quiet = w
                .session
                .as_ref()
                .is_none_or(|session| now.since(session.heard) > QUIET);
            if let Some(lease) = w.leases.get_mut(&attempt) {
                lease.since_seq = Some(seq);
                lease.pushed = true;
                lease.doubtful = quiet;
            }
        });
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
            if let Some(session) = &mut w.session
                && session.acked.len() < MAX_ACKED
            {
                session.acked.insert(attempt, seq);
            }
        });
    }

    /// A worker that is there or may come; `None`: its pod is gone.
    fn entry(&mut self, worker: Uid) -> Option<&mut Worker> {
        let is_gone = self.gone.holds(worker) && !self.all.contains_key(&worker);
        (!is_gone).then(|| self.all.entry(worker).or_default())
    }

    /// A job is stored as running there, or is about to be claimed for it. False: its pod is gone.
    pub fn expect(
        &mut self,
        worker: Uid,
        attempt: AttemptId,
        sent: bool,
        absent_until: Mono,
    ) -> bool {
        let Some(entry) = self.entry(worker) else {
            return false;
        };
        // Its pod may be known already; one that was given up is not waited for anew.
        let is_news = !entry.leases.contains_key(&attempt);
        if is_news && entry.session.is_none() && entry.absent_until.is_none() {
            entry.absent_until = Some(absent_until);
        }
        let lease = entry.leases.entry(attempt).or_insert(Lease {
            since_seq: sent.then_some(1),
            // The process that said Hello did not list it, and nobody here sent it.
            doubtful: sent && entry.instance.is_some(),
            ..Lease::default()
        });
        if lease.is_hearsay() {
            lease.since_seq = Some(1);
        }
        self.place(worker);
        true
    }

    /// The lease was never sent, or its end is proved.
    pub fn forget(&mut self, worker: Uid, attempt: AttemptId) -> bool {
        self.update(worker, |w| w.leases.remove(&attempt).is_some())
            .unwrap_or(false)
    }

    /// Its pod is there, and was made for one attempt. Remembered also of one that has not said Hello yet.
    pub fn dedicate(&mut self, worker: Uid) {
        self.gone.open(worker);
        self.all.entry(worker).or_default().dedicated = true;
        self.place(worker);
    }

    /// The pod is being deleted or disrupted. Remembered also of one that has not said Hello yet.
    pub fn doom(&mut self, worker: Uid) {
        if let Some(entry) = self.entry(worker) {
            entry.doomed = true;
            self.place(worker);
        }
    }

    /// The pod is gone: what it held. Nothing of it runs any more, and what is stored later as running there never will.
    pub fn bury(&mut self, worker: Uid, now: Mono) -> (Vec<AttemptId>, Option<SessionId>) {
        self.gone.dig(worker, now);
        self.remove(worker)
    }

    /// Forgets pods that went long ago.
    pub fn expire(&mut self, now: Mono) {
        self.gone.expire(now);
    }

    /// A worker is forgotten: what it held.
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
        *self = Workers {
            gone: std::mem::take(&mut self.gone),
            ..Workers::default()
        };
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
