//! What is to be done next about one job: a pure, level-triggered look at its facts and at what is known beside them.
//!
//! Asked again after every change; the same facts give the same answer, and nothing is remembered in between.

use std::time::Duration;

use rand::RngCore;

use super::machine::{self, MAX_GHOSTS, SOURCE_RECHECK, Verdict};
use super::{Job, Phase, Reason, Status};
use crate::action::Cause;
use crate::archive::{self, Archive};
use crate::backoff::RETRY_AFTER_CAP;
use crate::ids::Uid;
use crate::limits;
use crate::outcome::{Class, Fact, classify};
use crate::policy::PoolPolicy;
use crate::time::{Clock, Wall};

/// What a look into the store said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Look {
    /// Nobody looked yet.
    #[default]
    Unasked,
    /// All there.
    There,
    /// Not there.
    Missing,
    /// The store could not be asked.
    Away,
}

/// An outcome in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// Of this attempt.
    pub attempt: u32,
    /// From this worker.
    pub worker: Uid,
    /// What it said.
    pub fact: Fact,
    /// What the service asked for.
    pub retry_after: Option<Duration>,
    /// Nobody said so: the operator ended the attempt itself, and its call may still run.
    pub by_operator: bool,
    /// Whether the outputs are there.
    pub outputs: Look,
    /// Whether the source is there.
    pub source: Look,
}

impl Report {
    /// Whether it is what this worker said about this attempt.
    pub(crate) fn is_about(&self, worker: Uid, attempt: u32) -> bool {
        self.worker == worker && self.attempt == attempt
    }
}

/// Proof, or verdict, that an attempt ended without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// Of this attempt.
    pub attempt: u32,
    /// [`Class::Interrupted`] or [`Class::Lost`]; [`Class::Released`]: its pod will not come.
    pub class: Class,
    /// Nobody knows whether its call still runs.
    pub call_may_run: bool,
}

/// What is known beside the stored facts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Settings of the job's pool: of the claimed one while it runs, of the one it would be claimed from while it waits.
    pub policy: Option<&'a PoolPolicy>,
    /// Pools were listed completely: one that is not known does not exist.
    pub pools_known: bool,
    /// Outcome in hand.
    pub report: Option<Report>,
    /// Loss in hand.
    pub loss: Option<Loss>,
    /// The pool's last outcomes hold a success.
    pub credible: bool,
    /// Other jobs of the pool succeeded within the last minute.
    pub others_succeed: bool,
    /// Source of a waiting job.
    pub source: Look,
    /// The job names a key that its namespace may not use.
    pub foreign: bool,
    /// A late job's record was looked for: none.
    pub cleared: bool,
    /// Of a final job.
    pub archive: Archive,
    /// The control plane went back in time after this job was made: its final record is looked for before anything else.
    pub doubted: bool,
    /// Interruptions proved after their attempts were called lost; the next write adds them.
    pub owed: u32,
    /// Somebody asks for it back from the dead letters.
    pub redrive: Option<Uid>,
    /// Its `active/` entry says so already.
    pub reactivated: bool,
    /// It says so, and the write that should follow was refused.
    pub to_take_back: bool,
    /// How long the breaker of its pool stays open, or would.
    pub next_probe: Duration,
    /// More dead letters than may stay, and this is one of the oldest.
    pub crowded: bool,
    /// This clock is known to be wrong: no deadline is judged by it.
    pub clock_off: bool,
}

impl Beside<'_> {
    fn clock(&self, wall: Wall) -> Clock {
        let off = self.clock_off;
        Clock { wall, off }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Store this status.
    Write(Box<Status>, Cause),
    /// The attempt is lost: claim again from this status in one write if a slot is free, else store it.
    Requeue(Box<Status>, Class),
    /// Look for the attempt's outputs.
    CheckOutputs,
    /// Look for the source.
    CheckSource,
    /// Look for the final record.
    ReadRecord,
    /// Write the final record.
    WriteRecord,
    /// Remove what the record makes superfluous.
    Clean,
    /// Delete the VideoJob.
    Delete,
    /// Write the `active/` entry of the next life.
    Reactivate,
    /// That life was refused: its entry goes.
    TakeBack,
    /// May be claimed; look again at that time.
    Ready(Option<Wall>),
    /// Nothing before that time.
    Wait(Option<Wall>),
    /// The store was away: ask again later.
    AskAgain,
}

/// Decides.
pub fn next(job: &Job, beside: &Beside<'_>, now: Wall, rng: &mut dyn RngCore) -> Next {
    if beside.doubted && !beside.cleared && !job.status.phase.is_final() {
        return Next::ReadRecord;
    }
    match job.status.phase {
        Phase::Running => running(job, beside, now, rng),
        Phase::Queued | Phase::Backoff => waiting(job, beside, now),
        Phase::Suspended => suspended(job, beside, now),
        Phase::Succeeded | Phase::DeadLettered | Phase::Cancelled => finished(job, beside, now),
    }
}

fn write(status: Status, cause: Cause) -> Next {
    Next::Write(Box::new(status), cause)
}

fn is_unobserved(job: &Job) -> bool {
    job.status.is_written() && job.status.observed != job.generation
}

fn running(job: &Job, beside: &Beside<'_>, now: Wall, rng: &mut dyn RngCore) -> Next {
    if beside.policy.is_none() && !beside.pools_known {
        // How long its call may be, and how often it may fail: its pool will say so.
        return Next::Wait(None);
    }
    let fallback = PoolPolicy::unknown();
    let policy = beside.policy.unwrap_or(&fallback);
    let report = beside.report.filter(|r| r.attempt == job.status.attempt);
    let loss = beside.loss.filter(|l| l.attempt == job.status.attempt);
    if job.spec.cancel {
        let is_over = report.is_some_and(|r| !r.by_operator)
            || loss.is_some_and(|l| !l.call_may_run)
            || job.awaits_pod();
        return write(
            job.cancelled(policy.attempt_limit(), !is_over, beside.clock(now)),
            Cause::Cancelled,
        );
    }
    if beside.foreign {
        return write(job.refused(now), Cause::SourceGone);
    }
    if let Some(report) = report {
        return reported(job, report, policy, beside, now, rng);
    }
    if loss.is_some_and(|loss| loss.class == Class::Released) {
        let after = job.unplaced(policy, now, rng);
        return write(after, Cause::Ended(Class::Released));
    }
    if let Some(loss) = loss {
        let mut verdict = Verdict::of(loss.class);
        verdict.call_may_run = loss.call_may_run;
        let after = job.ended(verdict, policy, beside.clock(now), rng);
        return match after.phase {
            Phase::Queued => Next::Requeue(Box::new(after), loss.class),
            _ => write(after, Cause::Ended(loss.class)),
        };
    }
    if !beside.clock_off && machine::active_deadline_past(&job.spec, &job.status, now) {
        return write(
            job.expired(policy.attempt_limit(), !job.awaits_pod(), now),
            Cause::Expired,
        );
    }
    if is_unobserved(job) {
        return write(job.observed(now), Cause::Observed);
    }
    let left = job
        .spec
        .active_deadline
        .map(|limit| limit.saturating_sub(job.status.active));
    Next::Wait(
        job.status
            .started
            .filter(|_| !job.awaits_pod())
            .zip(left)
            .map(|(started, left)| started + left),
    )
}

fn reported(
    job: &Job,
    report: Report,
    policy: &PoolPolicy,
    beside: &Beside<'_>,
    now: Wall,
    rng: &mut dyn RngCore,
) -> Next {
    let mut class = classify(report.fact, report.retry_after);
    if class == Class::Succeeded {
        match report.outputs {
            Look::Unasked => return Next::CheckOutputs,
            Look::Away => return Next::AskAgain,
            Look::There => {}
            // An incomplete answer.
            Look::Missing => class = Class::Failed,
        }
    }
    let retry_after = match class {
        Class::Misconfigured => Some(beside.next_probe),
        _ => report.retry_after,
    };
    let mut verdict = Verdict {
        retry_after,
        credible: beside.credible,
        alone: beside.others_succeed,
        call_may_run: report.by_operator,
        ..Verdict::of(class)
    };
    if class == Class::Failed {
        match report.source {
            Look::Unasked => return Next::CheckSource,
            Look::Away if report.by_operator => return Next::AskAgain,
            Look::Away => verdict.store_away = true,
            Look::There => {}
            Look::Missing => verdict.source_missing = true,
        }
    }
    let after = job.ended(verdict, policy, beside.clock(now), rng);
    write(after, Cause::Ended(class))
}

/// Cancel, and the deadlines, of a job that does not run.
fn ends_early(job: &Job, clock_off: bool, now: Wall) -> Option<Next> {
    if job.spec.cancel {
        return Some(write(
            job.cancelled(Duration::ZERO, false, now),
            Cause::Cancelled,
        ));
    }
    let late = machine::start_deadline_past(&job.spec, &job.status, now)
        || machine::active_deadline_past(&job.spec, &job.status, now);
    (late && !clock_off).then(|| write(job.dead(Reason::DeadlineExceeded, now), Cause::Expired))
}

fn start_deadline(job: &Job) -> Option<Wall> {
    job.spec
        .start_deadline
        .filter(|_| job.status.attempt == 0 && job.status.redrives == 0)
        .map(|limit| job.spec.created + limit)
}

fn waiting(job: &Job, beside: &Beside<'_>, now: Wall) -> Next {
    if job.spec.late && job.status.attempt == 0 && !beside.cleared {
        return Next::ReadRecord;
    }
    if let Some(end) = ends_early(job, beside.clock_off, now) {
        return end;
    }
    if job.spec.suspend {
        return write(job.suspended(now), Cause::Suspension);
    }
    let blocked = job.status.reason == Reason::PoolNotFound;
    let Some(policy) = beside.policy else {
        if beside.pools_known && (!blocked || is_unobserved(job)) {
            // Seen before: only its new generation is noted.
            let cause = if blocked {
                Cause::Observed
            } else {
                Cause::Blocked
            };
            return write(job.blocked(Reason::PoolNotFound, now), cause);
        }
        return Next::Wait(start_deadline(job));
    };
    if blocked {
        return write(job.unblocked(now), Cause::Blocked);
    }
    let interruptions = job.status.interruptions.saturating_add(beside.owed);
    if beside.owed > 0 && interruptions >= policy.interruption_limit.max(1) {
        let cause = Cause::Ended(Class::Interrupted);
        return write(job.dead(Reason::Poison, now), cause);
    }
    let unseen = job.spec.declared && !job.status.is_written();
    if unseen || is_unobserved(job) {
        return write(job.observed(now), Cause::Observed);
    }
    if let Some(due) = job
        .status
        .next_attempt
        .filter(|due| is_wait(*due, policy, now))
    {
        let first = start_deadline(job).map_or(due, |deadline| deadline.min(due));
        return Next::Wait(Some(first));
    }
    if job.status.reason == Reason::SourceUnavailable {
        match beside.source {
            Look::Unasked => return Next::CheckSource,
            Look::Away => return Next::AskAgain,
            Look::There => {}
            Look::Missing => {
                let after = job.source_still_missing(policy, SOURCE_RECHECK, now);
                return write(after, Cause::SourceGone);
            }
        }
    }
    let ghosts = job.status.ghosts.iter();
    let ghosts = ghosts.filter(|until| limits::is_ghost(**until, now));
    if ghosts.clone().count() >= MAX_GHOSTS {
        return Next::Wait(ghosts.min().copied());
    }
    Next::Ready(start_deadline(job))
}

/// Whether a job waits until then. Nobody is told to wait so long that a time further away were anything but the mistake of a
/// clock that was ahead.
fn is_wait(due: Wall, policy: &PoolPolicy, now: Wall) -> bool {
    let longest = policy.backoff_cap.max(RETRY_AFTER_CAP) + SOURCE_RECHECK;
    due > now && due <= (now + longest).ceil_second()
}

fn suspended(job: &Job, beside: &Beside<'_>, now: Wall) -> Next {
    if let Some(end) = ends_early(job, beside.clock_off, now) {
        return end;
    }
    if !job.spec.suspend {
        return write(job.resumed(now), Cause::Suspension);
    }
    if is_unobserved(job) {
        return write(job.observed(now), Cause::Observed);
    }
    Next::Wait(start_deadline(job))
}

fn finished(job: &Job, beside: &Beside<'_>, now: Wall) -> Next {
    if is_unobserved(job) {
        return write(job.observed(now), Cause::Observed);
    }
    if let (Some(by), Phase::DeadLettered, Archive::Done | Archive::Confirmed) =
        (beside.redrive, job.status.phase, beside.archive)
    {
        // First the store, then the control plane: a redrive that is half done is done by whoever finds it.
        return if beside.reactivated || job.spec.declared {
            write(job.redriven(by, now), Cause::Redriven)
        } else {
            Next::Reactivate
        };
    }
    match beside.archive {
        _ if beside.to_take_back => Next::TakeBack,
        Archive::Unknown => Next::ReadRecord,
        Archive::ToWrite => Next::WriteRecord,
        Archive::ToClean | Archive::Found => Next::Clean,
        Archive::Confirmed => Next::Delete,
        Archive::Done => match archive::expiry(&job.spec, &job.status, beside.policy) {
            Some(at) if at <= now || beside.crowded => Next::ReadRecord,
            at => Next::Wait(at),
        },
    }
}
