//! Leaving: no more leases, running calls finish, outcomes are acknowledged, then the process ends. Pure.

use std::time::Duration;

use super::{Action, AttemptKey, Machine, Timings};
use crate::report::ReleaseReason;

/// A drain by SIGTERM has a deadline and ends the process; one that the operator asked for has neither, and holds as long as
/// the stream that it was asked for on: whoever leads next asks again.
#[derive(Debug, Default)]
pub(super) struct Drain {
    deadline: Option<Duration>,
    /// The heartbeat sent behind the announcement on the present stream, and when.
    awaited: Option<(u64, Duration)>,
    swept: bool,
}

impl Drain {
    pub(super) fn announced(&mut self, heartbeat_seq: u64, now: Duration) {
        self.awaited = Some((heartbeat_seq, now));
    }

    pub(super) fn echoed(&mut self, heartbeat_seq: u64) {
        if self.awaited.is_some_and(|(seq, _)| seq <= heartbeat_seq) {
            self.awaited = None;
        }
    }

    pub(super) fn next_wake(&self, timings: &Timings) -> Option<Duration> {
        let deadline = self.deadline?;
        let sweep = if self.swept {
            deadline + timings.drain_grace
        } else {
            deadline
        };
        let confirm = self.awaited.map(|(_, since)| since + timings.drain_confirm);
        Some(confirm.map_or(sweep, |at| at.min(sweep)))
    }

    /// An operator that knows of the drain sends no lease into a process that is leaving.
    fn is_known(&mut self, now: Duration, timings: &Timings) -> bool {
        if self
            .awaited
            .is_some_and(|(_, since)| now >= since + timings.drain_confirm)
        {
            self.awaited = None;
        }
        self.awaited.is_none()
    }
}

impl Machine {
    /// A new stream begins.
    pub(super) fn forget_asked_drain(&mut self) {
        self.drain.take_if(|drain| drain.deadline.is_none());
    }

    pub(super) fn drain_by_operator(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.drain.is_none() {
            self.drain = Some(Drain::default());
            self.announce_drain(now, actions);
        }
    }

    pub(super) fn terminate(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let deadline = now + self.settings.drain;
        let drain = self.drain.get_or_insert_default();
        drain.deadline = Some(match drain.deadline {
            None => deadline,
            Some(_) => now,
        });
        if self.session.is_some() {
            self.announce_drain(now, actions);
        }
    }

    pub(super) fn pass_drain(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Some((deadline, swept)) = self
            .drain
            .as_ref()
            .and_then(|d| Some((d.deadline?, d.swept)))
        else {
            return;
        };
        if now >= deadline && !swept {
            let all: Vec<AttemptKey> = self.attempts.keys().cloned().collect();
            for key in all {
                self.stop(&key, ReleaseReason::Draining, actions);
            }
        }
        let timings = &self.settings.timings;
        let Some(drain) = &mut self.drain else {
            return;
        };
        drain.swept = now >= deadline;
        let alone = self.session.is_none();
        let over = now >= deadline + timings.drain_grace;
        let known = drain.is_known(now, timings);
        let settled = self.attempts.is_empty() && (alone || known);
        if over || settled {
            actions.push(Action::Exit {
                unacknowledged: self.attempts.len(),
            });
        }
    }
}
