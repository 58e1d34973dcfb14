//! What the API server says of the workers' pods, and what the pools controller asks.

use rand::RngCore;

use super::Engine;
use crate::action::{Action, CloseReason, ToWorker};
use crate::ids::{AttemptId, Uid};
use crate::time::{Now, Wall};
use crate::workers::{SILENCE, Worker};

impl Engine {
    pub(super) fn on_pod_draining(&mut self, worker: Uid) {
        self.workers.doom(worker);
        self.ask_to_leave(worker);
    }

    /// Nobody takes it away any more.
    pub(super) fn on_pod_stays(&mut self, worker: Uid, now: Now) {
        self.recall(worker, |w| &mut w.doomed, now);
        self.dirty
            .extend(self.workers.get(worker).and_then(|w| w.pool));
    }

    /// Scale-down is about to take this worker's pod away.
    pub(super) fn on_drain(&mut self, worker: Uid) {
        self.workers.update(worker, |w| w.dismissed = true);
        self.ask_to_leave(worker);
    }

    /// A worker that has to go is told so, once on each of its streams: it refuses whatever lease may still come.
    pub(super) fn ask_to_leave(&mut self, worker: Uid) {
        let untold = self
            .workers
            .update(worker, Worker::take_farewell)
            .unwrap_or(false);
        if untold {
            self.send(worker, ToWorker::Drain);
        }
    }

    /// No process of this pod is left.
    pub(super) fn on_pod_gone(
        &mut self,
        worker: Uid,
        by_itself: bool,
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        let by_itself = by_itself && !self.workers.get(worker).is_some_and(|w| w.doomed);
        let pool = self.workers.get(worker).and_then(|w| w.pool);
        for attempt in self.late.of(worker, Wall(i64::MAX)) {
            self.prove_late(worker, attempt, by_itself, now, rng);
        }
        let (leases, session) = self.workers.bury(worker, now.mono);
        if let Some(session) = session {
            let why = CloseReason::Replaced;
            self.out.push(Action::Close { session, why });
        }
        for attempt in leases {
            self.died(worker, attempt, by_itself, now, rng);
        }
        self.on_attempt_pod_gone(worker, now, rng);
        self.dirty.extend(pool);
    }

    /// The container that ran until `finished` is over; what was claimed later is its successor's.
    pub(super) fn on_container_ended(
        &mut self,
        worker: Uid,
        finished: Wall,
        by_itself: bool,
        now: Now,
        rng: &mut dyn RngCore,
    ) {
        let doomed = self.workers.get(worker).is_some_and(|w| w.doomed);
        for attempt in self.late.of(worker, finished) {
            self.prove_late(worker, attempt, by_itself && !doomed, now, rng);
        }
        let Some(known) = self.workers.get(worker) else {
            return;
        };
        let before_the_end = |attempt: &AttemptId| {
            let job = self.index.job(attempt.job);
            job.is_some_and(|job| {
                // Both are cut to the second: within the same one nobody can tell.
                job.runs(attempt.attempt, worker)
                    && job.status.started.is_some_and(|at| at < finished)
            })
        };
        let ended: Vec<AttemptId> = known
            .leases
            .iter()
            .filter(|(attempt, lease)| {
                // The stream of a dead process is closed by its kernel, whatever the node's clock says.
                let lives = known.session.is_some() && (lease.pushed || lease.listed);
                lease.arrived() && !lives && before_the_end(attempt)
            })
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in ended {
            self.workers.forget(worker, attempt);
            self.died(worker, attempt, by_itself, now, rng);
        }
    }

    pub(super) fn on_cordon(&mut self, worker: Uid, on: bool, now: Now) {
        self.workers.update(worker, |w| w.cordoned = on);
        if !on {
            self.recall(worker, |w| &mut w.dismissed, now);
            self.dirty
                .extend(self.workers.get(worker).and_then(|w| w.pool));
        }
    }

    /// It stays after all. There is no message for that: the drain ends with the stream that it was asked for on. `leaves`: why
    /// it was to go.
    fn recall(&mut self, worker: Uid, leaves: fn(&mut Worker) -> &mut bool, now: Now) {
        let told = self
            .workers
            .update(worker, |w| {
                let left = std::mem::take(leaves(w));
                let told = left.then(|| w.session.as_ref().map(|s| s.id));
                w.draining &= told.is_none();
                told.flatten()
            })
            .flatten();
        if let Some(session) = told {
            let why = CloseReason::Recalled;
            self.out.push(Action::Close { session, why });
            // Its calls run on: it has as long as if it had said nothing.
            self.workers.end(worker, session, now.mono + SILENCE);
        }
    }
}
