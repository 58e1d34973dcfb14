//! The worker's decisions: held leases, unacknowledged outcomes, heartbeats, silence, self-fence, drain.
//!
//! Pure: events in, actions out, time as an argument (a monotonic `Duration` since the process started). The driver does
//! what comes out, in order.

mod attempt;
mod drain;
mod leases;
mod session;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use kinora_protocol::dispatch::{FromWorker, Lease, Outcome, ToWorker, from_worker};

pub use attempt::AttemptKey;
use attempt::{Attempt, Stage};
use drain::Drain;
use session::Session;
pub use settings::{Settings, Timings};

use crate::report::Report;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A new stream is there; the old one was discarded before. What comes out of this step is sent first on it.
    LinkOpened,
    /// The stream is gone.
    LinkClosed,
    /// The operator said something on the present stream.
    Received(ToWorker),
    /// Connected to the service: may the request go out?
    CallReady(AttemptKey),
    /// The service told how far it is.
    CallProgress {
        /// Of which attempt.
        key: AttemptKey,
        /// 0 to 100.
        percent: u32,
        /// For people.
        step: String,
    },
    /// The call ended by itself.
    CallEnded(AttemptKey, Report),
    /// The call was stopped as asked; nothing of it runs any more.
    CallStopped(AttemptKey),
    /// SIGTERM. A second one ends the drain time at once.
    Terminate,
    /// Nothing else; the time has come that [`Machine::next_wake`] named.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send on the present stream.
    Send(FromWorker),
    /// Connect to the service for this lease, then say [`Event::CallReady`].
    Prepare(Lease),
    /// Send the request.
    Begin(AttemptKey),
    /// End the call, then say [`Event::CallStopped`].
    Stop(AttemptKey),
    /// Discard the present stream and make a new one.
    DropLink(DropReason),
    /// Leave. The number of outcomes that nobody acknowledged; 0 is a clean exit.
    Exit {
        /// Leases that the operator still counts as ours.
        unacknowledged: usize,
    },
}

/// Why the worker itself gives up a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Nothing was heard for too long.
    Silence,
    /// A message is missing: what it was cannot be known.
    Gap,
}

/// How much is in this worker's hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leases whose call runs or is about to start.
    pub held: usize,
    /// Outcomes without acknowledgement.
    pub unacked: usize,
}

/// The state of one worker process.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    attempts: BTreeMap<AttemptKey, Attempt>,
    session: Option<Session>,
    /// Send time of the last message that the operator is known to have received.
    echoed_at: Option<Duration>,
    heartbeat_seq: u64,
    drain: Option<Drain>,
}

impl Machine {
    /// A worker that holds nothing and has no stream.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            attempts: BTreeMap::new(),
            session: None,
            echoed_at: None,
            heartbeat_seq: 0,
            drain: None,
        }
    }

    /// Decides.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::LinkOpened => self.open_session(now, &mut actions),
            Event::LinkClosed => self.session = None,
            Event::Received(message) => self.receive(message, now, &mut actions),
            Event::CallReady(key) => self.call_ready(&key, now, &mut actions),
            Event::CallProgress { key, percent, step } => {
                if let Some(attempt) = self.attempts.get_mut(&key) {
                    attempt.note_progress(percent, &step);
                }
            }
            Event::CallEnded(key, report) => self.call_ended(&key, &report, now, &mut actions),
            Event::CallStopped(key) => self.call_stopped(&key, now, &mut actions),
            Event::Terminate => self.terminate(now, &mut actions),
            Event::Tick => {}
        }
        self.pass_time(now, &mut actions);
        actions
    }

    /// When [`Event::Tick`] is due at the latest. `None`: nothing but an event can change anything.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        let timings = &self.settings.timings;
        let session = self.session.as_ref();
        let of_session = session.map(|s| s.next_wake(timings));
        let of_attempts = self.attempts.values().filter_map(|attempt| {
            // Without a stream nothing can be sent, and the next stream starts with everything that waits.
            session?;
            match &attempt.stage {
                Stage::Ended { resend_at, .. } => Some(*resend_at),
                Stage::Preparing | Stage::Calling | Stage::Stopping(_) => {
                    attempt.progress_due(timings.progress)
                }
            }
        });
        let of_drain = self.drain.as_ref().and_then(|d| d.next_wake(timings));
        of_session
            .into_iter()
            .chain(of_attempts)
            .chain(of_drain)
            .min()
    }

    /// For metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let unacked = self.attempts.values().filter(|a| a.is_ended()).count();
        Counts {
            held: self.attempts.len() - unacked,
            unacked,
        }
    }

    /// All that time alone brings about. Runs after every event, so no order of events can starve it.
    fn pass_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.watch_silence(now, actions);
        self.beat(now, actions);
        self.send_waiting(now, actions);
        self.pass_drain(now, actions);
    }

    /// Resends outcomes and sends progress whose time has come.
    fn send_waiting(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.session.is_none() {
            return;
        }
        let timings = &self.settings.timings;
        for (key, attempt) in &mut self.attempts {
            if attempt
                .progress_due(timings.progress)
                .is_some_and(|due| due <= now)
                && let Some(progress) = attempt.take_progress(key, now)
            {
                actions.push(send(from_worker::Message::Progress(progress)));
            }
            if let Stage::Ended { outcome, resend_at } = &mut attempt.stage
                && *resend_at <= now
            {
                *resend_at = now + timings.resend;
                actions.push(send_outcome(outcome));
            }
        }
    }
}

fn send(message: from_worker::Message) -> Action {
    Action::Send(FromWorker {
        message: Some(message),
    })
}

fn send_outcome(outcome: &Outcome) -> Action {
    send(from_worker::Message::Outcome(outcome.clone()))
}
