//! What may happen next: everything that the protocol allows in any order, and every fault while there is budget for one.

use kinora_engine::action::PodAction;
use kinora_engine::event::{Answer, Lead};
use kinora_engine::outcome::Fact;
use kinora_engine::*;

use crate::mutants::Mutant;
use crate::state::{Pod, START, Stage, State};
use crate::world::{Choice, Model, World};

/// One step of the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// A request of a replica is executed and answered.
    Serve(usize, usize),
    /// It is executed; the answer is under way.
    ServeSlowly(usize, usize),
    /// An answer arrives.
    Answer(usize, usize),
    /// A write that its sender gave up arrives after all.
    LateWrite(usize),
    Watch(usize),
    Claim(usize, Uid, usize),
    Connect(usize, usize, Choice),
    Deliver(usize, Choice),
    Receive(usize),
    EndCall(usize, AttemptId, Fact),
    Beat(usize),
    Repeat(usize),
    Pass(u32, Choice),
    Lead(usize, Lead),
    Resume(usize),
    Cancel(usize),
    Suspend(usize),
    /// A replica is asked to bring a dead letter back, for a request that is new, or for the one that did before.
    Redrive(usize, usize, Uid),
    /// The pod of an attempt gets its process.
    StartPod(usize, usize),
    Fault(Fault, usize, usize),
    /// No fault any more: everything ends. Leads on only if that fails.
    Settle,
}

/// What goes wrong. The numbers of an [`Act::Fault`] say to whom: a replica or worker, and which of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Done, and the answer is lost.
    AnswerLost,
    /// Lost on the way there.
    RequestLost,
    /// The sender gives up; it may still be done much later.
    WriteLate,
    /// The store cannot be asked.
    StoreAway,
    /// The watch is silent for good.
    WatchDead,
    ReplicaCrash,
    /// SIGSTOP.
    ReplicaPause,
    /// Its writes fail and nothing reaches it for 14 s.
    ReplicaBlind,
    WorkerCrash,
    /// The pod is being deleted.
    WorkerDrain,
    /// Its stream is over, and both ends know.
    StreamBroken,
    /// Its stream is over, and only the worker knows.
    StreamHalfOpen,
    /// Nothing that it says arrives any more.
    WorkerMute,
    /// The pod of an attempt is deleted, whether it has a process or not.
    PodLost,
}

const LEADS: [Lead; 3] = [Lead::Leader, Lead::Doubtful, Lead::Standby];
/// Beyond the grace of a dropped stream, silence and adoption, and the time of a call.
const PASSES: [u32; 3] = [3, 14, 100];

impl Model {
    pub(crate) fn enabled(&self, s: &State, out: &mut Vec<Act>) {
        if self.is_sampled(s) {
            out.push(Act::Settle);
        }
        (0..2).for_each(|r| self.of_replica(s, r, out));
        (0..2).for_each(|h| self.of_worker(s, h, out));
        let pending = |(_, pod): &(usize, &Pod)| pod.stage == Stage::Pending;
        if let Some(free) = s.hands.iter().position(|hand| !hand.exists()) {
            let waiting = s.pods.iter().enumerate().filter(pending);
            out.extend(waiting.map(|(n, _)| Act::StartPod(n, free)));
        }
        out.extend((0..s.late.len()).map(Act::LateWrite));
        if s.left.passes > 0 {
            out.extend(PASSES.map(|t| Act::Pass(t, Choice::Nobody)));
            out.push(Act::Pass(14, Choice::For(0)));
            out.push(Act::Pass(14, Choice::For(1)));
        }
        if s.left.edits > 0 {
            for (slot, job) in s.etcd.iter().enumerate() {
                if job
                    .as_ref()
                    .is_some_and(|j| !j.spec.cancel && !j.spec.suspend)
                {
                    out.push(Act::Cancel(slot));
                    out.push(Act::Suspend(slot));
                }
                if job
                    .as_ref()
                    .is_some_and(|j| j.status.phase == Phase::DeadLettered)
                {
                    for by in [Uid(900), Uid(901)] {
                        out.extend((0..2).map(|r| Act::Redrive(r, slot, by)));
                    }
                }
            }
        }
        if s.left.faults > 0 {
            for fault in self.faults {
                for who in 0..2 {
                    (0..fault.targets(s, who)).for_each(|n| out.push(Act::Fault(*fault, who, n)));
                }
            }
        }
    }

    fn of_replica(&self, s: &State, r: usize, out: &mut Vec<Act>) {
        let replica = s.replicas[r].get();
        if replica.paused.is_some() {
            out.push(Act::Resume(r));
            return;
        }
        for n in 0..replica.requests.len() {
            out.push(Act::Serve(r, n));
            if s.left.faults > 0 && binds(&replica.requests[n]) {
                out.push(Act::ServeSlowly(r, n));
            }
        }
        out.extend((0..replica.answers.len()).map(|n| Act::Answer(r, n)));
        if !replica.watch.is_empty() {
            out.push(Act::Watch(r));
        }
        let lead = replica.engine.lead();
        if lead == Lead::Leader {
            for job in s.etcd.iter().flatten() {
                if job.status.attempt < self.attempts {
                    let places = if self.pods { 1 } else { 2 };
                    out.extend((0..places).map(|h| Act::Claim(r, job.uid, h)));
                }
            }
        }
        if s.left.leads > 0 {
            let others = LEADS.into_iter().filter(|to| *to != lead);
            out.extend(others.map(|to| Act::Lead(r, to)));
        }
    }

    fn of_worker(&self, s: &State, h: usize, out: &mut Vec<Act>) {
        let hand = &s.hands[h];
        if !hand.exists() {
            return;
        }
        for id in &hand.held {
            out.extend(self.facts.iter().map(|fact| Act::EndCall(h, *id, *fact)));
        }
        let Some(line) = &hand.line else {
            for r in 0..2 {
                let replica = s.replicas[r].get();
                if replica.paused.is_none() && replica.engine.lead() != Lead::Standby {
                    out.push(Act::Connect(h, r, Choice::Nobody));
                    out.push(Act::Connect(h, r, Choice::For(1 - h)));
                }
            }
            return;
        };
        if !line.inbox.is_empty() {
            out.push(Act::Receive(h));
        }
        let is_heard = !line.mute && s.replicas[line.replica].get().paused.is_none();
        if is_heard && !line.up.is_empty() {
            out.push(Act::Deliver(h, Choice::Nobody));
            out.push(Act::Deliver(h, Choice::For(1 - h)));
        }
        if s.left.beats > 0 && line.up.len() < 2 {
            out.push(Act::Beat(h));
            if !hand.unacked.is_empty() {
                out.push(Act::Repeat(h));
            }
        }
    }
}

fn binds(action: &Action) -> bool {
    matches!(
        action,
        Action::Write { .. } | Action::Read { .. } | Action::Delete { .. } | Action::Pod(_)
    )
}

impl Fault {
    /// How many things of this worker or replica it can hit.
    fn targets(self, s: &State, who: usize) -> usize {
        let (replica, hand) = (s.replicas[who].get(), &s.hands[who]);
        let runs = replica.paused.is_none();
        let (lined, writes) = (hand.line.is_some(), replica.requests.len());
        match self {
            Fault::AnswerLost | Fault::RequestLost | Fault::WriteLate | Fault::StoreAway => {
                if runs { writes } else { 0 }
            }
            Fault::WatchDead => usize::from(!replica.deaf),
            Fault::ReplicaCrash | Fault::ReplicaPause | Fault::ReplicaBlind => usize::from(runs),
            Fault::WorkerCrash => usize::from(hand.exists()),
            Fault::WorkerDrain => usize::from(hand.exists() && !hand.drained),
            Fault::PodLost if who == 0 => s.pods.len(),
            Fault::PodLost => 0,
            Fault::StreamBroken | Fault::StreamHalfOpen | Fault::WorkerMute => usize::from(lined),
        }
    }
}

impl World<'_> {
    pub(crate) fn apply(&mut self, act: Act) {
        match act {
            Act::Serve(r, n) | Act::ServeSlowly(r, n) if !self.has_request(r, n) => {}
            Act::Serve(r, n) => {
                let action = self.s.replicas[r].edit().requests.remove(n);
                if let Some(answer) = self.execute(r, &action) {
                    self.answer(r, answer, Choice::Nobody);
                }
            }
            Act::ServeSlowly(r, n) => {
                let action = self.s.replicas[r].edit().requests.remove(n);
                let answer = self.execute(r, &action);
                self.s.replicas[r].edit().answers.extend(answer);
            }
            Act::Answer(r, n) => {
                let answer = self.s.replicas[r].edit().answers.remove(n);
                self.answer(r, answer, Choice::Nobody);
            }
            Act::LateWrite(n) => {
                let action = self.s.late.remove(n);
                self.execute(0, &action);
            }
            Act::Watch(r) => self.watch(r),
            Act::Claim(r, job, h) => self.feed(r, Event::Alive, Choice::Pair(job, h)),
            Act::Connect(h, r, choice) => self.connect(h, r, choice),
            Act::Deliver(h, choice) => self.deliver(h, choice),
            Act::Receive(h) => self.receive(h),
            Act::EndCall(h, id, fact) => self.end_call(h, id, fact),
            Act::Beat(h) => {
                self.s.left.beats -= 1;
                self.beat(h);
            }
            Act::Repeat(h) => {
                self.s.left.beats -= 1;
                self.repeat(h);
            }
            Act::Pass(seconds, choice) => {
                self.s.left.passes -= 1;
                self.pass(seconds, None, choice);
            }
            Act::Lead(r, lead) => {
                self.s.left.leads -= 1;
                self.feed(r, Event::Lead(lead), Choice::Nobody);
            }
            Act::Resume(r) => self.resume(r),
            Act::Settle => self.settle(),
            Act::Redrive(r, slot, by) => {
                self.s.left.edits -= 1;
                let job = Uid(slot as u128 + 1);
                self.feed(r, Event::Redrive { job, by }, Choice::Nobody);
            }
            Act::StartPod(n, h) => self.start_pod(n, h),
            Act::Cancel(slot) => self.edit(slot, |spec| spec.cancel = true),
            Act::Suspend(slot) => self.edit(slot, |spec| spec.suspend = true),
            Act::Fault(fault, who, n) => {
                self.s.left.faults -= 1;
                self.fault(fault, who, n);
            }
        }
    }

    fn fault(&mut self, fault: Fault, who: usize, n: usize) {
        match fault {
            Fault::AnswerLost | Fault::RequestLost | Fault::WriteLate | Fault::StoreAway => {
                self.fail_request(fault, who, n);
            }
            Fault::WatchDead => {
                let replica = self.s.replicas[who].edit();
                replica.deaf = true;
                replica.watch.clear();
            }
            Fault::ReplicaCrash => {
                for h in 0..2 {
                    if self.s.hands[h]
                        .line
                        .as_ref()
                        .is_some_and(|l| l.replica == who)
                    {
                        self.hand(h).line = None;
                    }
                }
                self.boot(who);
            }
            Fault::ReplicaPause => self.s.replicas[who].edit().paused = Some(self.s.now),
            Fault::ReplicaBlind => self.pass(14, Some(who), Choice::Nobody),
            Fault::WorkerCrash if self.s.hands[who].drained => self.replace_pod(who),
            Fault::WorkerCrash => self.crash(who),
            Fault::WorkerDrain => {
                self.hand(who).drained = true;
                let worker = Uid(self.s.hands[who].uid);
                (0..2).for_each(|r| self.feed(r, Event::PodDraining(worker), Choice::Nobody));
            }
            Fault::StreamBroken => self.break_stream(who),
            Fault::PodLost if self.s.pods[n].stage != Stage::Gone => self.lose_pod(n, false),
            Fault::PodLost => {}
            Fault::StreamHalfOpen => self.hand(who).line = None,
            Fault::WorkerMute => {
                if let Some(line) = self.line(who) {
                    line.mute = true;
                }
            }
        }
    }

    fn fail_request(&mut self, fault: Fault, r: usize, n: usize) {
        let action = self.s.replicas[r].edit().requests.remove(n);
        let away = !binds(&action);
        match fault {
            Fault::AnswerLost => drop(self.execute(r, &action)),
            Fault::WriteLate if matches!(action, Action::Write { .. } | Action::Pod(_)) => {
                self.s.late.push(action.clone());
            }
            _ => {}
        }
        let (job, token) = match &action {
            Action::Write { job, token, .. }
            | Action::Read { job, token }
            | Action::CheckSource { job, token }
            | Action::ReadRecord { job, token }
            | Action::WriteRecord { job, token }
            | Action::Clean { job, token }
            | Action::Delete { job, token, .. } => (*job, *token),
            Action::Prepare { token, attempt, .. }
            | Action::CheckOutputs { token, attempt, .. } => (attempt.job, *token),
            Action::Reactivate { job, token, .. } => (*job, *token),
            Action::Pod(
                PodAction::Make { token, attempt, .. } | PodAction::Find { token, attempt },
            ) => (attempt.job, *token),
            Action::Pod(PodAction::Remove { .. })
            | Action::Send { .. }
            | Action::Close { .. }
            | Action::Redriven { .. } => return,
        };
        if let Action::Read { .. } = action {
            // The shell repeats a read until it is answered.
            self.s.replicas[r].edit().requests.push(action);
            return;
        }
        let answer = if away { Answer::Away } else { Answer::Unknown };
        self.answer(r, (job, token, answer), Choice::Nobody);
    }

    /// A mutant may have none where the engine has one.
    fn has_request(&self, r: usize, n: usize) -> bool {
        n < self.s.replicas[r].get().requests.len()
    }

    fn edit(&mut self, slot: usize, change: impl FnOnce(&mut Spec)) {
        self.s.left.edits -= 1;
        self.change_spec(slot, change);
    }

    pub(crate) fn change_spec(&mut self, slot: usize, change: impl FnOnce(&mut Spec)) {
        let Some(job) = self.s.etcd[slot].clone() else {
            return;
        };
        let mut job = (*job).clone();
        change(&mut job.spec);
        job.generation += 1;
        job.rv = Rv(job.rv.0 + 1);
        self.store_job(job);
    }

    /// It goes on where it was. Its clock comes first, its sockets after.
    pub(crate) fn resume(&mut self, r: usize) {
        let Some(since) = self.s.replicas[r].edit().paused.take() else {
            return;
        };
        let now = self.s.now;
        if self.is(Mutant::PauseNotExcused) {
            for second in since..now {
                self.s.now = second + 1;
                self.feed(r, Event::Alive, Choice::Nobody);
                self.feed(r, Event::Tick, Choice::Nobody);
            }
        }
        self.s.now = now;
        self.feed(r, Event::Tick, Choice::Nobody);
    }
}

/// An upload's job, as it is created.
pub(crate) fn fresh_job(uid: u128, archive: bool) -> Job {
    Job {
        uid: Uid(uid),
        rv: Rv(1),
        generation: 1,
        spec: Spec {
            namespace: crate::state::NAMESPACE,
            own_source: true,
            ttl: archive.then_some(std::time::Duration::ZERO),
            created: START,
            ..Spec::default()
        },
        status: Status::default(),
    }
}
