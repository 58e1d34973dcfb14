//! The invariants, held against what really happened at every write, every message and every decision.

use std::sync::Arc;

use kinora_engine::action::{Cause, ToWorker};
use kinora_engine::job::machine::is_legal;
use kinora_engine::outcome::{Class, Fact};
use kinora_engine::*;
use stateright::Property;

use crate::state::{Documents, Hand, State, pod_uid, slot};
use crate::world::{LIMIT, Model, World};

/// Invariants that did not hold on the way to a state, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Broken(u16);

/// The invariants, as far as the engine alone can break them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invariant {
    Loss,
    Attempts,
    Fence,
    Ends,
    Budgets,
    OneResult,
    Ghosts,
    LiveWorkers,
    Stuck,
    Wishes,
    Pods,
}

pub(crate) const ALL: [(Invariant, &str); 11] = [
    (
        Invariant::Loss,
        "I1: a job leaves etcd and active/ only when its record is there",
    ),
    (
        Invariant::Attempts,
        "I2: an attempt rises by one, is claimed once, and is leased after its claim is stored",
    ),
    (
        Invariant::Fence,
        "I3: only the holder's report ends an attempt, and no verdict goes out before it is true",
    ),
    (Invariant::Ends, "I4: ends are absorbing"),
    (
        Invariant::Budgets,
        "I5: only a failure is charged as one, once; only a death as an interruption",
    ),
    (
        Invariant::OneResult,
        "I6: at most one result is accepted, however many lead",
    ),
    (
        Invariant::Ghosts,
        "I7: a call that may still run keeps its permit",
    ),
    (
        Invariant::LiveWorkers,
        "T10: a worker that is heard keeps its attempts",
    ),
    (
        Invariant::Stuck,
        "I11: without further faults every job ends and every report is acknowledged",
    ),
    (
        Invariant::Wishes,
        "T6: what its author cancelled or holds is not claimed",
    ),
    (
        Invariant::Pods,
        "I2: the pod of an attempt is made once, after its claim is stored, and is its only holder",
    ),
];

impl Broken {
    pub(crate) fn note(&mut self, invariant: Invariant) {
        self.0 |= 1 << invariant as u16;
    }

    pub(crate) fn has(self, invariant: Invariant) -> bool {
        self.0 & (1 << invariant as u16) != 0
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        let broken = ALL.iter().filter(|(it, _)| self.has(*it));
        broken.map(|(_, name)| *name).collect()
    }

    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }
}

/// The properties for the checker.
pub(crate) fn properties() -> Vec<Property<Model>> {
    fn holds<const N: usize>(_: &Model, state: &State) -> bool {
        !state.broken.has(ALL[N].0)
    }
    vec![
        Property::always(ALL[0].1, holds::<0>),
        Property::always(ALL[1].1, holds::<1>),
        Property::always(ALL[2].1, holds::<2>),
        Property::always(ALL[3].1, holds::<3>),
        Property::always(ALL[4].1, holds::<4>),
        Property::always(ALL[5].1, holds::<5>),
        Property::always(ALL[6].1, holds::<6>),
        Property::always(ALL[7].1, holds::<7>),
        Property::always(ALL[8].1, holds::<8>),
        Property::always(ALL[9].1, holds::<9>),
        Property::always(ALL[10].1, holds::<10>),
    ]
}

impl World<'_> {
    /// A status is about to be stored over another.
    pub(crate) fn check_write(&mut self, uid: Uid, old: &Status, new: &Status) {
        let legal = is_legal(old, new);
        if new.attempt != old.attempt {
            self.check_claim(uid, old, new);
        } else if !legal {
            self.s.broken.note(Invariant::Ends);
        }
        if new.redrives != old.redrives {
            return self.check_redrive(uid, new);
        }
        if old.phase.is_final() && new.phase != old.phase {
            self.s.broken.note(Invariant::Ends);
        }
        if old.phase == Phase::Running && old.worker.is_none() {
            self.check_holder(uid, old, new);
        }
        self.check_charges(uid, old, new);
        if old.phase == Phase::Running {
            self.check_end(uid, old, new);
        } else if new.phase == Phase::Succeeded && old.phase != Phase::Succeeded {
            self.s.broken.note(Invariant::Fence);
        }
    }

    fn check_claim(&mut self, uid: Uid, old: &Status, new: &Status) {
        let id = AttemptId {
            job: uid,
            attempt: new.attempt,
        };
        let worker = new.worker.map_or(0, |w| w.0);
        let wish = self
            .s
            .job(uid)
            .map(|job| (job.spec.cancel, job.spec.suspend));
        if wish.is_some_and(|(cancel, suspend)| cancel || suspend) {
            self.s.broken.note(Invariant::Wishes);
        }
        let record = self.s.store[slot(uid)].record;
        if record.is_some_and(|redrives| redrives >= new.redrives) {
            // It has ended before.
            self.s.broken.note(Invariant::Ends);
        }
        let taken = self.s.truth.claims.contains_key(&id);
        if taken || !is_legal(old, new) {
            self.s.broken.note(Invariant::Attempts);
        }
        self.truth().claims.entry(id).or_insert(worker);
    }

    /// A dead letter comes back: once for one request, and only after the store knows.
    fn check_redrive(&mut self, uid: Uid, new: &Status) {
        if !self.s.store[slot(uid)].active {
            self.s.broken.note(Invariant::Loss);
        }
        let by = new.redriven_by.unwrap_or_default();
        if !self.truth().redriven.insert((uid, by)) {
            self.s.broken.note(Invariant::Ends);
        }
    }

    /// A claim that waited for its pod gets a holder, or is over.
    fn check_holder(&mut self, uid: Uid, old: &Status, new: &Status) {
        let id = AttemptId {
            job: uid,
            attempt: old.attempt,
        };
        if new.phase == Phase::Succeeded {
            self.s.broken.note(Invariant::Fence);
        }
        let holder = new
            .worker
            .filter(|_| new.attempt == old.attempt && new.phase == Phase::Running);
        if let Some(worker) = holder {
            if worker != pod_uid(id) {
                self.s.broken.note(Invariant::Pods);
            }
            self.truth().claims.insert(id, worker.0);
        }
    }

    fn check_charges(&mut self, uid: Uid, old: &Status, new: &Status) {
        let id = AttemptId {
            job: uid,
            attempt: old.attempt,
        };
        let overdue = old
            .started
            .is_some_and(|at| at + LIMIT <= self.now().wall.ceil_second());
        let failure =
            |((of, _), fact): (&(AttemptId, u128), &Fact)| *of == id && *fact == Fact::Grpc(13);
        let may_fail = self.s.truth.reported.iter().any(failure) || overdue;
        let truth = &self.s.truth;
        let may_interrupt = truth.died.contains(&id) || truth.unread.contains(&id);
        let was_running = old.phase == Phase::Running;
        let failed = new.failures != old.failures;
        let interrupted = new.interruptions != old.interruptions;
        let allowed = |changed: bool, may: bool, new: u32, old: u32| {
            !changed || (may && was_running && new == old + 1)
        };
        // Proved after the verdict Lost: added by whichever write comes next, and never more than there were deaths.
        let deaths = truth.died.union(&truth.unread).filter(|id| id.job == uid);
        let late = new.interruptions >= old.interruptions
            && usize::try_from(new.interruptions).is_ok_and(|n| n <= deaths.count());
        let in_time = allowed(
            interrupted,
            may_interrupt,
            new.interruptions,
            old.interruptions,
        );
        if !allowed(failed, may_fail, new.failures, old.failures) || !(in_time || late) {
            self.s.broken.note(Invariant::Budgets);
        }
        let buried = new.phase == Phase::DeadLettered && old.phase != Phase::DeadLettered;
        let earned = match new.reason {
            Reason::FailuresExhausted => new.failures >= self.model.failures,
            Reason::Poison => new.interruptions >= 2,
            _ => false,
        };
        if buried && !earned {
            self.s.broken.note(Invariant::Budgets);
        }
    }

    /// A running attempt ends.
    fn check_end(&mut self, uid: Uid, old: &Status, new: &Status) {
        let (Some(worker), id) = (
            old.worker,
            AttemptId {
                job: uid,
                attempt: old.attempt,
            },
        ) else {
            return;
        };
        let still = new.phase == Phase::Running && new.attempt == old.attempt;
        if still {
            return;
        }
        let fact = self.s.truth.reported.get(&(id, worker.0)).copied();
        let succeeded = new.phase == Phase::Succeeded;
        let taken = new.attempt == old.attempt
            && new.worker == Some(worker)
            && new.phase != Phase::Cancelled;
        if (taken && fact.is_none()) || (succeeded && fact != Some(Fact::Succeeded)) {
            self.s.broken.note(Invariant::Fence);
        }
        if taken {
            if succeeded && !self.truth().results.insert(uid) {
                self.s.broken.note(Invariant::OneResult);
            }
            self.truth().accepted.insert((id, worker.0));
            return;
        }
        let calls = self
            .s
            .hand(worker.0)
            .is_some_and(|hand| hand.held.contains(&id));
        let until = old.started.map(|at| (at + LIMIT).ceil_second());
        let over = until.is_none_or(|until| until <= self.now().wall);
        let kept = until.is_some_and(|until| new.ghosts.contains(&until));
        if calls && !over && !kept {
            self.s.broken.note(Invariant::Ghosts);
        }
    }

    /// A message leaves for a worker.
    pub(crate) fn check_message(&mut self, worker: u128, message: ToWorker) {
        match message {
            ToWorker::Lease(id) => {
                if self.s.truth.claims.get(&id) != Some(&worker) {
                    self.s.broken.note(Invariant::Attempts);
                }
            }
            ToWorker::Ack(id, true) => {
                if !self.s.truth.accepted.contains(&(id, worker)) {
                    self.s.broken.note(Invariant::Fence);
                }
            }
            ToWorker::Ack(id, false) | ToWorker::Cancel(id) => {
                if self.s.runs(id, worker) {
                    self.s.broken.note(Invariant::Fence);
                }
            }
            ToWorker::Beat(_) | ToWorker::Drain => {}
        }
    }

    /// A replica decided to give an attempt up: not if its worker has it, on a stream that never failed.
    pub(crate) fn check_verdict(
        &mut self,
        replica: usize,
        (uid, before, cause): (Uid, &Status, Cause),
        hands: &[Arc<Hand>; 2],
    ) {
        let given_up = matches!(
            cause,
            Cause::Ended(Class::Lost) | Cause::Reclaimed(Class::Lost)
        );
        let Some(worker) = before.worker.filter(|_| given_up) else {
            return;
        };
        let id = AttemptId {
            job: uid,
            attempt: before.attempt,
        };
        let live = hands.iter().filter(|h| h.uid == worker.0).any(|hand| {
            let line = hand.line.as_ref();
            let sure = line.is_some_and(|line| {
                line.replica == replica && !line.mute && line.sure.contains(&id)
            });
            sure && hand.has(id)
        });
        if live {
            self.s.broken.note(Invariant::LiveWorkers);
        }
    }

    pub(crate) fn check_delete(&mut self, job: &Job) {
        let documents = &self.s.store[slot(job.uid)];
        let covered = documents.record.is_some_and(|r| r >= job.status.redrives);
        // After a step back what has its record goes unrun.
        if !covered || !(job.status.phase.is_final() || self.model.rewound) {
            self.s.broken.note(Invariant::Loss);
        }
    }

    pub(crate) fn check_store(&mut self, uid: Uid) {
        let Documents { record, active } = self.s.store[slot(uid)];
        if record.is_none() && !active {
            self.s.broken.note(Invariant::Loss);
        }
    }
}

/// The name of the property of an invariant.
pub(crate) fn name_of(invariant: Invariant) -> &'static str {
    let found = ALL.iter().find(|(it, _)| *it == invariant);
    found.map_or("", |(_, name)| name)
}
