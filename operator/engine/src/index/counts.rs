//! Open jobs by pool: how many wait, run and are suspended in each, and how many wait for one that does not exist. Kept by the
//! index, so that nobody has to look for them.

use std::collections::BTreeMap;

use super::Index;
use crate::ids::{PoolName, Symbol, Uid};
use crate::job::Phase;

/// As what a job counts in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Count {
    Queued,
    Running,
    Suspended,
}

impl Count {
    fn of(phase: Phase) -> Option<Count> {
        match phase {
            Phase::Queued | Phase::Backoff => Some(Count::Queued),
            Phase::Running => Some(Count::Running),
            Phase::Suspended => Some(Count::Suspended),
            Phase::Succeeded | Phase::DeadLettered | Phase::Cancelled => None,
        }
    }
}

/// Where one job counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    /// It has ended, or neither waits nor has a pool.
    #[default]
    Nowhere,
    /// It waits, and its pool does not exist.
    WithoutPool,
    /// In this pool of its namespace.
    In(Symbol, Count),
}

impl Counted {
    fn of(phase: Phase, pool: Option<PoolName>) -> Counted {
        match (Count::of(phase), pool) {
            (Some(what), Some(pool)) => Counted::In(pool.name, what),
            (Some(Count::Queued), None) => Counted::WithoutPool,
            (Some(Count::Running | Count::Suspended), None) | (None, _) => Counted::Nowhere,
        }
    }

    pub(super) fn in_pool(self, namespace: Symbol) -> Option<(PoolName, Count)> {
        match self {
            Counted::Nowhere | Counted::WithoutPool => None,
            Counted::In(name, what) => Some((PoolName { namespace, name }, what)),
        }
    }
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

impl Tally {
    fn counter(&mut self, what: Count) -> &mut u32 {
        match what {
            Count::Queued => &mut self.queued,
            Count::Running => &mut self.running,
            Count::Suspended => &mut self.suspended,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(super) struct Counts {
    tallies: BTreeMap<PoolName, Tally>,
    /// Running jobs of each tenant.
    tenants: BTreeMap<(PoolName, Symbol), u32>,
    without_pool: u64,
}

impl Counts {
    fn add(&mut self, pool: PoolName, what: Count, tenant: Symbol) {
        if what == Count::Running {
            let running = self.tenants.entry((pool, tenant)).or_default();
            *running = running.saturating_add(1);
        }
        let counter = self.tallies.entry(pool).or_default().counter(what);
        *counter = counter.saturating_add(1);
    }

    fn take(&mut self, pool: PoolName, what: Count, tenant: Symbol) {
        if what == Count::Running {
            let left = self.tenants.remove(&(pool, tenant)).unwrap_or(0);
            if left > 1 {
                self.tenants.insert((pool, tenant), left - 1);
            }
        }
        let tally = self.tallies.entry(pool).or_default();
        let counter = tally.counter(what);
        *counter = counter.saturating_sub(1);
        if *tally == Tally::default() {
            self.tallies.remove(&pool);
        }
    }
}

impl Index {
    /// Counts a job in its pool, as what its stored phase says.
    pub fn count(&mut self, uid: Uid, pool: Option<PoolName>) {
        self.moved(uid, |phase| Counted::of(phase, pool));
    }

    /// The job goes, and counts nowhere any more.
    pub(super) fn uncount(&mut self, uid: Uid) {
        self.moved(uid, |_| Counted::Nowhere);
    }

    fn moved(&mut self, uid: Uid, next: impl FnOnce(Phase) -> Counted) {
        let Some(entry) = self.jobs.get_mut(&uid) else {
            return;
        };
        let next = next(entry.facts.phase());
        let before = std::mem::replace(&mut entry.counted, next);
        if before == next {
            return;
        }
        let (tenant, namespace) = (entry.facts.tenant(), entry.facts.namespace());
        let counts = &mut self.counts;
        if before == Counted::WithoutPool {
            counts.without_pool = counts.without_pool.saturating_sub(1);
        }
        if next == Counted::WithoutPool {
            counts.without_pool += 1;
        }
        if let Some((pool, what)) = before.in_pool(namespace) {
            counts.take(pool, what, tenant);
        }
        if let Some((pool, what)) = next.in_pool(namespace) {
            counts.add(pool, what, tenant);
        }
    }

    /// Counts of a pool.
    #[must_use]
    pub fn tally(&self, pool: PoolName) -> Tally {
        self.counts.tallies.get(&pool).copied().unwrap_or_default()
    }

    /// Running jobs of a tenant in a pool.
    #[must_use]
    pub fn running_of(&self, pool: PoolName, tenant: Symbol) -> u32 {
        let running = self.counts.tenants.get(&(pool, tenant));
        running.copied().unwrap_or(0)
    }

    /// Pools with any live job.
    #[must_use]
    pub fn counted_pools(&self) -> Vec<PoolName> {
        self.counts.tallies.keys().copied().collect()
    }

    /// Jobs that wait for a pool that does not exist.
    #[must_use]
    pub fn without_pool(&self) -> u64 {
        self.counts.without_pool
    }
}
