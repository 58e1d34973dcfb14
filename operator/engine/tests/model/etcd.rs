//! etcd and the store: what becomes of a request once it arrives.

use std::sync::Arc;

use kinora_engine::event::Answer;
use kinora_engine::*;

use crate::mutants::Mutant;
use crate::state::{Seen, slot};
use crate::world::World;

impl World<'_> {
    /// The one place where etcd changes a status.
    pub(crate) fn cas(&mut self, uid: Uid, rv: Rv, after: &Status) -> Answer {
        let Some(stored) = self.s.job(uid).cloned() else {
            return Answer::Gone;
        };
        if stored.rv != rv && !self.is(Mutant::NoCompareAndSwap) {
            return Answer::Unknown;
        }
        self.check_write(uid, &stored.status, after);
        let mut job = (*stored).clone();
        job.rv = Rv(stored.rv.0 + 1);
        job.status = after.clone();
        Answer::Written(Box::new((*self.store_job(job)).clone()))
    }

    /// Stores an object and lets the watches know.
    pub(crate) fn store_job(&mut self, job: Job) -> Arc<Job> {
        let uid = job.uid;
        let job = Arc::new(job);
        self.s.etcd[slot(uid)] = Some(Arc::clone(&job));
        self.tell(&Seen::Job(Arc::clone(&job)));
        job
    }

    pub(crate) fn tell(&mut self, seen: &Seen) {
        for r in 0..2 {
            if !self.s.replicas[r].get().deaf {
                self.s.replicas[r].edit().watch.push_back(seen.clone());
            }
        }
    }

    /// Does what a request says; the answer is the caller's to deliver.
    pub(crate) fn execute(&mut self, r: usize, action: &Action) -> Option<(Uid, Token, Answer)> {
        Some(match action {
            Action::Write {
                job,
                token,
                rv,
                after,
                ..
            } => (*job, *token, self.cas(*job, *rv, after)),
            Action::Read { job, token } => (*job, *token, self.read(r, *job)),
            Action::Delete { job, token, rv } => (*job, *token, self.delete(*job, *rv)),
            Action::Prepare { token, attempt, .. }
            | Action::CheckOutputs { token, attempt, .. } => (attempt.job, *token, Answer::Yes),
            Action::CheckSource { token, job } => (*job, *token, Answer::Yes),
            Action::ReadRecord { token, job } => {
                let found = self.s.store[slot(*job)].record;
                let found = if self.is(Mutant::RecordNotReadBack) {
                    Some(0)
                } else {
                    found
                };
                (*job, *token, found.map_or(Answer::No, Answer::Record))
            }
            Action::WriteRecord { token, job } => {
                let status = self.s.replicas[r].get().engine.job(*job);
                let redrives = status.map_or(0, |job| job.status.redrives);
                if !self.is(Mutant::RecordAcknowledgedEarly) {
                    self.s.store[slot(*job)].record = Some(redrives);
                }
                (*job, *token, Answer::Yes)
            }
            Action::Clean { token, job } => {
                self.s.store[slot(*job)].active = false;
                self.check_store(*job);
                (*job, *token, Answer::Yes)
            }
            Action::Reactivate {
                token, job, undo, ..
            } => {
                let skipped = self.is(Mutant::ReactivateSkipped);
                let active = &mut self.s.store[slot(*job)].active;
                *active = !undo && (*active || !skipped);
                (*job, *token, Answer::Yes)
            }
            Action::Pod(action) => return self.pod_action(*action),
            Action::Send { .. } | Action::Close { .. } | Action::Redriven { .. } => return None,
        })
    }

    fn read(&self, r: usize, uid: Uid) -> Answer {
        let engine = &self.s.replicas[r].get().engine;
        let found = if self.is(Mutant::ReadFromCache) {
            engine.job(uid)
        } else {
            self.s.job(uid).map(|job| (**job).clone())
        };
        found.map_or(Answer::Gone, |job| Answer::Found(Box::new(job)))
    }

    fn delete(&mut self, uid: Uid, rv: Rv) -> Answer {
        let Some(stored) = self.s.job(uid).cloned() else {
            return Answer::Gone;
        };
        if stored.rv != rv {
            return Answer::Unknown;
        }
        self.check_delete(&stored);
        self.s.etcd[slot(uid)] = None;
        self.tell(&Seen::Gone(uid));
        Answer::Yes
    }
}
