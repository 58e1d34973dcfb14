//! The ready queue of one pool: priority, then weighted fair share between tenants, then age. Beside it an aged lane for jobs
//! that waited too long, and a lane for jobs that get a worker for themselves.
//!
//! Fair share is stride scheduling: each grant moves its tenant's pass on by 1/weight, and the lowest pass is next. A tenant
//! that comes back begins where the others are, so that nobody saves up.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::ids::{Symbol, Uid};
use crate::job::Job;
use crate::policy::Fairness;
use crate::time::Wall;

/// A grant of a tenant with weight 1 moves its pass on by this.
const STRIDE: u64 = 1 << 20;
/// So many aged jobs of capped tenants are passed over before the aged lane gives up its turn.
const LOOK: usize = 64;
/// Tenants that are remembered without a waiting job.
const MAX_IDLE_TENANTS: usize = 4096;

/// Place of a job in its pool's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    since: Wall,
    tenant: Symbol,
    /// The job.
    pub uid: Uid,
}

impl Place {
    /// Of these facts. A redriven job waits since its redrive, not since its first life.
    #[must_use]
    pub fn of(job: &Job) -> Place {
        let redriven = job.status.since.filter(|_| job.status.redrives > 0);
        Place {
            since: redriven.map_or(job.spec.created, |since| since.max(job.spec.created)),
            tenant: job.spec.tenant,
            uid: job.uid,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Share {
    pass: u64,
    waiting: u32,
}

/// Which kinds of workers have a free slot now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// For any job.
    pub any: bool,
    /// A worker that holds nothing.
    pub idle: bool,
}

/// The job that is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The job.
    pub uid: Uid,
    /// Its tenant.
    pub tenant: Symbol,
    /// It gets a worker for itself.
    pub alone: bool,
}

/// Jobs of one priority, of each tenant the oldest first.
type ByTenant = BTreeMap<Symbol, BTreeSet<(Wall, Uid)>>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    lanes: BTreeMap<Reverse<i32>, ByTenant>,
    alone: BTreeSet<Place>,
    ages: BTreeSet<Place>,
    shares: BTreeMap<Symbol, Share>,
    clock: u64,
    turn: u64,
}

impl Hash for Queue {
    /// Without turns and passes: they order jobs, and no job's own course depends on them.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.lanes, &self.alone).hash(state);
    }
}

impl Queue {
    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ages.is_empty()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ages.len()
    }

    /// Since when the first has waited.
    #[must_use]
    pub fn oldest(&self) -> Option<Wall> {
        self.ages.first().map(|place| place.since)
    }

    /// Whether a job waits for a worker of its own.
    #[must_use]
    pub fn wants_idle_worker(&self) -> bool {
        !self.alone.is_empty()
    }

    /// All that wait.
    pub fn uids(&self) -> impl Iterator<Item = Uid> {
        self.ages.iter().map(|place| place.uid)
    }

    /// Puts a job in.
    pub fn insert(&mut self, job: &Job, alone: bool) {
        let place = Place::of(job);
        if !self.ages.insert(place) {
            return;
        }
        if alone {
            self.alone.insert(place);
        } else {
            let lane = self.lanes.entry(Reverse(job.spec.priority)).or_default();
            lane.entry(place.tenant)
                .or_default()
                .insert((place.since, place.uid));
        }
        let share = self.shares.entry(place.tenant).or_default();
        if share.waiting == 0 {
            share.pass = share.pass.max(self.clock);
        }
        share.waiting = share.waiting.saturating_add(1);
    }

    /// Takes a job out; `job` must be the facts that it was put in with.
    pub fn remove(&mut self, job: &Job) {
        let place = Place::of(job);
        if !self.ages.remove(&place) {
            return;
        }
        if !self.alone.remove(&place) {
            let priority = Reverse(job.spec.priority);
            if let Some(lane) = self.lanes.get_mut(&priority) {
                if let Some(jobs) = lane.get_mut(&place.tenant) {
                    jobs.remove(&(place.since, place.uid));
                    if jobs.is_empty() {
                        lane.remove(&place.tenant);
                    }
                }
                if lane.is_empty() {
                    self.lanes.remove(&priority);
                }
            }
        }
        if let Some(share) = self.shares.get_mut(&place.tenant) {
            share.waiting = share.waiting.saturating_sub(1);
        }
        if self.shares.len() > MAX_IDLE_TENANTS {
            let clock = self.clock;
            self.shares
                .retain(|_, share| share.waiting > 0 || share.pass > clock);
        }
    }

    /// The job that is next, among tenants that `may` have another call.
    pub fn pick(
        &self,
        rules: &Fairness,
        now: Wall,
        room: Room,
        may: impl Fn(Symbol) -> bool,
    ) -> Option<Ticket> {
        let aged = || self.aged(rules, now, room, &may);
        let alone = || self.first_alone(room, &may);
        let fair = || self.fair(room, &may);
        // At most every second grant is the aged lane's, and at most every fourth goes to a job that needs a worker alone.
        match self.turn % 4 {
            1 | 3 => aged().or_else(fair).or_else(alone),
            2 => alone().or_else(fair),
            _ => fair().or_else(alone),
        }
    }

    /// This job was granted: its tenant paid for it.
    pub fn granted(&mut self, ticket: Ticket, rules: &Fairness) {
        self.turn = self.turn.wrapping_add(1);
        let weight = u64::from(rules.weight(ticket.tenant).max(1));
        let lowest = self
            .shares
            .values()
            .filter(|share| share.waiting > 0)
            .map(|share| share.pass)
            .min();
        self.clock = self.clock.max(lowest.unwrap_or(self.clock));
        let share = self.shares.entry(ticket.tenant).or_default();
        share.pass = share.pass.max(self.clock).saturating_add(STRIDE / weight);
    }

    fn fair(&self, room: Room, may: &impl Fn(Symbol) -> bool) -> Option<Ticket> {
        if !room.any {
            return None;
        }
        let pass = |tenant: &Symbol| self.shares.get(tenant).map_or(0, |share| share.pass);
        self.lanes.values().find_map(|tenants| {
            let next = tenants
                .iter()
                .filter(|(tenant, _)| may(**tenant))
                .filter_map(|(tenant, jobs)| jobs.first().map(|first| (tenant, first)))
                .min_by_key(|(tenant, first)| (pass(tenant), **first))?;
            Some(Ticket {
                uid: next.1.1,
                tenant: *next.0,
                alone: false,
            })
        })
    }

    fn aged(
        &self,
        rules: &Fairness,
        now: Wall,
        room: Room,
        may: &impl Fn(Symbol) -> bool,
    ) -> Option<Ticket> {
        self.ages
            .iter()
            .take_while(|place| place.since + rules.aging <= now)
            .take(LOOK)
            .map(|place| Ticket {
                uid: place.uid,
                tenant: place.tenant,
                alone: self.alone.contains(place),
            })
            .find(|ticket| {
                let fits = if ticket.alone { room.idle } else { room.any };
                fits && may(ticket.tenant)
            })
    }

    fn first_alone(&self, room: Room, may: &impl Fn(Symbol) -> bool) -> Option<Ticket> {
        if !room.idle {
            return None;
        }
        let place = self.alone.iter().find(|place| may(place.tenant))?;
        Some(Ticket {
            uid: place.uid,
            tenant: place.tenant,
            alone: true,
        })
    }
}
