//! The compact index: every job once, counted by pool, with an alarm for the next thing that time brings.
//!
//! Facts only move forward: what was read at an older resourceVersion never replaces newer facts.

mod compact;
mod counts;
mod crowd;
mod unfiled;

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::Archive;
use crate::ids::{PoolName, Symbol, Uid};
use crate::job::{Job, Phase};
use crate::schedule::queue::Queue;
use crate::time::{Mono, Wall};

use compact::Compact;
pub use counts::Tally;
use counts::{Counted, Counts};
use crowd::Crowd;
pub use crowd::Kind;
pub use unfiled::ArchiveBacklog;
use unfiled::{Place, Unfiled};

/// One job and where it stands. Its pools are of its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Entry {
    facts: Compact,
    archive: Archive,
    cleared: bool,
    ready: Option<Symbol>,
    counted: Counted,
    alarm: Option<Wall>,
    bell: Option<Mono>,
}

/// All jobs.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Index {
    /// In boxes: nodes of the tree stay small, and so does what half-empty ones waste.
    jobs: BTreeMap<Uid, Box<Entry>>,
    ready: BTreeMap<PoolName, Queue>,
    counts: Counts,
    alarms: BTreeSet<(Wall, Uid)>,
    bells: BTreeSet<(Mono, Uid)>,
    crowd: Crowd,
    unfiled: Unfiled,
    live: u64,
    /// Those of uploads.
    live_uploads: u64,
}

impl Index {
    /// The facts of a job.
    #[must_use]
    pub fn job(&self, uid: Uid) -> Option<Job> {
        self.jobs.get(&uid).map(|entry| entry.facts.unpack(uid))
    }

    /// Whether there is such a job.
    #[must_use]
    pub fn contains(&self, uid: Uid) -> bool {
        self.jobs.contains_key(&uid)
    }

    /// How far its archive is.
    #[must_use]
    pub fn archive(&self, uid: Uid) -> Option<Archive> {
        self.jobs.get(&uid).map(|entry| entry.archive)
    }

    /// Every uid, in order.
    #[must_use]
    pub fn uids(&self) -> Vec<Uid> {
        self.jobs.keys().copied().collect()
    }

    /// How many jobs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Non-final jobs.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Those of them that are of uploads.
    #[must_use]
    pub fn live_uploads(&self) -> u64 {
        self.live_uploads
    }

    /// Takes newer facts. False: they are older than what is known, or the same.
    pub fn put(&mut self, job: Job) -> bool {
        let uid = job.uid;
        let before = self.jobs.get(&uid).map(|entry| &entry.facts);
        if before.is_some_and(|facts| facts.rv() >= job.rv) {
            return false;
        }
        let was_live = before.is_some_and(|facts| !facts.phase().is_final());
        let was_upload = before.is_some_and(Compact::is_open_upload);
        // Its place in the queue depends on the facts that go now.
        self.unqueue(uid);
        let entry = self.jobs.entry(uid).or_default();
        let place = Place::of(uid, entry);
        let facts = Compact::pack(job);
        self.crowd.moved(uid, entry.facts.ended(), facts.ended());
        let is_live = !facts.phase().is_final();
        self.live = (self.live + u64::from(is_live)).saturating_sub(u64::from(was_live));
        let uploads = self.live_uploads + u64::from(facts.is_open_upload());
        self.live_uploads = uploads.saturating_sub(u64::from(was_upload));
        if entry.facts.redrives() != facts.redrives() {
            entry.archive = Archive::Unknown;
        }
        entry.facts = facts;
        self.unfiled.moved(place, Place::of(uid, entry));
        true
    }

    /// The job is gone.
    pub fn remove(&mut self, uid: Uid) -> Option<Job> {
        self.unqueue(uid);
        self.uncount(uid);
        self.set_alarm(uid, None);
        self.set_bell(uid, None);
        let entry = self.jobs.remove(&uid)?;
        self.crowd.moved(uid, entry.facts.ended(), None);
        self.unfiled.moved(Place::of(uid, &entry), Place::Nowhere);
        if !entry.facts.phase().is_final() {
            self.live = self.live.saturating_sub(1);
        }
        let uploads = u64::from(entry.facts.is_open_upload());
        self.live_uploads = self.live_uploads.saturating_sub(uploads);
        Some(entry.facts.unpack(uid))
    }

    /// Whether its record was looked for.
    #[must_use]
    pub fn is_cleared(&self, uid: Uid) -> bool {
        self.jobs.get(&uid).is_some_and(|entry| entry.cleared)
    }

    /// Its record was looked for before the first claim.
    pub fn set_cleared(&mut self, uid: Uid) {
        if let Some(entry) = self.jobs.get_mut(&uid) {
            entry.cleared = true;
        }
    }

    /// Puts a job into its pool's ready queue, and in no other. `alone`: it gets a worker for itself.
    pub fn queue(&mut self, uid: Uid, pool: PoolName, alone: bool) {
        let waits_in = self.jobs.get(&uid).and_then(|entry| entry.ready);
        if waits_in == Some(pool.name) {
            return;
        }
        self.unqueue(uid);
        let Some(entry) = self.jobs.get_mut(&uid) else {
            return;
        };
        entry.ready = Some(pool.name);
        self.ready
            .entry(pool)
            .or_default()
            .insert(&entry.facts.unpack(uid), alone);
    }

    /// Takes it out again.
    pub fn unqueue(&mut self, uid: Uid) {
        let Some(entry) = self.jobs.get_mut(&uid) else {
            return;
        };
        let Some(name) = entry.ready.take() else {
            return;
        };
        let namespace = entry.facts.namespace();
        if let Some(queue) = self.ready.get_mut(&PoolName { namespace, name }) {
            queue.remove(&entry.facts.unpack(uid));
        }
    }

    /// The ready queue of a pool.
    #[must_use]
    pub fn ready(&self, pool: PoolName) -> Option<&Queue> {
        self.ready.get(&pool).filter(|queue| !queue.is_empty())
    }

    /// The same, to note a grant.
    pub fn ready_mut(&mut self, pool: PoolName) -> Option<&mut Queue> {
        self.ready.get_mut(&pool)
    }

    /// Jobs that could be claimed now.
    #[must_use]
    pub fn ready_len(&self, pool: PoolName) -> u32 {
        let len = self.ready.get(&pool).map_or(0, Queue::len);
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    /// Since when the oldest of them waits.
    #[must_use]
    pub fn oldest(&self, pool: PoolName) -> Option<Wall> {
        self.ready.get(&pool).and_then(Queue::oldest)
    }

    /// Pools with ready jobs.
    pub fn ready_pools(&self) -> impl Iterator<Item = PoolName> {
        let waiting = self.ready.iter().filter(|(_, queue)| !queue.is_empty());
        waiting.map(|(pool, _)| *pool)
    }

    /// Every ready job with its pool.
    pub fn ready_jobs(&self) -> impl Iterator<Item = (PoolName, Uid)> {
        let each = |(pool, queue)| {
            let (pool, queue): (&PoolName, &Queue) = (pool, queue);
            queue.uids().map(|uid| (*pool, uid))
        };
        self.ready.iter().flat_map(each)
    }

    /// Backoff jobs that come due until `until`, by pool.
    #[must_use]
    pub fn due_until(&self, until: Wall) -> BTreeMap<PoolName, u32> {
        let mut due = BTreeMap::new();
        for (_, uid) in self.alarms.range(..=(until, Uid(u128::MAX))) {
            let Some(entry) = self.jobs.get(uid) else {
                continue;
            };
            let soon = entry.facts.phase() == Phase::Backoff
                && entry.ready.is_none()
                && entry.facts.next_attempt().is_some_and(|at| at <= until);
            let counted = entry.counted.in_pool(entry.facts.namespace());
            if let (true, Some((pool, _))) = (soon, counted) {
                *due.entry(pool).or_default() += 1;
            }
        }
        due
    }

    /// When to look at it again by the wall clock.
    pub fn set_alarm(&mut self, uid: Uid, at: Option<Wall>) {
        let Some(entry) = self.jobs.get_mut(&uid) else {
            return;
        };
        let before = std::mem::replace(&mut entry.alarm, at);
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.alarms.remove(&(before, uid));
        }
        if let Some(at) = at {
            self.alarms.insert((at, uid));
        }
    }

    /// When to look at it again by the monotonic clock.
    pub fn set_bell(&mut self, uid: Uid, at: Option<Mono>) {
        let Some(entry) = self.jobs.get_mut(&uid) else {
            return;
        };
        let before = std::mem::replace(&mut entry.bell, at);
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.bells.remove(&(before, uid));
        }
        if let Some(at) = at {
            self.bells.insert((at, uid));
        }
    }

    /// Takes one job whose alarm or bell is due.
    pub fn take_due(&mut self, mono: Mono, wall: Wall) -> Option<Uid> {
        if let Some((at, uid)) = self.alarms.first().copied()
            && at <= wall
        {
            self.set_alarm(uid, None);
            return Some(uid);
        }
        if let Some((at, uid)) = self.bells.first().copied()
            && at <= mono
        {
            self.set_bell(uid, None);
            return Some(uid);
        }
        None
    }
}
