//! The surroundings of the engine: etcd with compare-and-swap, the store, the streams. Every change of a state is made here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kinora_engine::action::ToWorker;
use kinora_engine::engine::Candidate;
use kinora_engine::event::{Answer, History};
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::*;
use rand::RngCore;

use crate::mutants::Mutant;
use crate::properties::Invariant;
use crate::state::{
    Budget, Hand, Interner, Line, POOL, START, Seen, Shared, Stage, State, Truth, Up, pod_uid, slot,
};

/// Timeout and grace of a call.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// What is modelled, and how far.
pub(crate) struct Model {
    pub(crate) jobs: u128,
    /// No more claims of one job.
    pub(crate) attempts: u32,
    pub(crate) budget: Budget,
    /// Failures until the dead letters.
    pub(crate) failures: u32,
    /// Who may die or be cut off, and what the network and the API server may do.
    pub(crate) faults: &'static [crate::actions::Fault],
    /// How calls end.
    pub(crate) facts: &'static [Fact],
    /// A pod is made for each attempt.
    pub(crate) pods: bool,
    /// The control plane was restored from a backup.
    pub(crate) rewound: bool,
    /// Jobs are deleted at once after their end, and the store takes its time; else it answers at once and they stay.
    pub(crate) archive: bool,
    pub(crate) start: &'static [crate::starts::Start],
    pub(crate) mutant: Option<Mutant>,
    /// One of so many states is tried for what happens without further faults.
    pub(crate) settle_every: u64,
    pub(crate) interner: Interner,
}

/// A state in change.
pub(crate) struct World<'a> {
    pub(crate) model: &'a Model,
    pub(crate) s: State,
    /// Claims are granted by the engine's own scheduler.
    pub(crate) settling: bool,
}

/// Draws the least of everything, so that backoffs are over at once.
pub(crate) struct Least;

impl RngCore for Least {
    fn next_u32(&mut self) -> u32 {
        0
    }
    fn next_u64(&mut self) -> u64 {
        0
    }
    fn fill_bytes(&mut self, dst: &mut [u8]) {
        dst.fill(0);
    }
}

/// What the watch says of a pod that was made for an attempt.
pub(crate) fn appeared(attempt: AttemptId) -> Event {
    let worker = pod_uid(attempt);
    Event::AttemptPod { worker, attempt }
}

/// Whom the chooser favours when a claim is possible: nobody, a worker for any job, or one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    Nobody,
    For(usize),
    Pair(Uid, usize),
}

impl World<'_> {
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.model.mutant == Some(mutant)
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            mono: Mono(1_000_000 + u64::from(self.s.now) * 1000),
            wall: Wall(START.0 + i64::from(self.s.now) * 1000),
        }
    }

    pub(crate) fn truth(&mut self) -> &mut Truth {
        Arc::make_mut(&mut self.s.truth)
    }

    pub(crate) fn hand(&mut self, h: usize) -> &mut Hand {
        Arc::make_mut(&mut self.s.hands[h])
    }

    pub(crate) fn line(&mut self, h: usize) -> Option<&mut Line> {
        self.hand(h).line.as_mut()
    }

    /// A new process: it lists, and leads nobody.
    pub(crate) fn boot(&mut self, r: usize) {
        self.s.replicas[r] = Shared::new(crate::state::Replica::default());
        let policy = PoolPolicy {
            is_default: true,
            timeout: Duration::from_secs(60),
            max_failures: self.model.failures,
            dead_letter_ttl: if self.model.archive {
                Duration::ZERO
            } else {
                PoolPolicy::default().dead_letter_ttl
            },
            interruption_limit: 2,
            pod_start: self.model.pods.then_some(crate::pods::START),
            ..PoolPolicy::default()
        };
        if self.model.rewound {
            let found_out = History::Rewound(Wall(START.0 + 1000));
            self.feed(r, Event::History(found_out), Choice::Nobody);
        }
        self.feed(r, Event::Pool(POOL, Box::new(policy)), Choice::Nobody);
        self.feed(r, Event::PoolsSynced, Choice::Nobody);
        for job in self.s.etcd.clone().into_iter().flatten() {
            self.feed(r, Event::Job(Box::new((*job).clone())), Choice::Nobody);
        }
        self.feed(r, Event::JobsSynced, Choice::Nobody);
        for pod in self.s.pods.clone() {
            if pod.stage != Stage::Gone {
                self.feed(r, appeared(pod.id), Choice::Nobody);
            }
            if pod.stage == Stage::Ended {
                let (worker, by_itself) = (pod.uid(), true);
                self.feed(r, Event::PodGone { worker, by_itself }, Choice::Nobody);
            }
        }
    }

    /// One event for one engine, and its messages; requests wait until they are served.
    pub(crate) fn feed(&mut self, r: usize, event: Event, choice: Choice) {
        let Some(event) = self.mutate_event(r, event) else {
            return;
        };
        let (now, settling, limit) = (self.now(), self.settling, self.model.attempts);
        let etcd = self.s.etcd.clone();
        let hands = [self.s.hands[0].uid, self.s.hands[1].uid];
        let mut pick = |all: &[Candidate]| {
            let claimed = |uid| {
                let job: Option<&Job> = etcd.get(slot(uid)).and_then(Option::as_deref);
                job.map_or(0, |job| job.status.attempt)
            };
            // One is as good as another where a pod is made.
            let fits = |c: &Candidate, h| c.worker.map_or(h == 0, |worker| worker.0 == hands[h]);
            all.iter()
                .find(|c| match choice {
                    Choice::Nobody => false,
                    Choice::For(h) => fits(c, h) && claimed(c.job) < limit,
                    Choice::Pair(job, h) => c.job == job && fits(c, h),
                })
                .copied()
        };
        let before = self.s.hands.clone();
        let engine = &mut self.s.replicas[r].edit().engine;
        let actions = if settling {
            engine.step(event, now, &mut Least)
        } else {
            engine.step_choosing(event, now, &mut Least, &mut pick)
        };
        let illegal = engine.illegal_writes() > 0;
        if illegal {
            self.s.broken.note(Invariant::Ends);
        }
        for action in actions {
            self.take(r, action, &before);
        }
    }

    fn take(&mut self, r: usize, action: Action, hands: &[Arc<Hand>; 2]) {
        let Some(action) = self.mutate_action(r, action) else {
            return;
        };
        match &action {
            Action::Send {
                session,
                seq,
                message,
            } => return self.send(r, *session, *seq, *message),
            Action::Close { session, .. } => {
                for h in 0..2 {
                    let is_it = |l: &Line| l.replica == r && l.session == *session;
                    if self.s.hands[h].line.as_ref().is_some_and(is_it) {
                        self.hand(h).line = None;
                    }
                }
                return;
            }
            Action::Write {
                job, before, cause, ..
            } => self.check_verdict(r, (*job, before, *cause), hands),
            Action::ReadRecord { .. } | Action::WriteRecord { .. } | Action::Clean { .. }
                if !self.model.archive =>
            {
                if let Some(answer) = self.execute(r, &action) {
                    self.answer(r, answer, Choice::Nobody);
                }
                return;
            }
            _ => {}
        }
        self.s.replicas[r].edit().requests.push(action);
    }

    pub(crate) fn send(&mut self, r: usize, session: SessionId, seq: u64, message: ToWorker) {
        let at_it = |hand: &Arc<Hand>| {
            hand.line
                .as_ref()
                .is_some_and(|l| l.replica == r && l.session == session)
        };
        let Some(h) = self.s.hands.iter().position(at_it) else {
            return;
        };
        self.check_message(self.s.hands[h].uid, message);
        let Some(line) = self.line(h) else { return };
        match message {
            // An echo counts as received with whatever came before it.
            ToWorker::Beat(_) | ToWorker::Drain if line.inbox.is_empty() => line.received = seq,
            ToWorker::Beat(_) | ToWorker::Drain => {}
            ToWorker::Lease(id) => {
                line.sure.insert(id);
                line.inbox.push_back((seq, message));
            }
            ToWorker::Ack(..) | ToWorker::Cancel(_) => line.inbox.push_back((seq, message)),
        }
    }

    pub(crate) fn answer(
        &mut self,
        r: usize,
        (job, token, answer): (Uid, Token, Answer),
        choice: Choice,
    ) {
        let event = Event::Answer { job, token, answer };
        self.feed(r, event, choice);
    }

    /// The watch of a replica says the next thing that is news to it.
    pub(crate) fn watch(&mut self, r: usize) {
        let event = match self.s.replicas[r].edit().watch.pop_front() {
            Some(Seen::Job(job)) => Event::Job(Box::new((*job).clone())),
            Some(Seen::Gone(uid)) => Event::JobDeleted(uid),
            Some(Seen::Pod(id)) => appeared(id),
            Some(Seen::PodGone(worker, by_itself)) => Event::PodGone { worker, by_itself },
            Some(Seen::PodDeleted(worker)) => Event::AttemptPodDeleted(worker),
            None => return,
        };
        self.feed(r, event, Choice::Nobody);
    }

    /// Time passes, in ticks that no replica has to excuse. Workers on streams that are not mute go on beating.
    pub(crate) fn pass(&mut self, seconds: u32, blind: Option<usize>, choice: Choice) {
        for second in 1..=seconds {
            self.s.now += 1;
            for r in 0..2 {
                if self.s.replicas[r].get().paused.is_some() {
                    continue;
                }
                if blind != Some(r) || self.is(Mutant::ExpiryWhileBlind) {
                    self.feed(r, Event::Alive, Choice::Nobody);
                }
                self.feed(r, Event::Tick, choice);
            }
            if second % 3 == 0 {
                (0..2).for_each(|h| self.beat_if_heard(h, blind));
            }
        }
    }

    fn beat_if_heard(&mut self, h: usize, blind: Option<usize>) {
        let Some(line) = self.s.hands[h].line.as_ref() else {
            return;
        };
        let heard = !line.mute && blind != Some(line.replica);
        if heard && self.s.replicas[line.replica].get().paused.is_none() {
            self.beat(h);
            while self.s.hands[h]
                .line
                .as_ref()
                .is_some_and(|l| !l.up.is_empty())
            {
                self.deliver(h, Choice::Nobody);
            }
        }
    }

    /// Sorts and shares what states have in common.
    pub(crate) fn seal(mut self) -> State {
        for r in 0..2 {
            let replica = self.s.replicas[r].get();
            let known = |seen: &Seen| match seen {
                Seen::Job(job) => replica.engine.job(job.uid).is_some_and(|k| k.rv >= job.rv),
                Seen::Gone(_) | Seen::Pod(_) | Seen::PodGone(..) | Seen::PodDeleted(_) => false,
            };
            if replica.watch.iter().any(known) {
                let news: VecDeque<Seen> = replica
                    .watch
                    .iter()
                    .filter(|s| !known(s))
                    .cloned()
                    .collect();
                self.s.replicas[r].edit().watch = news;
            }
            self.model.interner.seal(&mut self.s.replicas[r]);
        }
        self.s
    }

    /// What a worker says about all that it has.
    pub(crate) fn beat(&mut self, h: usize) {
        let hand = &self.s.hands[h];
        let (held, unacked) = self.lists(h);
        let Some(received) = hand.line.as_ref().map(|line| line.received) else {
            return;
        };
        let up = Up::Beat {
            received,
            held,
            unacked,
        };
        if let Some(line) = self.line(h) {
            line.up.push_back(up);
        }
    }

    pub(crate) fn lists(&self, h: usize) -> (Vec<AttemptId>, Vec<AttemptId>) {
        let hand = &self.s.hands[h];
        (
            hand.held.iter().copied().collect(),
            hand.unacked.keys().copied().collect(),
        )
    }
}
