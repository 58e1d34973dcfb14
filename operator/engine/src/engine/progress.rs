//! Progress of running attempts: which of it is worth a write of the job's status.
//!
//! A percentage is told once a second; a status write costs what a claim costs. So: only in pools that ask for it, at most
//! every 10 s, only by 5 points or more, and never while another write of the job is under way. What is skipped is not kept:
//! newer progress follows, or the end.

use std::time::Duration;

use super::Engine;
use super::live::{Op, Pending, What};
use crate::action::{Action, Cause};
use crate::event::Lead;
use crate::ids::{AttemptId, SessionId};
use crate::time::{Mono, Now};

/// Between two writes of one attempt's progress.
const INTERVAL: Duration = Duration::from_secs(10);
/// Points between two of them.
const STEP: u32 = 5;

/// The last progress of an attempt that was written, or tried to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Told {
    at: Mono,
    percent: u32,
}

/// Whether `percent` is worth a write. Nothing is told at first: a claim says 0 well enough.
fn is_worth(told: Option<Told>, percent: u32, now: Mono) -> bool {
    let (at, before) = told.map_or((None, 0), |told| (Some(told.at), told.percent));
    let far = percent.abs_diff(before) >= STEP;
    far && at.is_none_or(|at| now.since(at) >= INTERVAL)
}

impl Engine {
    pub(super) fn on_progress(
        &mut self,
        session: SessionId,
        attempt: AttemptId,
        percent: u32,
        now: Now,
    ) {
        let Some(worker) = self.workers.of_session(session) else {
            return;
        };
        self.workers.heard(worker, now.mono);
        let Some(job) = self.index.job(attempt.job) else {
            return;
        };
        let wanted = job
            .claimed_pool()
            .and_then(|pool| self.pools.get(&pool))
            .and_then(|pool| pool.policy.as_ref())
            .is_some_and(|policy| policy.report_progress);
        if !wanted || self.lead != Lead::Leader || !job.runs(attempt.attempt, worker) {
            return;
        }
        let percent = percent.min(100);
        let live = self.live(attempt.job);
        let quiet = live.op.is_none() && live.report.is_none() && live.loss.is_none();
        if !quiet || live.hold.is_some() || !is_worth(live.told, percent, now.mono) {
            return;
        }
        live.told = Some(Told {
            at: now.mono,
            percent,
        });
        let token = self.token();
        let status = Box::new(job.status.clone());
        let cause = Cause::Progress(percent);
        self.out.push(Action::Write {
            job: job.uid,
            token,
            rv: job.rv,
            before: status.clone(),
            after: status.clone(),
            cause,
        });
        self.live(job.uid).op = Some(Op {
            token,
            what: What::Write(Pending {
                after: status,
                cause,
                claim: None,
                rv: job.rv,
                owed: 0,
                ends: None,
            }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_written_by_five_points_and_ten_seconds() {
        let told = |at, percent| {
            Some(Told {
                at: Mono(at),
                percent,
            })
        };
        let table = [
            ("the first points", None, 5, 1_000, true),
            ("nothing to speak of", None, 4, 1_000, false),
            ("enough points too early", told(0, 10), 90, 9_999, false),
            ("enough of both", told(0, 10), 15, 10_000, true),
            ("time alone", told(0, 10), 14, 60_000, false),
            ("a service that starts over", told(0, 60), 3, 10_000, true),
        ];
        for (name, told, percent, now, want) in table {
            assert_eq!(is_worth(told, percent, Mono(now)), want, "{name}");
        }
    }
}
