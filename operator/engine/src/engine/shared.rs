//! Claims that two leaders take for their own: both made the same one in the same second, one wrote it, the other found it stored.
//!
//! Either would act as if the other's lease were not out. So a claim that was found, and not answered, is dated anew before its
//! lease goes out, by a compare-and-swap that only one of them gets through; the other learns of it by that date.

use super::Engine;
use super::live::Pending;
use crate::ids::{Rv, Uid};
use crate::job::Job;
use crate::outcome::Class;

impl Engine {
    /// A write about a running attempt is stored: as this version, or found and perhaps another leader's.
    pub(super) fn note_author(&mut self, uid: Uid, pending: &Pending, ours: Option<Rv>) {
        let Some(stored) = self.index.job(uid) else {
            return;
        };
        let after = &pending.after;
        if after.worker.is_some_and(|w| stored.runs(after.attempt, w)) {
            let live = self.live(uid);
            live.unsure = ours != Some(stored.rv);
            live.shared |= live.unsure;
        }
    }

    /// Another leader dated a running attempt anew: its lease goes out, to a worker that has no other. What that worker said
    /// before was said by a process that is over.
    pub(super) fn follow_new_date(&mut self, job: &Job) {
        let Some(known) = self.index.job(job.uid) else {
            return;
        };
        let status = &known.status;
        let same = status.worker.is_some_and(|w| job.runs(status.attempt, w));
        if !same || known.rv >= job.rv || status.started == job.status.started {
            return;
        }
        let Some(live) = self.live.get_mut(&job.uid) else {
            return;
        };
        if live.writes() == Some(&job.status) {
            return;
        }
        live.shared = true;
        live.report = None;
        if let Some(loss) = &mut live.loss {
            loss.call_may_run |= loss.class == Class::Lost;
        }
    }
}
