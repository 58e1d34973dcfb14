//! What becomes of a lease: taken or given back, called, stopped, acknowledged. Pure.

use std::time::Duration;

use kinora_protocol::MAX_SURPLUS;
use kinora_protocol::dispatch::ack::Verdict;
use kinora_protocol::dispatch::{Ack, Cancel, Lease};

use super::{Action, Attempt, AttemptKey, Machine, Stage, send_outcome};
use crate::report::{ReleaseReason, Report};

impl Machine {
    pub(super) fn lease(&mut self, lease: Lease, now: Duration, actions: &mut Vec<Action>) {
        let Some(key) = AttemptKey::of(lease.attempt.as_ref()) else {
            return;
        };
        if let Some(known) = self.attempts.get(&key) {
            if let Stage::Ended { outcome, .. } = &known.stage {
                actions.push(send_outcome(outcome));
            }
            return;
        }
        if self.supersede_older(&key, actions) {
            return;
        }
        match self.refusal(now) {
            // Giving one back takes memory until acknowledged. This one is passed over: the next heartbeat lists it nowhere, and
            // the operator takes it as lost.
            Some(_) if self.attempts.len() >= (self.settings.slots + MAX_SURPLUS) as usize => {}
            Some((reason, why)) => {
                self.attempts.insert(key.clone(), Attempt::leased(now));
                self.end(&key, &Report::released(reason, why), now, actions);
            }
            None => {
                self.attempts.insert(key, Attempt::leased(now));
                actions.push(Action::Prepare(lease));
            }
        }
    }

    /// Attempt N + 1 proves that N is over for the operator: its call only costs the service. Returns true if it is the
    /// new lease that is out of date.
    fn supersede_older(&mut self, key: &AttemptKey, actions: &mut Vec<Action>) -> bool {
        let of_job: Vec<AttemptKey> = self
            .attempts
            .keys()
            .filter(|other| other.job_uid == key.job_uid)
            .cloned()
            .collect();
        if of_job.iter().any(|other| other.attempt > key.attempt) {
            return true;
        }
        for older in of_job {
            self.stop(&older, ReleaseReason::Expired, actions);
        }
        false
    }

    fn refusal(&self, now: Duration) -> Option<(ReleaseReason, &'static str)> {
        if self.drain.is_some() {
            return Some((ReleaseReason::Draining, "the worker takes no more leases"));
        }
        if self.attempts.len() >= self.settings.slots as usize {
            return Some((ReleaseReason::NotStarted, "all slots are taken"));
        }
        (!self.may_begin(now)).then_some((ReleaseReason::NotStarted, FENCED))
    }

    /// The last look before the side effect: time may have passed, or the process may have been stopped, since the lease.
    pub(super) fn call_ready(
        &mut self,
        key: &AttemptKey,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let may_begin = self.may_begin(now);
        let start_within = self.settings.timings.start_within;
        let Some(attempt) = self.attempts.get_mut(key) else {
            return;
        };
        if !matches!(attempt.stage, Stage::Preparing) {
            return;
        }
        let why = if !may_begin {
            FENCED
        } else if now.saturating_sub(attempt.leased_at) > start_within {
            "the call could not start in time"
        } else {
            attempt.stage = Stage::Calling;
            actions.push(Action::Begin(key.clone()));
            return;
        };
        // Nothing went out, so there is nothing to wait for; the connection is closed behind it.
        actions.push(Action::Stop(key.clone()));
        let report = Report::released(ReleaseReason::NotStarted, why);
        self.end(key, &report, now, actions);
    }

    pub(super) fn call_ended(
        &mut self,
        key: &AttemptKey,
        report: &Report,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        // Also for one that was to be stopped: what really happened is worth more than what was meant to.
        if self.attempts.get(key).is_some_and(|a| !a.is_ended()) {
            self.end(key, report, now, actions);
        }
    }

    pub(super) fn call_stopped(
        &mut self,
        key: &AttemptKey,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        if let Some(Stage::Stopping(reason)) = self.attempts.get(key).map(|a| &a.stage) {
            let report = Report::released(*reason, "");
            self.end(key, &report, now, actions);
        }
    }

    pub(super) fn cancel(&mut self, cancel: &Cancel, actions: &mut Vec<Action>) {
        let Some(key) = AttemptKey::of(cancel.attempt.as_ref()) else {
            return;
        };
        self.stop(&key, ReleaseReason::Cancelled, actions);
        if let Some(Stage::Ended { outcome, .. }) = self.attempts.get(&key).map(|a| &a.stage) {
            actions.push(send_outcome(outcome));
        }
    }

    pub(super) fn ack(&mut self, ack: &Ack, actions: &mut Vec<Action>) {
        let Some(key) = AttemptKey::of(ack.attempt.as_ref()) else {
            return;
        };
        let Some(attempt) = self.attempts.get(&key) else {
            return;
        };
        match (ack.verdict(), attempt.is_ended()) {
            (Verdict::Accepted | Verdict::Stale, true) => {
                self.attempts.remove(&key);
            }
            // Not ours any more, though its call still runs.
            (Verdict::Stale, false) => self.stop(&key, ReleaseReason::Expired, actions),
            (Verdict::Accepted, false) | (Verdict::Unspecified, _) => {}
        }
    }

    pub(super) fn stop(
        &mut self,
        key: &AttemptKey,
        reason: ReleaseReason,
        actions: &mut Vec<Action>,
    ) {
        if let Some(attempt) = self.attempts.get_mut(key)
            && matches!(attempt.stage, Stage::Preparing | Stage::Calling)
        {
            attempt.stage = Stage::Stopping(reason);
            actions.push(Action::Stop(key.clone()));
        }
    }

    fn end(&mut self, key: &AttemptKey, report: &Report, now: Duration, actions: &mut Vec<Action>) {
        let resend_at = now + self.settings.timings.resend;
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.end(key, report, resend_at);
            if self.session.is_some() {
                actions.push(super::send(
                    kinora_protocol::dispatch::from_worker::Message::Outcome(
                        report.outcome(key.to_ref()),
                    ),
                ));
            }
        }
    }
}

const FENCED: &str = "the operator has not been heard for too long";
