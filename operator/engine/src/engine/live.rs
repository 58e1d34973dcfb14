//! What the engine holds in memory about a job beside its facts: the one request under way, what was reported, what to wait for.

use std::time::Duration;

use super::progress::Told;
use crate::action::Cause;
use crate::ids::{AttemptId, PoolName, Rv, Token, Uid};
use crate::job::decide::{Look, Loss, Report};
use crate::job::{Job, Phase, Status};
use crate::time::{Mono, Wall};

/// A request under way. There is at most one a job.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Op {
    pub(super) token: Token,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) enum What {
    Write(Pending),
    Refresh,
    /// The pod of an attempt is made or looked for.
    Place,
    Prepare {
        attempt: u32,
        worker: Uid,
        pool: PoolName,
    },
    CheckOutputs,
    CheckSource,
    ReadRecord,
    WriteRecord,
    Clean,
    Delete,
    Reactivate,
    TakeBack,
}

impl What {
    /// Whether its effect must be known before anything else is decided about the job.
    pub(super) fn binds(&self) -> bool {
        match self {
            What::Write(_) | What::Refresh | What::Delete | What::Reactivate | What::TakeBack => {
                true
            }
            What::Place
            | What::Prepare { .. }
            | What::CheckOutputs
            | What::CheckSource
            | What::ReadRecord
            | What::WriteRecord
            | What::Clean => false,
        }
    }
}

/// What a claim reserved, beside the permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Claim {
    /// The worker whose slot it is, and with it a rate token; `None`: a pod is to be made, and takes its token later.
    pub(super) worker: Option<Uid>,
    pub(super) pool: PoolName,
}

/// Where the pod of a claimed attempt is, as far as this leader knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Placement {
    /// Somebody may have made it: look for it, never make it.
    #[default]
    ToFind,
    /// This leader stored the claim just now, and nobody else can have made it.
    ToMake,
    /// It is there, or was.
    There,
}

/// A write whose answer is awaited.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Pending {
    pub(super) after: Box<Status>,
    pub(super) cause: Cause,
    pub(super) claim: Option<Claim>,
    /// What it was decided from.
    pub(super) rv: Rv,
    /// Interruptions proved late that it adds.
    pub(super) owed: u32,
    /// The attempt that it ends. Kept here because a watch may show the write before its answer comes.
    pub(super) ends: Option<Ending>,
}

/// A running attempt that a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(super) struct Ending {
    pub(super) pool: PoolName,
    /// Its worker was made for another service than the pool calls now.
    pub(super) elsewhere: bool,
    /// How long its call took, as far as it was seen.
    pub(super) call: Option<Duration>,
    /// What its service asked for.
    pub(super) retry_after: Option<Duration>,
    /// If it is called lost: its worker, if that had it for sure, and when it was claimed.
    pub(super) missed: Option<(Uid, AttemptId, Option<Wall>)>,
}

impl Pending {
    /// Whether this object shows that the write happened. A claim is stored when this attempt is this worker's from then on,
    /// whoever wrote it.
    pub(super) fn is_stored_in(&self, job: &Job) -> bool {
        let attempt = self.after.attempt;
        match (self.claim, self.after.worker) {
            (Some(_), Some(worker)) => {
                job.runs(attempt, worker) && job.status.started == self.after.started
            }
            // Its pod is the same one, whoever claimed.
            (Some(_), None) => job.status.phase == Phase::Running && job.status.attempt == attempt,
            (None, _) => job.status == *self.after,
        }
    }
}

/// A report whose fence could not be judged by the facts at hand.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(super) struct Question {
    pub(super) report: Report,
    /// When it came.
    pub(super) at: Mono,
    /// The request that was under way when it came: what that one brings may be older.
    pub(super) behind: Option<Token>,
}

/// No worker makes us remember more of them for one job.
const MAX_QUESTIONS: usize = 8;

#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(super) struct Live {
    pub(super) op: Option<Op>,
    pub(super) report: Option<Report>,
    pub(super) loss: Option<Loss>,
    pub(super) source: Look,
    pub(super) foreign: bool,
    /// Nothing is tried before.
    pub(super) hold: Option<Mono>,
    /// Refusals in a row.
    pub(super) refused: u32,
    /// Attempt that `deadline` and `claimed_at` are about.
    pub(super) attempt: u32,
    /// When the operator ends the attempt itself.
    pub(super) deadline: Option<Mono>,
    /// Another leader may have made the same claim: its lease may be out already.
    pub(super) shared: bool,
    /// What is stored of the attempt is not known to be our own write, or not the last: no lease goes out on it.
    pub(super) unsure: bool,
    /// The date that the claim was given anew. One that is stored is good, however long that took: where every write is slow,
    /// a lease would never go out.
    pub(super) dated: Option<Wall>,
    /// Of a claim without a holder.
    pub(super) placement: Placement,
    /// Progress of the attempt that was written last.
    pub(super) told: Option<Told>,
    /// When its lease was pushed.
    pub(super) pushed: Option<Mono>,
    /// When its outcome came, whatever that waits for.
    pub(super) reported: Option<Mono>,
    pub(super) questions: Vec<Question>,
    /// The VideoJobRedrive that wants it back, and whether its `active/` entry is written.
    pub(super) redrive: Option<Uid>,
    pub(super) reactivated: bool,
    /// The write that should follow that entry was refused.
    pub(super) to_take_back: bool,
    /// We asked for its deletion as it was then: it is nobody's cancel.
    pub(super) deleting: Option<Rv>,
    /// One of too many dead letters.
    pub(super) crowded: bool,
}

impl Live {
    /// Whether a question of this worker about this attempt would be remembered.
    pub(super) fn takes_question(&self, worker: Uid, attempt: u32) -> bool {
        let known = |q: &Question| q.report.is_about(worker, attempt);
        self.questions.len() < MAX_QUESTIONS && !self.questions.iter().any(known)
    }

    /// Its worker's outcome is in hand, and came then.
    pub(super) fn take_report(&mut self, report: Report, at: Mono) {
        self.report = Some(report);
        self.reported = Some(at);
    }

    /// How long the attempt's call took.
    pub(super) fn call(&self) -> Option<Duration> {
        let (pushed, reported) = self.pushed.zip(self.reported)?;
        Some(reported.since(pushed))
    }

    /// The status that is being stored.
    pub(super) fn writes(&self) -> Option<&Status> {
        match &self.op {
            Some(Op {
                what: What::Write(pending),
                ..
            }) => Some(&pending.after),
            _ => None,
        }
    }

    /// Nothing worth remembering.
    pub(super) fn is_empty(&self) -> bool {
        *self == Live::default()
    }
}
