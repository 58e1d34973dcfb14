//! The ready queue of one pool: priority, then weighted fair share between tenants, then age. Beside it an aged lane for jobs
//! that waited too long, and a lane for jobs that get a worker for themselves.
//!
//! Fair share is start-time fair queueing within each priority: each grant moves its tenant's pass on by 1/weight, and the
//! lowest pass is next. The clock is the pass of whoever was served last, so a tenant that comes, or that was held back by its
//! cap, begins where the others are: nobody saves up, and nobody who may not be served holds the clock back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::ids::{Symbol, Uid};
use crate::job::Job;
use crate::policy::Fairness;
use crate::time::Wall;

/// A grant of a tenant with weight 1 moves its pass on by this.
const STRIDE: u64 = 1 << 20;
/// Of each four grants this one goes to a job that needs a worker for itself, if there is one.
const ALONE_TURN: u64 = 2;
/// So many aged jobs are looked at one by one, before the oldest of each tenant are.
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
    priority: i32,
}

impl Place {
    /// Of these facts. A redriven job waits since its redrive, not since its first life; one that was held since it was made,
    /// since it was let go.
    #[must_use]
    pub fn of(job: &Job) -> Place {
        let status = &job.status;
        let began = match (status.redrives, status.attempt) {
            // The first status of a job that was not held has one time for both.
            (0, 0) => status.mode_since.filter(|at| Some(*at) != status.since),
            (0, _) => None,
            _ => status.since,
        };
        Place {
            since: began.map_or(job.spec.created, |since| since.max(job.spec.created)),
            tenant: job.spec.tenant,
            uid: job.uid,
            priority: job.spec.priority,
        }
    }

    fn ticket(self, alone: bool, by_share: bool) -> Ticket {
        Ticket {
            uid: self.uid,
            tenant: self.tenant,
            alone,
            by_share,
            priority: self.priority,
        }
    }
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
    /// It was its tenant's turn, and not the job's age or kind.
    by_share: bool,
    priority: i32,
}

/// The jobs of one priority, and whose turn it is.
#[derive(Clone, Debug, Default, PartialEq)]
struct Lane {
    /// Of each tenant the oldest first; no tenant without a job.
    jobs: BTreeMap<Symbol, BTreeSet<Place>>,
    passes: BTreeMap<Symbol, u64>,
    clock: u64,
}

impl Lane {
    fn insert(&mut self, place: Place) {
        let jobs = self.jobs.entry(place.tenant).or_default();
        if jobs.is_empty() {
            let pass = self.passes.entry(place.tenant).or_default();
            *pass = self.clock.max(*pass);
        }
        jobs.insert(place);
    }

    fn remove(&mut self, place: Place) {
        if let Some(jobs) = self.jobs.get_mut(&place.tenant) {
            jobs.remove(&place);
            if jobs.is_empty() {
                self.jobs.remove(&place.tenant);
            }
        }
        if self.passes.len() > self.jobs.len() + MAX_IDLE_TENANTS {
            let (jobs, clock) = (&self.jobs, self.clock);
            self.passes
                .retain(|tenant, pass| *pass > clock || jobs.contains_key(tenant));
        }
    }

    fn pass(&self, tenant: Symbol) -> u64 {
        self.passes.get(&tenant).copied().unwrap_or_default()
    }

    fn next(&self, may: &impl Fn(Symbol) -> bool) -> Option<Place> {
        self.jobs
            .iter()
            .filter(|(tenant, _)| may(**tenant))
            .filter_map(|(_, jobs)| jobs.first().copied())
            .min_by_key(|first| (self.pass(first.tenant), *first))
    }

    fn oldest(&self, may: &impl Fn(Symbol) -> bool) -> Option<Place> {
        let tenants = self.jobs.iter().filter(|(tenant, _)| may(**tenant));
        tenants.filter_map(|(_, jobs)| jobs.first().copied()).min()
    }

    fn charge(&mut self, ticket: Ticket, weight: u32) {
        let pass = self.pass(ticket.tenant);
        if ticket.by_share {
            self.clock = self.clock.max(pass);
        }
        let next = pass
            .max(self.clock)
            .saturating_add(STRIDE / u64::from(weight.max(1)));
        self.passes.insert(ticket.tenant, next);
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    /// None without a job.
    lanes: BTreeMap<Reverse<i32>, Lane>,
    alone: BTreeSet<Place>,
    ages: BTreeSet<Place>,
    turn: u64,
}

impl Hash for Queue {
    /// Without turns and passes: they order jobs, and no job's own course depends on them.
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (priority, lane) in &self.lanes {
            (priority, &lane.jobs).hash(state);
        }
        self.alone.hash(state);
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

    /// The tenant of the first job that waits for a worker of its own, among those that `may` have another call.
    #[must_use]
    pub fn suspect_of(&self, may: impl Fn(Symbol) -> bool) -> Option<Symbol> {
        let mut all = self.alone.iter().map(|place| place.tenant);
        all.find(|tenant| may(*tenant))
    }

    /// Whether the next grant is for a job that needs a worker for itself: of each four at most one is.
    #[must_use]
    pub fn is_turn_of_alone(&self) -> bool {
        self.turn % 4 == ALONE_TURN
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
            let lane = self.lanes.entry(Reverse(place.priority)).or_default();
            lane.insert(place);
        }
    }

    /// Takes a job out; `job` must be the facts that it was put in with.
    pub fn remove(&mut self, job: &Job) {
        let place = Place::of(job);
        if !self.ages.remove(&place) {
            return;
        }
        if !self.alone.remove(&place) {
            let priority = Reverse(place.priority);
            if let Some(lane) = self.lanes.get_mut(&priority) {
                lane.remove(place);
                if lane.jobs.is_empty() {
                    self.lanes.remove(&priority);
                }
            }
        }
    }

    /// The job that is next, among tenants that `may` have another call: one with others (false), or alone on its worker (true).
    pub fn pick(
        &self,
        rules: &Fairness,
        now: Wall,
        room: Room,
        may: impl Fn(Symbol, bool) -> bool,
    ) -> Option<Ticket> {
        let aged = || self.aged(rules, now, room, &may);
        let alone = || Some(self.first_alone(room, &may)?.ticket(true, false));
        let fair = || self.fair(room, &may);
        // At most every second grant is the aged lane's, and at most every fourth goes to a job that needs a worker alone.
        match self.turn % 4 {
            1 | 3 => aged().or_else(fair).or_else(alone),
            ALONE_TURN => alone().or_else(fair),
            _ => fair().or_else(alone),
        }
    }

    /// This job was granted: its tenant paid for it.
    pub fn granted(&mut self, ticket: Ticket, rules: &Fairness) {
        self.turn = self.turn.wrapping_add(1);
        if let Some(lane) = self.lanes.get_mut(&Reverse(ticket.priority)) {
            lane.charge(ticket, rules.weight(ticket.tenant));
        }
    }

    fn fair(&self, room: Room, may: &impl Fn(Symbol, bool) -> bool) -> Option<Ticket> {
        if !room.any {
            return None;
        }
        let may = |tenant: Symbol| may(tenant, false);
        let next = self.lanes.values().find_map(|lane| lane.next(&may))?;
        Some(next.ticket(false, true))
    }

    fn aged(
        &self,
        rules: &Fairness,
        now: Wall,
        room: Room,
        may: &impl Fn(Symbol, bool) -> bool,
    ) -> Option<Ticket> {
        let is_aged = |place: &Place| place.since + rules.aging <= now;
        let mut all = self.ages.iter().take_while(|place| is_aged(place));
        let fits = |place: &&Place| {
            let alone = self.alone.contains(place);
            (if alone { room.idle } else { room.any }) && may(place.tenant, alone)
        };
        if let Some(place) = all.by_ref().take(LOOK).find(fits) {
            return Some(place.ticket(self.alone.contains(place), false));
        }
        // Others may wait behind a backlog of capped tenants.
        all.next()?;
        let lanes = self.lanes.values().filter(|_| room.any);
        let with_others = |tenant: Symbol| may(tenant, false);
        let any = lanes.filter_map(|lane| lane.oldest(&with_others)).min();
        let alone = self.first_alone(room, may).map(|place| (place, true));
        let (oldest, alone) = any
            .map(|place| (place, false))
            .into_iter()
            .chain(alone)
            .min()?;
        is_aged(&oldest).then(|| oldest.ticket(alone, false))
    }

    fn first_alone(&self, room: Room, may: &impl Fn(Symbol, bool) -> bool) -> Option<Place> {
        let mut all = self.alone.iter().filter(|_| room.idle);
        all.find(|place| may(place.tenant, true)).copied()
    }
}
