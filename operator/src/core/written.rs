//! The API server's part of what the engine decided: who waits for whom, and what a call is made of once its turn has come.

use kinora_engine::action::Cause;
use kinora_engine::event::Answer;
use kinora_engine::outcome::Class;
use kinora_engine::{Action, AttemptId, Rv, Status, Uid, Wall};
use tokio::sync::OwnedSemaphorePermit;

use super::act::Kind;
use super::run::Core;
use super::translate::{Extras, FailureText, status_patch};
use super::writes::{Decided, Line};

impl Core {
    pub(super) fn act_on_api(&mut self, action: Action, at: Wall) {
        let decided = Decided { action, at };
        let Some(line) = Line::of(&decided.action) else {
            return self.begin(decided, None);
        };
        self.writes.push(line, decided);
        self.write_whatever_may();
    }

    /// Starts the writes whose turn has come.
    pub(super) fn write_whatever_may(&mut self) {
        while let Some((decided, permit)) = self.writes.next() {
            self.begin(decided, Some(permit));
        }
    }

    /// The job has changed. What was decided before would only meet a conflict, and nothing else is decided while it waits: the
    /// author's cancel, say.
    pub(super) fn take_back(&mut self, job: Uid, version: Rv) {
        if let Some(token) = self.writes.overtaken(job, version) {
            self.answer(job, token, Answer::NotSent);
        }
    }

    fn begin(&mut self, Decided { action, at }: Decided, permit: Option<OwnedSemaphorePermit>) {
        match action {
            Action::Write {
                job,
                token,
                rv,
                before,
                after,
                cause,
            } => {
                let Some(address) = self.memory.address(job) else {
                    return self.answer(job, token, Answer::Gone);
                };
                let extras = self.extras(job, &before, &after, cause);
                let names = &self.memory.names;
                let patch = status_patch(rv, &before, &after, cause, &extras, at, names);
                self.writing
                    .insert(token, (cause, after.phase, after.reason));
                log_end(&address.name, &address.uid, &before, &after, cause);
                let kind = kind(cause, &after);
                self.actor.write(job, token, address, patch, kind, permit);
            }
            Action::Read { job, token } => match self.memory.address(job) {
                Some(address) => self.actor.read(job, token, address),
                None => self.answer(job, token, Answer::Gone),
            },
            Action::Delete { job, token, rv } => match self.memory.address(job) {
                Some(address) => self.actor.delete(job, token, address, rv, permit),
                None => self.answer(job, token, Answer::Gone),
            },
            Action::Pod(action) => self.act_on_pod(action, permit),
            Action::Prepare { .. }
            | Action::CheckOutputs { .. }
            | Action::CheckSource { .. }
            | Action::ReadRecord { .. }
            | Action::WriteRecord { .. }
            | Action::Clean { .. }
            | Action::Reactivate { .. }
            | Action::Redriven { .. }
            | Action::Send { .. }
            | Action::Close { .. } => {}
        }
    }

    fn extras(&self, job: Uid, before: &Status, after: &Status, cause: Cause) -> Extras {
        let attempt = AttemptId {
            job,
            attempt: before.attempt,
        };
        let said = before.worker;
        let report = said.and_then(|worker| self.memory.reports.of(worker, attempt));
        let outputs = match (cause, report) {
            (Cause::Ended(Class::Succeeded), Some(report)) => report.all_outputs(),
            _ => Vec::new(),
        };
        let failure = report.map_or_else(|| untold(cause), |r| Some(r.failure.clone()));
        Extras {
            worker: after
                .worker
                .map(|worker| self.memory.worker_ref(worker))
                .or_else(|| self.pod_to_come(job, after)),
            outputs,
            failure,
            step: self.memory.step(attempt),
        }
    }
}

fn kind(cause: Cause, after: &Status) -> Kind {
    match cause {
        Cause::Claimed | Cause::Reclaimed(_) => Kind::Claim,
        Cause::Observed if after.phase.is_final() => Kind::Observed,
        Cause::Observed
        | Cause::Blocked
        | Cause::Suspension
        | Cause::Cancelled
        | Cause::Expired
        | Cause::SourceGone
        | Cause::Placed
        | Cause::Progress(_)
        | Cause::Redriven
        | Cause::Ended(_) => Kind::Plain,
    }
}

/// What to say of an end that no worker reported.
fn untold(cause: Cause) -> Option<FailureText> {
    let (reason, message) = match cause {
        Cause::Ended(Class::Failed) => (
            "DEADLINE_EXCEEDED",
            "no outcome within the call's timeout and 30 s",
        ),
        Cause::Ended(Class::Interrupted) | Cause::Reclaimed(Class::Interrupted) => {
            ("Interrupted", "the worker's process ended by itself")
        }
        Cause::Ended(Class::Lost) | Cause::Reclaimed(Class::Lost) => {
            ("Lost", "the worker was lost, or never got the lease")
        }
        Cause::Ended(Class::Released) => (
            "PodNotStarted",
            "the attempt's pod could not be made, or did not report in time",
        ),
        _ => return None,
    };
    Some(FailureText {
        reason: reason.to_owned(),
        message: message.to_owned(),
    })
}

fn log_end(name: &str, uid: &str, before: &Status, after: &Status, cause: Cause) {
    match cause {
        // Told too often to be logged.
        Cause::Progress(_) => {}
        Cause::Ended(class) => tracing::info!(
            job = name, uid, attempt = before.attempt, ?class, state = ?after.phase, "an attempt ends"
        ),
        Cause::Claimed | Cause::Reclaimed(_) => {
            tracing::info!(job = name, uid, attempt = after.attempt, "claim");
        }
        Cause::Observed
        | Cause::Blocked
        | Cause::Suspension
        | Cause::Cancelled
        | Cause::Expired
        | Cause::Placed
        | Cause::Redriven
        | Cause::SourceGone => {
            tracing::info!(job = name, uid, ?cause, state = ?after.phase, "status changes");
        }
    }
}
