//! Where a search begins, and how every state it reaches is tried for what must still come.

use std::sync::Arc;

use kinora_engine::event::Lead;
use kinora_engine::outcome::Fact;
use kinora_engine::*;
use std::hash::{BuildHasher, BuildHasherDefault};

use crate::actions::{Act, fresh_job};
use crate::properties::{Broken, Invariant};
use crate::state::{Documents, Hand, Pod, Shared, Stage, State};
use crate::world::{Choice, Model, World};

/// Requests that are served in one second when nothing goes wrong: more are one that is made for ever.
const PER_ROUND: usize = 30;
/// The VideoJobRedrive that brought a job back before.
const REQUEST: Uid = Uid(900);

/// Each goes on from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Start {
    /// Replica 0 leads, both workers are connected to it, every job is queued.
    Ready,
    /// Job 1 is claimed for worker 0; its lease is not sent yet.
    Claimed,
    /// Worker 0 calls.
    Running,
    /// The call succeeded, its finish is stored, its record is not.
    Finished,
    /// Replica 1 leads, too, and does not know of the claim.
    StaleLeader,
    /// Replica 1 leads, too.
    TwoLeaders,
    /// Job 1 is a dead letter that request 900 brought back once before.
    Dead,
    /// etcd was restored from before the end of job 1, which has its record.
    Restored,
}

impl Model {
    pub(crate) fn world(&self, s: State) -> World<'_> {
        World {
            model: self,
            s,
            settling: false,
        }
    }

    pub(crate) fn begin(&self, start: Start) -> State {
        let hand = |n: u128| {
            Arc::new(Hand {
                uid: n,
                instance: 1000 * n,
                ..Hand::default()
            })
        };
        let jobs = 1..=self.jobs;
        let state = State {
            now: 0,
            etcd: jobs
                .clone()
                .map(|n| Some(Arc::new(fresh_job(n, self.archive))))
                .collect(),
            store: jobs
                .map(|_| Documents {
                    record: None,
                    active: true,
                })
                .collect(),
            replicas: [
                Shared::new(Default::default()),
                Shared::new(Default::default()),
            ],
            hands: if self.pods {
                [hand(0), hand(0)]
            } else {
                [hand(1), hand(2)]
            },
            pods: Vec::new(),
            late: Vec::new(),
            truth: Arc::default(),
            left: self.budget,
            broken: Broken::default(),
        };
        let mut world = self.world(state);
        world.prepare(start);
        (0..2).for_each(|r| world.boot(r));
        world.feed(0, Event::Lead(Lead::Leader), Choice::Nobody);
        if !self.pods {
            (0..2).for_each(|h| world.connect(h, 0, Choice::Nobody));
        }
        if start >= Start::Dead {
            return world.seal();
        }
        if start >= Start::Claimed {
            world.apply(Act::Claim(0, Uid(1), 0));
            world.apply(Act::Serve(0, 0));
        }
        if start >= Start::Running && self.pods {
            world.apply(Act::Serve(0, 0));
            world.apply(Act::StartPod(0, 0));
            world.apply(Act::Connect(0, 0, Choice::Nobody));
            world.apply(Act::Serve(0, 0));
        }
        if start >= Start::Running {
            world.apply(Act::Serve(0, 0));
            world.apply(Act::Receive(0));
        }
        if start == Start::Finished {
            let id = AttemptId {
                job: Uid(1),
                attempt: 1,
            };
            world.end_call(0, id, Fact::Succeeded);
            world.deliver(0, Choice::Nobody);
            world.apply(Act::Serve(0, 0));
            world.apply(Act::Serve(0, 0));
        }
        if start >= Start::StaleLeader {
            while start == Start::TwoLeaders && !world.s.replicas[1].get().watch.is_empty() {
                world.watch(1);
            }
            world.feed(1, Event::Lead(Lead::Leader), Choice::Nobody);
        }
        world.seal()
    }

    /// Whether this state is one of those that are tried for how they go on without faults.
    pub(crate) fn is_sampled(&self, state: &State) -> bool {
        let digest = BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(state);
        digest.is_multiple_of(self.settle_every)
    }
}

impl World<'_> {
    /// What etcd and the store hold at a start that is not the beginning of a job.
    fn prepare(&mut self, start: Start) {
        let first = Arc::make_mut(self.s.etcd[0].get_or_insert_default());
        match start {
            Start::Dead => {
                first.status = Status {
                    phase: Phase::DeadLettered,
                    reason: Reason::FailuresExhausted,
                    observed: 1,
                    attempt: 1,
                    failures: 1,
                    redrives: 1,
                    redriven_by: Some(REQUEST),
                    since: Some(first.spec.created),
                    finished: Some(first.spec.created),
                    ..Status::default()
                };
                self.s.store[0] = Documents {
                    record: Some(1),
                    active: false,
                };
                self.truth().redriven.insert((Uid(1), REQUEST));
            }
            Start::Restored => {
                self.s.store[0] = Documents {
                    record: Some(0),
                    active: false,
                };
                self.truth().results.insert(Uid(1));
            }
            Start::Ready
            | Start::Claimed
            | Start::Running
            | Start::Finished
            | Start::StaleLeader
            | Start::TwoLeaders => {}
        }
    }

    /// Goes on without faults until every job has ended and every report is acknowledged.
    pub(crate) fn settle(&mut self) {
        self.settling = true;
        let leader = self.calm_down();
        for round in 0..400 {
            if self.is_settled() || self.s.broken.any() {
                return;
            }
            for r in 0..2 {
                while !self.s.replicas[r].get().watch.is_empty() {
                    self.watch(r);
                }
                for _ in 0..PER_ROUND {
                    if let Some(act) = pending(self.s.replicas[r].get(), r) {
                        self.apply(act);
                    }
                }
            }
            (0..2).for_each(|h| self.work(h, leader, round % 3 == 0));
            self.pass(1, None, Choice::Nobody);
        }
        self.s.broken.note(Invariant::Stuck);
    }

    /// The faults are over: one leader, whoever leads already; who is stopped goes on; who is suspended is let go.
    fn calm_down(&mut self) -> usize {
        while !self.s.late.is_empty() {
            self.apply(Act::LateWrite(0));
        }
        (0..2).for_each(|r| self.resume(r));
        let leads = |r: &usize| self.s.replicas[*r].get().engine.lead() == Lead::Leader;
        let leader = (0..2).find(leads).unwrap_or(1);
        self.feed(1 - leader, Event::Lead(Lead::Standby), Choice::Nobody);
        self.feed(leader, Event::Lead(Lead::Leader), Choice::Nobody);
        self.list_ended_pods();
        let suspended = |job: &Option<Arc<Job>>| job.as_ref().is_some_and(|j| j.spec.suspend);
        if self.s.etcd.iter().any(suspended) {
            // What its author does can only be seen by a watch: a silent one is replaced in the end.
            (0..2).for_each(|r| self.s.replicas[r].edit().deaf = false);
        }
        for slot in 0..self.s.etcd.len() {
            if self.s.etcd[slot].as_ref().is_some_and(|j| j.spec.suspend) {
                self.change_spec(slot, |spec| spec.suspend = false);
            }
        }
        for h in 0..2 {
            if self.s.hands[h].drained {
                self.replace_pod(h);
            }
            if self.s.hands[h].line.as_ref().is_some_and(|l| l.mute) {
                self.break_stream(h);
            }
        }
        leader
    }

    fn is_settled(&self) -> bool {
        let over = |job: &Option<Arc<Job>>| match job {
            None => true,
            Some(job) => job.status.phase.is_final() && !self.model.archive,
        };
        let told = self.s.hands.iter().all(|hand| hand.unacked.is_empty());
        let removed = self.s.pods.iter().all(|pod| pod.stage == Stage::Gone);
        self.s.etcd.iter().all(over) && told && removed
    }

    fn work(&mut self, h: usize, leader: usize, beat: bool) {
        if !self.s.hands[h].exists() {
            let waits = |pod: &Pod| pod.stage == Stage::Pending;
            let Some(n) = self.s.pods.iter().position(waits) else {
                return;
            };
            self.start_pod(n, h);
        }
        if self.s.hands[h].line.is_none() {
            self.connect(h, leader, Choice::Nobody);
        }
        while self.s.hands[h]
            .line
            .as_ref()
            .is_some_and(|l| !l.inbox.is_empty())
        {
            self.receive(h);
        }
        for id in self.s.hands[h].held.clone() {
            self.end_call(h, id, Fact::Succeeded);
        }
        if beat {
            self.beat(h);
            self.repeat(h);
        }
        while self.s.hands[h]
            .line
            .as_ref()
            .is_some_and(|l| !l.up.is_empty())
        {
            self.deliver(h, Choice::Nobody);
        }
    }
}

fn pending(replica: &crate::state::Replica, r: usize) -> Option<Act> {
    if !replica.answers.is_empty() {
        return Some(Act::Answer(r, 0));
    }
    (!replica.requests.is_empty()).then_some(Act::Serve(r, 0))
}
