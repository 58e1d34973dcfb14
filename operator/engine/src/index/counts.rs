//! Open jobs by pool: how many wait, run and are suspended in each, and how many wait for one that does not exist. Kept by the
//! index, so that nobody has to look for them.

use std::collections::BTreeMap;

use super::{Entry, Index};
use crate::ids::{PoolName, Symbol, Uid};
use crate::job::Phase;

/// As what a job counts in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Count {
    Queued,
    /// Claimed, and its pod has not been given its call.
    Awaiting,
    Running,
    Suspended,
}

impl Count {
    fn of(phase: Phase, begun: bool) -> Option<Count> {
        match phase {
            Phase::Queued | Phase::Backoff => Some(Count::Queued),
            Phase::Running if begun => Some(Count::Running),
            Phase::Running => Some(Count::Awaiting),
            Phase::Suspended => Some(Count::Suspended),
            Phase::Succeeded | Phase::DeadLettered | Phase::Cancelled => None,
        }
    }

    fn is_claimed(self) -> bool {
        matches!(self, Count::Awaiting | Count::Running)
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
    fn of(phase: Phase, begun: bool, pool: Option<PoolName>) -> Counted {
        match (Count::of(phase, begun), pool) {
            (Some(what), Some(pool)) => Counted::In(pool.name, what),
            (Some(Count::Queued), None) => Counted::WithoutPool,
            (Some(Count::Awaiting | Count::Running | Count::Suspended), None) | (None, _) => {
                Counted::Nowhere
            }
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
    /// Running, those among them that wait for their pods too.
    pub running: u32,
    /// Running, and given to a worker.
    pub begun: u32,
    /// Suspended.
    pub suspended: u32,
}

impl Tally {
    fn change(&mut self, what: Count, change: impl Fn(u32, u32) -> u32) {
        let counter = match what {
            Count::Queued => &mut self.queued,
            Count::Awaiting | Count::Running => &mut self.running,
            Count::Suspended => &mut self.suspended,
        };
        *counter = change(*counter, 1);
        if what == Count::Running {
            self.begun = change(self.begun, 1);
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
        if what.is_claimed() {
            let running = self.tenants.entry((pool, tenant)).or_default();
            *running = running.saturating_add(1);
        }
        let tally = self.tallies.entry(pool).or_default();
        tally.change(what, u32::saturating_add);
    }

    fn take(&mut self, pool: PoolName, what: Count, tenant: Symbol) {
        if what.is_claimed() {
            let left = self.tenants.remove(&(pool, tenant)).unwrap_or(0);
            if left > 1 {
                self.tenants.insert((pool, tenant), left - 1);
            }
        }
        let tally = self.tallies.entry(pool).or_default();
        tally.change(what, u32::saturating_sub);
        if *tally == Tally::default() {
            self.tallies.remove(&pool);
        }
    }
}

impl Index {
    /// Counts a job in its pool, as what its stored phase says. `begun`: a running one that is, or is being, given to a worker.
    pub fn count(&mut self, uid: Uid, pool: Option<PoolName>, begun: bool) {
        self.moved(uid, |phase| Counted::of(phase, begun, pool));
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

    /// Whether this job is one of those that run in a pool.
    #[must_use]
    pub fn runs_in(&self, uid: Uid, pool: PoolName) -> bool {
        let counted = |entry: &Entry| entry.counted.in_pool(entry.facts.namespace());
        let counts = self.jobs.get(&uid).and_then(|entry| counted(entry));
        counts.is_some_and(|(name, what)| name == pool && what.is_claimed())
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
