//! The store's part of what the engine decided: who waits for whom, and what a call is made of once its turn has come.

use std::time::Duration;

use kinora_engine::Action;
use kinora_engine::event::Answer;
use tokio::sync::OwnedSemaphorePermit;

use super::act::StoreTask;
use super::queues::Queues;
use super::run::Core;

/// Where a call waits: only behind others of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// An attempt that ended waits for it, or a redrive.
    Pressing,
    /// Records of jobs that can go on only then.
    Open,
    /// Records to write, and what they make superfluous.
    Filing,
    /// Records of ended jobs, that nobody waits for.
    Ended,
}

impl Line {
    const ALL: [Line; 4] = [Line::Pressing, Line::Open, Line::Filing, Line::Ended];

    /// How many of its calls run at once.
    const fn at_once(self) -> usize {
        match self {
            Line::Pressing | Line::Filing => 16,
            Line::Open | Line::Ended => 8,
        }
    }
}

/// One queue for each [`Line`].
pub(super) type StoreQueues = Queues<Action, { Line::ALL.len() }>;

pub(super) fn queues() -> StoreQueues {
    Queues::new(Line::ALL.map(Line::at_once))
}

impl Core {
    pub(super) fn act_on_store(&mut self, action: Action) {
        let Some(line) = self.line(&action) else {
            return self.call(&action, None);
        };
        self.queues.push(line as usize, action);
        self.call_whoever_may();
    }

    /// Starts the calls whose turn has come.
    pub(super) fn call_whoever_may(&mut self) {
        while let Some((action, permit)) = self.queues.next() {
            self.call(&action, Some(permit));
        }
    }

    fn line(&self, action: &Action) -> Option<Line> {
        match action {
            Action::CheckOutputs { .. }
            | Action::CheckSource { .. }
            | Action::Reactivate { .. } => Some(Line::Pressing),
            Action::ReadRecord { job, .. } if self.engine.is_pressing(*job) => Some(Line::Open),
            Action::ReadRecord { .. } => Some(Line::Ended),
            Action::WriteRecord { .. } | Action::Clean { .. } => Some(Line::Filing),
            // Signing is local: a lease does not wait for a store that is slow to answer others.
            Action::Prepare { .. }
            | Action::Write { .. }
            | Action::Redriven { .. }
            | Action::Read { .. }
            | Action::Delete { .. }
            | Action::Pod(_)
            | Action::Send { .. }
            | Action::Close { .. } => None,
        }
    }

    fn call(&mut self, action: &Action, permit: Option<OwnedSemaphorePermit>) {
        let (job, token, task) = match *action {
            Action::Prepare {
                token,
                attempt,
                worker,
                pool,
            } => {
                let pool = self.memory.pools.get(&pool);
                let outputs = pool.map(|p| p.outputs.clone()).unwrap_or_default();
                let task = StoreTask::Lease {
                    attempt: attempt.attempt,
                    pod_uid: self.memory.pod_uid(worker),
                    outputs: outputs.clone(),
                    timeout: Duration::from_millis(pool.map_or(0, |p| p.timeout_ms)),
                    store_endpoint: pool.and_then(|p| p.store_endpoint.clone()),
                };
                self.memory.note_leased(attempt, outputs);
                (attempt.job, token, task)
            }
            Action::CheckOutputs {
                token,
                attempt,
                worker,
                pool,
            } => {
                let task = StoreTask::Outputs {
                    attempt: attempt.attempt,
                    pod_uid: self.memory.pod_uid(worker),
                    names: self.memory.wanted_outputs(worker, attempt, pool),
                };
                (attempt.job, token, task)
            }
            Action::CheckSource { token, job } => (job, token, StoreTask::Source),
            Action::ReadRecord { token, job } => (job, token, StoreTask::ReadRecord),
            Action::WriteRecord { token, job } => {
                let task = StoreTask::WriteRecord(self.memory.result(job));
                (job, token, task)
            }
            Action::Clean { token, job } => (job, token, StoreTask::Clean),
            Action::Reactivate {
                token,
                job,
                redrives,
                undo,
            } => {
                let task = if undo {
                    StoreTask::TakeBack(redrives)
                } else {
                    StoreTask::Reactivate(redrives)
                };
                (job, token, task)
            }
            Action::Write { .. }
            | Action::Redriven { .. }
            | Action::Read { .. }
            | Action::Delete { .. }
            | Action::Pod(_)
            | Action::Send { .. }
            | Action::Close { .. } => return,
        };
        let Some(address) = self.memory.address(job) else {
            return self.answer(job, token, Answer::Away);
        };
        let known = self
            .engine
            .job(job)
            .and_then(|facts| self.memory.object(&facts));
        self.actor.store((job, token), address, known, task, permit);
    }
}
