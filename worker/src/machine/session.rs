//! The present stream: Hello, heartbeats and their echoes, silence, numbering. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use kinora_protocol::DISPATCH_PROTOCOL_VERSION;
use kinora_protocol::dispatch::{
    AttemptRef, Beat, Draining, Heartbeat, Hello, ToWorker, from_worker, to_worker,
};

use super::{Action, DropReason, Machine, Stage, Timings, send, send_outcome};

/// Unechoed heartbeats whose send time is remembered. Silence ends a stream long before.
const MAX_UNECHOED: usize = 64;

#[derive(Debug)]
pub(super) struct Session {
    opened_at: Duration,
    pub(super) last_heard: Duration,
    received_seq: u64,
    next_heartbeat: Duration,
    unechoed: VecDeque<(u64, Duration)>,
}

impl Session {
    pub(super) fn next_wake(&self, timings: &Timings) -> Duration {
        self.next_heartbeat.min(self.last_heard + timings.silence)
    }
}

impl Machine {
    /// Hello first, with all that is in our hands; then what the operator may not have heard yet.
    pub(super) fn open_session(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.forget_asked_drain();
        let (held, unacked) = self.in_hand();
        actions.push(send(from_worker::Message::Hello(Hello {
            protocol_version: DISPATCH_PROTOCOL_VERSION,
            slots: self.settings.slots,
            instance: self.settings.instance.clone(),
            held,
            unacked,
        })));
        self.session = Some(Session {
            opened_at: now,
            last_heard: now,
            received_seq: 0,
            next_heartbeat: now,
            unechoed: VecDeque::new(),
        });
        if self.drain.is_some() {
            self.announce_drain(now, actions);
        }
        let resend = self.settings.timings.resend;
        for attempt in self.attempts.values_mut() {
            if let Stage::Ended { outcome, resend_at } = &mut attempt.stage {
                *resend_at = now + resend;
                actions.push(send_outcome(outcome));
            }
        }
    }

    pub(super) fn announce_drain(&mut self, now: Duration, actions: &mut Vec<Action>) {
        actions.push(send(from_worker::Message::Draining(Draining {})));
        // Its echo proves that the operator has read the announcement before it.
        self.send_heartbeat(now, actions);
        if let Some(drain) = &mut self.drain {
            drain.announced(self.heartbeat_seq, now);
        }
    }

    pub(super) fn receive(&mut self, message: ToWorker, now: Duration, actions: &mut Vec<Action>) {
        let Some(session) = &mut self.session else {
            return;
        };
        if message.seq != session.received_seq + 1 {
            self.drop_link(DropReason::Gap, actions);
            return;
        }
        if session.received_seq == 0 {
            // Whatever it is, it answers our Hello.
            self.echoed_at = self.echoed_at.max(Some(session.opened_at));
        }
        session.received_seq = message.seq;
        session.last_heard = now;
        match message.message {
            Some(to_worker::Message::Lease(lease)) => self.lease(lease, now, actions),
            Some(to_worker::Message::Beat(beat)) => self.echoed(&beat),
            Some(to_worker::Message::Ack(ack)) => self.ack(&ack, actions),
            Some(to_worker::Message::Cancel(cancel)) => self.cancel(&cancel, actions),
            Some(to_worker::Message::Drain(_)) => self.drain_by_operator(now, actions),
            // A kind this build does not know. It counts as heard.
            None => {}
        }
    }

    fn echoed(&mut self, beat: &Beat) {
        let Some(session) = &mut self.session else {
            return;
        };
        while let Some((seq, sent_at)) = session.unechoed.pop_front_if(|(s, _)| *s <= beat.seq) {
            if seq == beat.seq {
                // The time it was sent, not now: an echo that lay in a socket while we were stopped proves nothing newer.
                self.echoed_at = self.echoed_at.max(Some(sent_at));
                if let Some(drain) = &mut self.drain {
                    drain.echoed(seq);
                }
            }
        }
    }

    /// True if the operator cannot have given our leases to others yet, so that a side effect may begin.
    pub(super) fn may_begin(&self, now: Duration) -> bool {
        self.echoed_at
            .is_some_and(|at| now.saturating_sub(at) < self.settings.timings.fence)
    }

    pub(super) fn watch_silence(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let silence = self.settings.timings.silence;
        if self
            .session
            .as_ref()
            .is_some_and(|s| now.saturating_sub(s.last_heard) >= silence)
        {
            self.drop_link(DropReason::Silence, actions);
        }
    }

    pub(super) fn beat(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self
            .session
            .as_ref()
            .is_some_and(|s| s.next_heartbeat <= now)
        {
            self.send_heartbeat(now, actions);
        }
    }

    fn send_heartbeat(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let (held, unacked) = self.in_hand();
        let Some(session) = &mut self.session else {
            return;
        };
        self.heartbeat_seq += 1;
        session.next_heartbeat = now + self.settings.timings.heartbeat;
        session.unechoed.push_back((self.heartbeat_seq, now));
        if session.unechoed.len() > MAX_UNECHOED {
            session.unechoed.pop_front();
        }
        actions.push(send(from_worker::Message::Heartbeat(Heartbeat {
            seq: self.heartbeat_seq,
            held,
            unacked,
            received_seq: session.received_seq,
        })));
    }

    fn drop_link(&mut self, reason: DropReason, actions: &mut Vec<Action>) {
        self.session = None;
        actions.push(Action::DropLink(reason));
    }

    fn in_hand(&self) -> (Vec<AttemptRef>, Vec<AttemptRef>) {
        let (ended, running): (Vec<_>, Vec<_>) =
            self.attempts.iter().partition(|(_, a)| a.is_ended());
        let refs = |list: Vec<(&super::AttemptKey, &super::Attempt)>| {
            list.into_iter().map(|(key, _)| key.to_ref()).collect()
        };
        (refs(running), refs(ended))
    }
}
