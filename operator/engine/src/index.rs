//! The compact index: every job once, counted by pool, with an alarm for the next thing that time brings.
//!
//! Facts only move forward: what was read at an older resourceVersion never replaces newer facts.

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::Archive;
use crate::ids::{PoolName, Uid};
use crate::job::{Job, Phase};
use crate::schedule::ReadyKey;
use crate::time::{Mono, Wall};

/// One job and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The facts.
    pub job: Job,
    /// Of a final job.
    pub archive: Archive,
    /// Its late creation was looked into: it has no final record.
    pub cleared: bool,
    ready: Option<PoolName>,
    counted: Option<(PoolName, Count)>,
    alarm: Option<Wall>,
    bell: Option<Mono>,
}

/// As what a job counts in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Count {
    Queued,
    Running,
    Suspended,
}

/// Jobs of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// Queued or in backoff.
    pub queued: u32,
    /// Running.
    pub running: u32,
    /// Suspended.
    pub suspended: u32,
}

/// All jobs.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Index {
    jobs: BTreeMap<Uid, Entry>,
    ready: BTreeMap<PoolName, BTreeSet<ReadyKey>>,
    ages: BTreeMap<PoolName, BTreeSet<(Wall, Uid)>>,
    tallies: BTreeMap<PoolName, Tally>,
    alarms: BTreeSet<(Wall, Uid)>,
    bells: BTreeSet<(Mono, Uid)>,
    live: u64,
}

impl Index {
    /// The facts of a job.
    #[must_use]
    pub fn job(&self, uid: Uid) -> Option<&Job> {
        self.jobs.get(&uid).map(|e| &e.job)
    }

    /// A job and where it stands.
    #[must_use]
    pub fn entry(&self, uid: Uid) -> Option<&Entry> {
        self.jobs.get(&uid)
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

    /// Takes newer facts. False: they are older than what is known, or the same.
    pub fn put(&mut self, job: Job) -> bool {
        if self.jobs.get(&job.uid).is_some_and(|e| e.job.rv >= job.rv) {
            return false;
        }
        // Its place in the queue depends on the facts that go now.
        self.unqueue(job.uid);
        let known = self.jobs.contains_key(&job.uid);
        let entry = self.jobs.entry(job.uid).or_default();
        let was_live = known && !entry.job.status.phase.is_final();
        let is_live = !job.status.phase.is_final();
        self.live = (self.live + u64::from(is_live)).saturating_sub(u64::from(was_live));
        if entry.job.status.redrives != job.status.redrives {
            entry.archive = Archive::Unknown;
        }
        entry.job = job;
        true
    }

    /// The job is gone.
    pub fn remove(&mut self, uid: Uid) -> Option<Job> {
        self.unqueue(uid);
        self.count(uid, None);
        self.set_alarm(uid, None);
        self.set_bell(uid, None);
        let entry = self.jobs.remove(&uid)?;
        if !entry.job.status.phase.is_final() {
            self.live = self.live.saturating_sub(1);
        }
        Some(entry.job)
    }

    /// How far its archive is.
    pub fn set_archive(&mut self, uid: Uid, archive: Archive) {
        if let Some(entry) = self.jobs.get_mut(&uid) {
            entry.archive = archive;
        }
    }

    /// Its record was looked for before the first claim.
    pub fn set_cleared(&mut self, uid: Uid) {
        if let Some(entry) = self.jobs.get_mut(&uid) {
            entry.cleared = true;
        }
    }

    /// Counts a job in its pool, as what its stored phase says.
    pub fn count(&mut self, uid: Uid, pool: Option<PoolName>) {
        let Some(entry) = self.jobs.get_mut(&uid) else {
            return;
        };
        let as_what = match entry.job.status.phase {
            Phase::Queued | Phase::Backoff => Some(Count::Queued),
            Phase::Running => Some(Count::Running),
            Phase::Suspended => Some(Count::Suspended),
            Phase::Succeeded | Phase::DeadLettered | Phase::Cancelled => None,
        };
        let next = pool.zip(as_what);
        let before = std::mem::replace(&mut entry.counted, next);
        if before == next {
            return;
        }
        if let Some((pool, what)) = before {
            let tally = self.tallies.entry(pool).or_default();
            let counter = tally.counter(what);
            *counter = counter.saturating_sub(1);
            if *tally == Tally::default() {
                self.tallies.remove(&pool);
            }
        }
        if let Some((pool, what)) = next {
            let counter = self.tallies.entry(pool).or_default();
            let counter = counter.counter(what);
            *counter = counter.saturating_add(1);
        }
    }

    /// Counts of a pool.
    #[must_use]
    pub fn tally(&self, pool: PoolName) -> Tally {
        self.tallies.get(&pool).copied().unwrap_or_default()
    }

    /// Puts a job into its pool's ready queue.
    pub fn queue(&mut self, uid: Uid, pool: PoolName) {
        let Some(entry) = self.jobs.get_mut(&uid) else {
            return;
        };
        if entry.ready == Some(pool) {
            return;
        }
        let (key, age) = (ReadyKey::of(&entry.job), (entry.job.spec.created, uid));
        entry.ready = Some(pool);
        self.ready.entry(pool).or_default().insert(key);
        self.ages.entry(pool).or_default().insert(age);
    }

    /// Takes it out again.
    pub fn unqueue(&mut self, uid: Uid) {
        let Some(entry) = self.jobs.get_mut(&uid) else {
            return;
        };
        let Some(pool) = entry.ready.take() else {
            return;
        };
        let (key, age) = (ReadyKey::of(&entry.job), (entry.job.spec.created, uid));
        remove_from(&mut self.ready, pool, &key);
        remove_from(&mut self.ages, pool, &age);
    }

    /// The job of a pool that is next.
    #[must_use]
    pub fn first(&self, pool: PoolName) -> Option<Uid> {
        self.ready
            .get(&pool)
            .and_then(|set| set.first())
            .map(|k| k.uid)
    }

    /// Jobs that could be claimed now.
    #[must_use]
    pub fn ready_len(&self, pool: PoolName) -> u32 {
        let len = self.ready.get(&pool).map_or(0, BTreeSet::len);
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    /// Creation of the oldest of them.
    #[must_use]
    pub fn oldest(&self, pool: PoolName) -> Option<Wall> {
        self.ages
            .get(&pool)
            .and_then(|set| set.first())
            .map(|(at, _)| *at)
    }

    /// Pools with ready jobs.
    #[must_use]
    pub fn ready_pools(&self) -> Vec<PoolName> {
        self.ready.keys().copied().collect()
    }

    /// Every ready job with its pool.
    #[must_use]
    pub fn ready_jobs(&self) -> Vec<(PoolName, Uid)> {
        let each = |(pool, keys): (&PoolName, &BTreeSet<ReadyKey>)| {
            let pool = *pool;
            keys.iter()
                .map(move |key| (pool, key.uid))
                .collect::<Vec<_>>()
        };
        self.ready.iter().flat_map(each).collect()
    }

    /// Pools with any live job.
    #[must_use]
    pub fn counted_pools(&self) -> Vec<PoolName> {
        self.tallies.keys().copied().collect()
    }

    /// Backoff jobs that come due until `until`, by pool.
    #[must_use]
    pub fn due_until(&self, until: Wall) -> BTreeMap<PoolName, u32> {
        let mut due = BTreeMap::new();
        for (_, uid) in self.alarms.range(..=(until, Uid(u128::MAX))) {
            let Some(entry) = self.jobs.get(uid) else {
                continue;
            };
            let soon = entry.job.status.phase == Phase::Backoff
                && entry.ready.is_none()
                && entry.job.status.next_attempt.is_some_and(|at| at <= until);
            if let (true, Some((pool, _))) = (soon, entry.counted) {
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

impl Tally {
    fn counter(&mut self, what: Count) -> &mut u32 {
        match what {
            Count::Queued => &mut self.queued,
            Count::Running => &mut self.running,
            Count::Suspended => &mut self.suspended,
        }
    }
}

fn remove_from<T: Ord>(sets: &mut BTreeMap<PoolName, BTreeSet<T>>, pool: PoolName, value: &T) {
    if let Some(set) = sets.get_mut(&pool) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(&pool);
        }
    }
}
