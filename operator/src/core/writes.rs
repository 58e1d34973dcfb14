//! Writes to the API server that wait, each in a line of its kind: a fault that concerns every job of a backlog holds up no attempt.

use std::collections::HashMap;

use kinora_engine::action::{Cause, PodAction};
use kinora_engine::{Action, Phase, Reason, Rv, Token, Uid, Wall};
use tokio::sync::OwnedSemaphorePermit;

use super::queues::Queues;

/// Where a write waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A running attempt waits for it, or a redrive: no more than there are slots.
    Pressing,
    /// Pods of attempts, made and removed: admission of pods may hang, that of outcomes does not.
    Pods,
    /// Ends of jobs that do not run.
    Ends,
    /// What a job needs before its next attempt.
    Open,
    /// What nobody waits for.
    Notes,
}

impl Line {
    const ALL: [Line; 5] = [
        Line::Pressing,
        Line::Pods,
        Line::Ends,
        Line::Open,
        Line::Notes,
    ];

    /// How many of its writes run at once.
    const fn at_once(self) -> usize {
        match self {
            Line::Pressing => 32,
            Line::Pods => 16,
            Line::Ends | Line::Open | Line::Notes => 8,
        }
    }

    /// `None`: it does not wait. Claims are bounded by the engine, reads in [`super::act`].
    pub(super) fn of(action: &Action) -> Option<Line> {
        match action {
            Action::Write {
                before,
                after,
                cause,
                ..
            } => match cause {
                Cause::Claimed | Cause::Reclaimed(_) => None,
                // Whatever it is, the outcome of its attempt waits for it.
                _ if before.phase == Phase::Running => Some(Line::Pressing),
                Cause::Placed | Cause::Progress(_) | Cause::Redriven => Some(Line::Pressing),
                Cause::Ended(_) | Cause::Cancelled | Cause::Expired | Cause::SourceGone => {
                    Some(Line::Ends)
                }
                Cause::Blocked if after.reason == Reason::PoolNotFound => Some(Line::Notes),
                Cause::Observed if after.phase.is_final() => Some(Line::Notes),
                Cause::Observed | Cause::Blocked | Cause::Suspension => Some(Line::Open),
            },
            Action::Delete { .. } => Some(Line::Notes),
            Action::Pod(PodAction::Make { .. } | PodAction::Remove { .. }) => Some(Line::Pods),
            Action::Pod(PodAction::Find { .. })
            | Action::Read { .. }
            | Action::Prepare { .. }
            | Action::CheckOutputs { .. }
            | Action::CheckSource { .. }
            | Action::ReadRecord { .. }
            | Action::WriteRecord { .. }
            | Action::Clean { .. }
            | Action::Reactivate { .. }
            | Action::Redriven { .. }
            | Action::Send { .. }
            | Action::Close { .. } => None,
        }
    }
}

/// A write, and when it was decided.
pub(super) struct Decided {
    pub(super) action: Action,
    pub(super) at: Wall,
}

/// A status of a job that does not run, while it waits.
struct Unsent {
    token: Token,
    rv: Rv,
    line: Line,
    number: u64,
}

/// One queue for each [`Line`].
pub(super) struct WriteQueues {
    queues: Queues<Decided, { Line::ALL.len() }>,
    unsent: HashMap<Uid, Unsent>,
    /// Pods whose removal waits, or (true) is under way.
    removals: HashMap<Uid, bool>,
}

impl WriteQueues {
    pub(super) fn new() -> WriteQueues {
        WriteQueues {
            queues: Queues::new(Line::ALL.map(Line::at_once)),
            unsent: HashMap::new(),
            removals: HashMap::new(),
        }
    }

    /// It is the last of its line from now on. A pod's removal is decided again as long as the pod is there: one at a time will do.
    pub(super) fn push(&mut self, line: Line, write: Decided) {
        if let Action::Pod(PodAction::Remove { worker }) = write.action {
            if self.removals.contains_key(&worker) {
                return;
            }
            self.removals.insert(worker, false);
        }
        let about = match write.action {
            Action::Write { job, token, rv, .. } if line != Line::Pressing => {
                Some((job, token, rv))
            }
            _ => None,
        };
        let number = self.queues.push(line as usize, write);
        if let Some((job, token, rv)) = about {
            let unsent = Unsent {
                token,
                rv,
                line,
                number,
            };
            self.unsent.insert(job, unsent);
        }
    }

    /// A write that may be sent now, as long as its permit is held.
    pub(super) fn next(&mut self) -> Option<(Decided, OwnedSemaphorePermit)> {
        let next = self.queues.next()?;
        if let Action::Write { job, .. } = next.0.action {
            self.unsent.remove(&job);
        }
        if let Action::Pod(PodAction::Remove { worker }) = next.0.action {
            self.removals.insert(worker, true);
        }
        Some(next)
    }

    /// A removal was answered, or there was nothing to remove.
    pub(super) fn removal_over(&mut self, worker: Uid) {
        self.removals.remove(&worker);
    }

    /// Takes back what was decided about a job before this version of it; gives the token of what is not sent any more.
    pub(super) fn overtaken(&mut self, job: Uid, by: Rv) -> Option<Token> {
        let is_older = self.unsent.get(&job).is_some_and(|unsent| unsent.rv < by);
        is_older.then(|| self.forget(job)).flatten()
    }

    /// As [`WriteQueues::overtaken`], whatever the version.
    pub(super) fn forget(&mut self, job: Uid) -> Option<Token> {
        let unsent = self.unsent.remove(&job)?;
        self.queues.remove(unsent.line as usize, unsent.number);
        Some(unsent.token)
    }

    /// What was not sent yet never is.
    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.unsent = HashMap::new();
        self.removals.retain(|_, is_sent| *is_sent);
    }
}

#[cfg(test)]
mod tests {
    use kinora_engine::Status;
    use kinora_engine::outcome::Class;

    use super::*;

    fn write(before: Phase, cause: Cause, after: (Phase, Reason)) -> Action {
        let status = |phase, reason| {
            Box::new(Status {
                phase,
                reason,
                ..Status::default()
            })
        };
        Action::Write {
            job: Uid(1),
            token: Token(1),
            rv: Rv(7),
            before: status(before, Reason::Queued),
            after: status(after.0, after.1),
            cause,
        }
    }

    #[test]
    fn what_holds_up_an_attempt_waits_behind_nothing_that_a_backlog_brings() {
        use Phase::{Cancelled, DeadLettered, Queued, Running, Succeeded, Suspended};
        let done = (Succeeded, Reason::Completed);
        let runs = (Running, Reason::Processing);
        let waits = (Queued, Reason::Queued);
        let blocked = (Queued, Reason::PoolNotFound);
        let expired = (DeadLettered, Reason::DeadlineExceeded);
        let cancelled = (Cancelled, Reason::Cancelled);
        let held = (Suspended, Reason::Suspended);
        let pressing = Some(Line::Pressing);
        let table = [
            (Queued, Cause::Claimed, runs, None),
            (Running, Cause::Reclaimed(Class::Lost), runs, None),
            (Running, Cause::Ended(Class::Succeeded), done, pressing),
            (Running, Cause::Cancelled, cancelled, pressing),
            (Running, Cause::Expired, expired, pressing),
            (Running, Cause::Placed, runs, pressing),
            (Running, Cause::Progress(5), runs, pressing),
            (Running, Cause::Observed, runs, pressing),
            (DeadLettered, Cause::Redriven, waits, pressing),
            (Queued, Cause::Cancelled, cancelled, Some(Line::Ends)),
            (Queued, Cause::Expired, expired, Some(Line::Ends)),
            (Queued, Cause::Observed, waits, Some(Line::Open)),
            (Queued, Cause::Suspension, held, Some(Line::Open)),
            (Queued, Cause::Blocked, waits, Some(Line::Open)),
            (Queued, Cause::Blocked, blocked, Some(Line::Notes)),
            (Succeeded, Cause::Observed, done, Some(Line::Notes)),
        ];
        for (before, cause, after, want) in table {
            let action = write(before, cause, after);
            assert_eq!(Line::of(&action), want, "{before:?} {cause:?} {after:?}");
        }
    }

    #[test]
    fn a_write_is_taken_back_only_for_a_newer_version_and_while_it_waits() {
        let mut writes = WriteQueues::new();
        let blocked = (Phase::Queued, Reason::PoolNotFound);
        let action = write(Phase::Queued, Cause::Blocked, blocked);
        let at = Wall(0);
        let decided = || Decided {
            action: action.clone(),
            at,
        };
        writes.push(Line::Notes, decided());
        assert_eq!(writes.overtaken(Uid(1), Rv(7)), None);
        assert_eq!(writes.overtaken(Uid(2), Rv(8)), None);
        assert_eq!(writes.overtaken(Uid(1), Rv(8)), Some(Token(1)));
        assert!(writes.next().is_none());
        writes.push(Line::Notes, decided());
        writes.forget(Uid(1));
        assert!(writes.next().is_none());
        writes.push(Line::Notes, decided());
        assert!(writes.next().is_some());
        assert_eq!(writes.overtaken(Uid(1), Rv(8)), None);
    }

    #[test]
    fn of_each_pod_one_removal_waits_or_is_under_way() {
        let mut writes = WriteQueues::new();
        let decide = |writes: &mut WriteQueues, pod: u128| {
            let action = Action::Pod(PodAction::Remove { worker: Uid(pod) });
            let at = Wall(0);
            let line = Line::of(&action).unwrap();
            writes.push(line, Decided { action, at });
        };
        let begun = |writes: &mut WriteQueues| std::iter::from_fn(|| writes.next()).count();
        for pod in [1, 1, 2, 1] {
            decide(&mut writes, pod);
        }
        assert_eq!(begun(&mut writes), 2, "while they wait");
        decide(&mut writes, 1);
        assert_eq!(begun(&mut writes), 0, "while they are under way");
        writes.removal_over(Uid(1));
        for pod in [1, 2] {
            decide(&mut writes, pod);
        }
        assert_eq!(begun(&mut writes), 1, "the answered one");
        writes.removal_over(Uid(1));
        decide(&mut writes, 1);
        writes.clear();
        for pod in [1, 2] {
            decide(&mut writes, pod);
        }
        assert_eq!(begun(&mut writes), 1, "the one that was never sent");
    }
}
