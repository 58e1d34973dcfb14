//! Requests to bring a dead letter back: one at a time for a job, each answered once.
//!
//! The order is the archive's, then `active/`, then the control plane; see [`crate::job::decide`].

use rand::RngCore;

use super::Engine;
use crate::action::{Action, Redrive};
use crate::event::{Answer, Lead};
use crate::ids::Uid;
use crate::job::Phase;
use crate::job::decide::Look;
use crate::time::Now;

use super::live::What;
use super::review::STORE_HOLD;

impl Engine {
    pub(super) fn on_redrive(&mut self, job: Uid, by: Uid, now: Now, rng: &mut dyn RngCore) {
        let known = self.index.job(job);
        let refusal = match known {
            _ if self.lead != Lead::Leader => Some(Redrive::NotLeader),
            None if !self.jobs_known => Some(Redrive::NotLeader),
            None => Some(Redrive::Gone),
            Some(ref known) if known.status.phase != Phase::DeadLettered => Some(Redrive::Skipped),
            Some(ref known) if known.status.redriven_by == Some(by) => Some(Redrive::Skipped),
            Some(_) => None,
        };
        let busy = self.live.get(&job).and_then(|live| live.redrive);
        match (refusal, busy) {
            (Some(outcome), _) => self.settle_redrive(job, by, outcome),
            (None, Some(other)) if other != by => self.settle_redrive(job, by, Redrive::Skipped),
            (None, _) => {
                let live = self.live(job);
                if live.redrive.replace(by).is_none() {
                    // Asked again, now that somebody waits: the shell answers such questions before others.
                    live.op.take_if(|op| op.what == What::ReadRecord);
                }
                self.review(job, now, rng);
            }
        }
    }

    fn settle_redrive(&mut self, job: Uid, by: Uid, outcome: Redrive) {
        self.out.push(Action::Redriven { job, by, outcome });
    }

    /// Ends the request of this job, if there is one.
    pub(super) fn end_redrive(&mut self, job: Uid, outcome: Redrive) {
        let Some(live) = self.live.get_mut(&job) else {
            return;
        };
        live.reactivated = false;
        if let Some(by) = live.redrive.take() {
            self.settle_redrive(job, by, outcome);
        }
    }

    /// The job is no dead letter any more: whoever asked for it learns what became of it.
    pub(super) fn answer_redrive(&mut self, job: Uid) {
        let Some(live) = self.live.get_mut(&job) else {
            return;
        };
        if live.redrive.is_none() && !live.to_take_back {
            return;
        }
        let Some(known) = self.index.job(job) else {
            return;
        };
        if known.status.phase == Phase::DeadLettered {
            return;
        }
        live.to_take_back = false;
        let outcome = if known.status.redriven_by == live.redrive {
            Redrive::Done
        } else {
            Redrive::Skipped
        };
        self.end_redrive(job, outcome);
    }

    pub(super) fn on_reactivated(&mut self, job: Uid, answer: &Answer, now: Now) {
        match answer.look() {
            Look::There => {
                let live = self.live(job);
                (live.reactivated, live.to_take_back) = (true, false);
            }
            Look::Missing => self.end_redrive(job, Redrive::Refused),
            Look::Away | Look::Unasked => self.hold(job, now.mono + STORE_HOLD),
        }
    }

    /// The API server takes no such write: whoever asked for it reads that it failed, and the audit must not do it some day.
    pub(super) fn refuse_redrive(&mut self, job: Uid) {
        let live = self.live(job);
        live.to_take_back |= live.reactivated;
        let is_written = live.to_take_back;
        self.end_redrive(job, Redrive::Refused);
        if let Some(known) = self.index.job(job).filter(|_| is_written) {
            self.ask(&known, What::TakeBack);
        }
    }

    pub(super) fn on_taken_back(&mut self, job: Uid, answer: &Answer, now: Now) {
        match answer.look() {
            Look::There | Look::Missing => self.live(job).to_take_back = false,
            Look::Away | Look::Unasked => self.hold(job, now.mono + STORE_HOLD),
        }
    }
}
