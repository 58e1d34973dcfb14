//! The store's part of what the engine decided: who waits for whom, and what a call is made of once its turn has come.

use std::time::Duration;

use kinora_engine::Action;
use kinora_engine::event::Answer;
use tokio::sync::OwnedSemaphorePermit;

use super::act::StoreTask;
use super::queues::Line;
use super::run::Core;

impl Core {
    pub(super) fn act_on_store(&mut self, action: Action) {
        let Some(line) = self.line(&action) else {
            return self.call(&action, None);
        };
        self.queues.push(line, action);
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
            } => (job, token, StoreTask::Reactivate(redrives)),
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
