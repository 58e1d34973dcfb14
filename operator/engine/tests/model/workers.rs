//! The worker, as far as the protocol goes: it takes leases, calls, reports, repeats, and loses its stream.

use std::collections::{BTreeSet, VecDeque};

use kinora_engine::action::ToWorker;
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::*;

use crate::mutants::Mutant;
use crate::state::{Line, POOL, Up};
use crate::world::{Choice, World, appeared};

impl World<'_> {
    /// A new stream; what was under way on the old one is dropped before.
    pub(crate) fn connect(&mut self, h: usize, r: usize, choice: Choice) {
        let hand = self.hand(h);
        hand.streams += 1;
        let session = SessionId(100 * (h as u64 + 1) + hand.streams);
        let (held, unacked) = self.lists(h);
        let listed: BTreeSet<AttemptId> = held.iter().chain(&unacked).copied().collect();
        self.hand(h).line = Some(Line {
            replica: r,
            session,
            inbox: VecDeque::new(),
            received: 0,
            up: VecDeque::new(),
            mute: false,
            sure: BTreeSet::new(),
        });
        if let Some(n) = self.pod_of(h) {
            // The watch may be behind its pod's Hello.
            self.feed(r, appeared(self.s.pods[n].id), Choice::Nobody);
        }
        let replica = self.s.replicas[r].get();
        let calm = replica.requests.is_empty() && replica.answers.is_empty();
        let (worker, instance) = (self.s.hands[h].uid, self.s.hands[h].instance);
        self.note_unread(h);
        let hello = Event::Hello {
            session,
            worker: Uid(worker),
            pool: POOL,
            slots: 1,
            instance: Uid(instance),
            held,
            unacked,
        };
        self.feed(r, hello, choice);
        let sure = listed
            .into_iter()
            .filter(|id| calm && self.s.runs(*id, worker));
        let sure: BTreeSet<AttemptId> = sure.collect();
        if let Some(line) = self.line(h) {
            line.sure.extend(sure);
        }
        self.repeat(h);
    }

    /// A lease that the pod's new process does not have may have died with the old one: its Hello counts as the proof, whatever
    /// becomes of the pod before that is written.
    fn note_unread(&mut self, h: usize) {
        let hand = &self.s.hands[h];
        if hand.is_first_process() {
            return;
        }
        let claims = self.s.truth.claims.keys().copied();
        let lacks = |id: &AttemptId| self.s.runs(*id, hand.uid) && !hand.has(*id);
        let unread: Vec<AttemptId> = claims.filter(lacks).collect();
        self.truth().unread.extend(unread);
    }

    /// Both ends see that the stream is over.
    pub(crate) fn break_stream(&mut self, h: usize) {
        let sent = self.s.hands[h].line.as_ref().map(|line| line.sure.clone());
        self.hand(h).sent.extend(sent.into_iter().flatten());
        if let Some(line) = self.hand(h).line.take()
            && self.s.replicas[line.replica].get().paused.is_none()
        {
            self.feed(line.replica, Event::Closed(line.session), Choice::Nobody);
        }
    }

    /// The process ends by itself and starts again, with nothing in hand.
    pub(crate) fn crash(&mut self, h: usize) {
        if let Some(n) = self.pod_of(h) {
            // It is never started again.
            return self.lose_pod(n, true);
        }
        let has: Vec<AttemptId> = {
            let hand = &self.s.hands[h];
            let claims = self.s.truth.claims.keys().copied();
            claims.filter(|id| hand.has(*id)).collect()
        };
        self.truth().died.extend(has);
        self.break_stream(h);
        let sent = std::mem::take(&mut self.hand(h).sent);
        self.truth().unread.extend(sent);
        let hand = self.hand(h);
        hand.instance += 1;
        hand.held.clear();
        hand.unacked.clear();
    }

    /// The pod was being deleted, and now it is gone; another one takes its place.
    pub(crate) fn replace_pod(&mut self, h: usize) {
        if let Some(n) = self.pod_of(h) {
            return self.lose_pod(n, self.is(Mutant::DrainTakenForDeath));
        }
        self.break_stream(h);
        let worker = Uid(self.s.hands[h].uid);
        let by_itself = self.is(Mutant::DrainTakenForDeath);
        for r in 0..2 {
            self.feed(r, Event::PodGone { worker, by_itself }, Choice::Nobody);
        }
        let hand = self.hand(h);
        hand.uid += 10;
        hand.sent.clear();
        hand.instance = 1000 * hand.uid;
        hand.held.clear();
        hand.unacked.clear();
        hand.drained = false;
    }

    pub(crate) fn receive(&mut self, h: usize) {
        let Some((seq, message)) = self.line(h).and_then(|line| line.inbox.pop_front()) else {
            return;
        };
        if let Some(line) = self.line(h) {
            line.received = seq;
        }
        let hand = self.hand(h);
        match message {
            ToWorker::Lease(id) if hand.drained => self.end_call(h, id, Fact::Released),
            ToWorker::Lease(id) => {
                if !hand.unacked.contains_key(&id) {
                    hand.held.insert(id);
                }
            }
            ToWorker::Ack(id, _) => {
                hand.unacked.remove(&id);
                hand.held.remove(&id);
            }
            ToWorker::Cancel(id) => {
                if hand.held.remove(&id) {
                    self.end_call(h, id, Fact::Released);
                }
            }
            ToWorker::Beat(_) | ToWorker::Drain => {}
        }
    }

    /// A call ends; the worker says so, and will say so again until it is acknowledged.
    pub(crate) fn end_call(&mut self, h: usize, id: AttemptId, fact: Fact) {
        let worker = self.s.hands[h].uid;
        let hand = self.hand(h);
        hand.held.remove(&id);
        hand.unacked.insert(id, fact);
        if let Some(line) = &mut hand.line {
            line.up.push_back(Up::Outcome(id, fact));
        }
        self.truth().reported.insert((id, worker), fact);
    }

    /// Says again what was not acknowledged.
    pub(crate) fn repeat(&mut self, h: usize) {
        let unacked = self.s.hands[h].unacked.clone();
        if let Some(line) = self.line(h) {
            for (id, fact) in unacked {
                let up = Up::Outcome(id, fact);
                if !line.up.contains(&up) {
                    line.up.push_back(up);
                }
            }
        }
    }

    /// What the worker said arrives.
    pub(crate) fn deliver(&mut self, h: usize, choice: Choice) {
        let Some(line) = self.line(h) else { return };
        let (r, session) = (line.replica, line.session);
        let event = match line.up.pop_front() {
            Some(Up::Beat {
                received,
                held,
                unacked,
            }) => Event::Heartbeat {
                session,
                seq: 1,
                received,
                held,
                unacked,
            },
            Some(Up::Outcome(attempt, fact)) => Event::Outcome {
                session,
                attempt,
                fact,
                retry_after: None,
            },
            None => return,
        };
        self.feed(r, event, choice);
    }
}
