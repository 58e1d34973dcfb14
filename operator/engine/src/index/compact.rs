//! The facts of one job as the index keeps them: the same, in about half of the space.
//!
//! Options are flags beside plain values, and what few jobs have lies in a box of its own. Packing loses nothing: what comes
//! out is what went in, which a property test holds for every job there can be.

use std::time::Duration;

use super::crowd::Kind;
use crate::ids::{Rv, Symbol, Uid};
use crate::job::{Job, Phase, Reason, Spec, Status};
use crate::time::Wall;

/// See the module. Its uid is the key of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Compact {
    worker: Uid,
    rv: Rv,
    generation: i64,
    observed: i64,
    created: Wall,
    next_attempt: Wall,
    started: Wall,
    finished: Wall,
    since: Wall,
    mode_since: Wall,
    active: Duration,
    ttl: Duration,
    rare: Option<Box<Rare>>,
    namespace: Symbol,
    pool: Symbol,
    tenant: Symbol,
    priority: i32,
    claimed_pool: Symbol,
    attempt: u32,
    failures: u32,
    interruptions: u32,
    redrives: u32,
    rejections: u32,
    uncharged: u32,
    flags: u16,
    phase: Phase,
    reason: Reason,
}

/// What few jobs have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Rare {
    max_failures: Option<u32>,
    start_deadline: Option<Duration>,
    active_deadline: Option<Duration>,
    ghosts: Vec<Wall>,
    redriven_by: Option<Uid>,
}

/// Bits of `flags`: options that are there, and what is true.
mod flag {
    pub(super) const WORKER: u16 = 1;
    pub(super) const NEXT_ATTEMPT: u16 = 1 << 1;
    pub(super) const STARTED: u16 = 1 << 2;
    pub(super) const FINISHED: u16 = 1 << 3;
    pub(super) const SINCE: u16 = 1 << 4;
    pub(super) const MODE_SINCE: u16 = 1 << 5;
    pub(super) const TTL: u16 = 1 << 6;
    pub(super) const POOL: u16 = 1 << 7;
    pub(super) const CLAIMED_POOL: u16 = 1 << 8;
    pub(super) const SUSPEND: u16 = 1 << 9;
    pub(super) const CANCEL: u16 = 1 << 10;
    pub(super) const DECLARED: u16 = 1 << 11;
    pub(super) const LATE: u16 = 1 << 12;
    pub(super) const OWN_SOURCE: u16 = 1 << 13;
}

/// Collects flags while the options they stand for are taken apart.
struct Flags(u16);

impl Flags {
    fn option<T: Default>(&mut self, bit: u16, value: Option<T>) -> T {
        self.bit(bit, value.is_some());
        value.unwrap_or_default()
    }

    fn bit(&mut self, bit: u16, set: bool) {
        if set {
            self.0 |= bit;
        }
    }
}

impl Compact {
    pub(super) fn pack(job: Job) -> Compact {
        // Taken apart without `..`: a new fact must find its place here.
        let Job {
            uid: _,
            rv,
            generation,
            spec,
            status,
        } = job;
        let Spec {
            namespace,
            pool,
            tenant,
            priority,
            max_failures,
            start_deadline,
            active_deadline,
            ttl,
            suspend,
            cancel,
            declared,
            late,
            own_source,
            created,
        } = spec;
        let Status {
            observed,
            phase,
            reason,
            attempt,
            worker,
            pool: claimed_pool,
            failures,
            interruptions,
            redrives,
            rejections,
            uncharged,
            next_attempt,
            started,
            finished,
            active,
            ghosts,
            since,
            mode_since,
            redriven_by,
        } = status;
        let rare = Rare {
            max_failures,
            start_deadline,
            active_deadline,
            ghosts,
            redriven_by,
        };
        let mut flags = Flags(0);
        for (bit, set) in [
            (flag::SUSPEND, suspend),
            (flag::CANCEL, cancel),
            (flag::DECLARED, declared),
            (flag::LATE, late),
            (flag::OWN_SOURCE, own_source),
        ] {
            flags.bit(bit, set);
        }
        Compact {
            worker: flags.option(flag::WORKER, worker),
            rv,
            generation,
            observed,
            created,
            next_attempt: flags.option(flag::NEXT_ATTEMPT, next_attempt),
            started: flags.option(flag::STARTED, started),
            finished: flags.option(flag::FINISHED, finished),
            since: flags.option(flag::SINCE, since),
            mode_since: flags.option(flag::MODE_SINCE, mode_since),
            active,
            ttl: flags.option(flag::TTL, ttl),
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
            namespace,
            pool: flags.option(flag::POOL, pool),
            tenant,
            priority,
            claimed_pool: flags.option(flag::CLAIMED_POOL, claimed_pool),
            attempt,
            failures,
            interruptions,
            redrives,
            rejections,
            uncharged,
            flags: flags.0,
            phase,
            reason,
        }
    }

    pub(super) fn unpack(&self, uid: Uid) -> Job {
        let Rare {
            max_failures,
            start_deadline,
            active_deadline,
            ghosts,
            redriven_by,
        } = self.rare.as_deref().cloned().unwrap_or_default();
        Job {
            uid,
            rv: self.rv,
            generation: self.generation,
            spec: Spec {
                namespace: self.namespace,
                pool: self.option(flag::POOL, self.pool),
                tenant: self.tenant,
                priority: self.priority,
                max_failures,
                start_deadline,
                active_deadline,
                ttl: self.option(flag::TTL, self.ttl),
                suspend: self.has(flag::SUSPEND),
                cancel: self.has(flag::CANCEL),
                declared: self.has(flag::DECLARED),
                late: self.has(flag::LATE),
                own_source: self.has(flag::OWN_SOURCE),
                created: self.created,
            },
            status: Status {
                observed: self.observed,
                phase: self.phase,
                reason: self.reason,
                attempt: self.attempt,
                worker: self.option(flag::WORKER, self.worker),
                pool: self.option(flag::CLAIMED_POOL, self.claimed_pool),
                failures: self.failures,
                interruptions: self.interruptions,
                redrives: self.redrives,
                rejections: self.rejections,
                uncharged: self.uncharged,
                next_attempt: self.option(flag::NEXT_ATTEMPT, self.next_attempt),
                started: self.option(flag::STARTED, self.started),
                finished: self.option(flag::FINISHED, self.finished),
                active: self.active,
                ghosts,
                since: self.option(flag::SINCE, self.since),
                mode_since: self.option(flag::MODE_SINCE, self.mode_since),
                redriven_by,
            },
        }
    }

    /// Whether it is the job of an upload, and has not ended.
    pub(super) fn is_open_upload(&self) -> bool {
        !self.phase().is_final() && !self.has(flag::DECLARED)
    }

    fn has(&self, bit: u16) -> bool {
        self.flags & bit != 0
    }

    fn option<T>(&self, bit: u16, value: T) -> Option<T> {
        self.has(bit).then_some(value)
    }

    pub(super) fn rv(&self) -> Rv {
        self.rv
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn tenant(&self) -> Symbol {
        self.tenant
    }

    pub(super) fn namespace(&self) -> Symbol {
        self.namespace
    }

    pub(super) fn redrives(&self) -> u32 {
        self.redrives
    }

    pub(super) fn next_attempt(&self) -> Option<Wall> {
        self.option(flag::NEXT_ATTEMPT, self.next_attempt)
    }

    pub(super) fn finished(&self) -> Option<Wall> {
        self.option(flag::FINISHED, self.finished)
    }

    /// How and when the job of an upload ended.
    pub(super) fn ended(&self) -> Option<(Kind, Wall)> {
        let kind = match self.phase {
            Phase::Succeeded | Phase::Cancelled => Kind::Finished,
            Phase::DeadLettered => Kind::DeadLetter,
            Phase::Queued | Phase::Running | Phase::Backoff | Phase::Suspended => return None,
        };
        let at = self.option(flag::FINISHED, self.finished)?;
        (!self.has(flag::DECLARED)).then_some((kind, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    fn wall() -> impl Strategy<Value = Wall> {
        any::<i64>().prop_map(Wall)
    }

    fn symbol() -> impl Strategy<Value = Symbol> {
        any::<u32>().prop_map(Symbol)
    }

    fn uid() -> impl Strategy<Value = Uid> {
        any::<u128>().prop_map(Uid)
    }

    prop_compose! {
        fn any_spec()(
            (namespace, tenant, pool) in (symbol(), symbol(), option::of(symbol())),
            (priority, max_failures) in (any::<i32>(), option::of(any::<u32>())),
            deadlines in (option::of(any::<Duration>()), option::of(any::<Duration>())),
            (ttl, created) in (option::of(any::<Duration>()), wall()),
            bits in any::<[bool; 5]>(),
        ) -> Spec {
            let [suspend, cancel, declared, late, own_source] = bits;
            Spec {
                namespace, pool, tenant, priority, max_failures,
                start_deadline: deadlines.0,
                active_deadline: deadlines.1,
                ttl, suspend, cancel, declared, late, own_source, created,
            }
        }
    }

    prop_compose! {
        fn any_status()(
            (observed, attempt) in (any::<i64>(), any::<u32>()),
            phase in prop::sample::select(vec![
                Phase::Queued, Phase::Running, Phase::Backoff, Phase::Suspended,
                Phase::Succeeded, Phase::DeadLettered, Phase::Cancelled,
            ]),
            reason in prop::sample::select(vec![Reason::Queued, Reason::Poison, Reason::Cancelled]),
            (worker, pool, redriven_by) in (option::of(uid()), option::of(symbol()), option::of(uid())),
            counts in any::<[u32; 5]>(),
            times in prop::array::uniform5(option::of(wall())),
            (active, ghosts) in (any::<Duration>(), prop::collection::vec(wall(), 0..9)),
        ) -> Status {
            let [failures, interruptions, redrives, rejections, uncharged] = counts;
            let [next_attempt, started, finished, since, mode_since] = times;
            Status {
                observed, phase, reason, attempt, worker, pool,
                failures, interruptions, redrives, rejections, uncharged,
                next_attempt, started, finished, active, ghosts, since, mode_since, redriven_by,
            }
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(
            uid in uid(),
            (rv, generation) in (any::<u64>(), any::<i64>()),
            (spec, status) in (any_spec(), any_status()),
        ) {
            let job = Job { uid, rv: Rv(rv), generation, spec, status };
            let kept = Compact::pack(job.clone());
            prop_assert_eq!(kept.unpack(uid), job);
        }
    }
}
