//! Fluent fixtures: a job, a pool, and a world of one engine, one etcd and a store that answers as it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use kinora_engine::action::{Cause, CloseReason, PodAction, Redrive, ToWorker};
use kinora_engine::event::{Answer, Lead};
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

pub(crate) const NAMESPACE: Symbol = Symbol(1);
pub(crate) const POOL: PoolName = PoolName {
    namespace: NAMESPACE,
    name: Symbol(2),
};
/// Another one, which worlds do not know at first.
pub(crate) const OTHER: PoolName = PoolName {
    namespace: NAMESPACE,
    name: Symbol(3),
};
/// Time at which every world begins.
pub(crate) const START: Wall = Wall(1_700_000_000_000);

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An upload job, created at [`START`].
pub(crate) fn job(uid: u128) -> Job {
    Job {
        uid: Uid(uid),
        rv: Rv(0),
        generation: 1,
        spec: Spec {
            namespace: NAMESPACE,
            own_source: true,
            ttl: Some(secs(900)),
            created: START,
            ..Spec::default()
        },
        status: Status::default(),
    }
}

pub(crate) fn pool() -> PoolPolicy {
    PoolPolicy {
        is_default: true,
        ..PoolPolicy::default()
    }
}

pub(crate) fn attempt(job: u128, attempt: u32) -> AttemptId {
    AttemptId {
        job: Uid(job),
        attempt,
    }
}

/// What the store says when it is asked.
#[derive(Clone, Debug)]
pub(crate) struct StoreSays {
    pub(crate) lease: Answer,
    pub(crate) outputs: Answer,
    pub(crate) source: Answer,
    pub(crate) record: Answer,
    pub(crate) clean: Answer,
    pub(crate) pod: Answer,
    pub(crate) reactivated: Answer,
    /// Of the API server, when it does not even look.
    pub(crate) delete: Option<Answer>,
}

/// One engine and its surroundings. Actions are executed at once, unless writes or records are held back.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    pub(crate) etcd: BTreeMap<Uid, Job>,
    pub(crate) store: StoreSays,
    pub(crate) hold_writes: bool,
    pub(crate) hold_records: bool,
    pub(crate) held: Vec<Action>,
    pub(crate) sent: Vec<(SessionId, u64, ToWorker)>,
    pub(crate) writes: Vec<(Uid, Cause, Status)>,
    /// What an honest worker would list: leased or brought along, and not acknowledged.
    pub(crate) holds: BTreeMap<SessionId, Vec<AttemptId>>,
    pub(crate) asked: Vec<&'static str>,
    pub(crate) closed: Vec<(SessionId, CloseReason)>,
    pub(crate) deleted: Vec<Uid>,
    pub(crate) pods: Vec<PodAction>,
    pub(crate) redriven: Vec<(Uid, Uid, Redrive)>,
    rng: StdRng,
    rv: u64,
}

impl World {
    /// A leader that knows one default pool and nothing else.
    pub(crate) fn new() -> World {
        World::with_pool(pool())
    }

    pub(crate) fn with_pool(policy: PoolPolicy) -> World {
        let mut world = World::cold();
        world.feed(Event::Pool(POOL, Box::new(policy)));
        world.feed(Event::PoolsSynced);
        world.feed(Event::JobsSynced);
        world.feed(Event::Lead(Lead::Leader));
        world
    }

    /// A replica that knows nothing and leads nobody.
    pub(crate) fn cold() -> World {
        World {
            engine: Engine::new(),
            now: Now {
                mono: Mono(1_000_000),
                wall: START,
            },
            etcd: BTreeMap::new(),
            store: StoreSays {
                lease: Answer::Yes,
                outputs: Answer::Yes,
                source: Answer::Yes,
                record: Answer::No,
                clean: Answer::Yes,
                pod: Answer::Yes,
                reactivated: Answer::Yes,
                delete: None,
            },
            hold_writes: false,
            hold_records: false,
            held: Vec::new(),
            sent: Vec::new(),
            writes: Vec::new(),
            holds: BTreeMap::new(),
            asked: Vec::new(),
            closed: Vec::new(),
            deleted: Vec::new(),
            pods: Vec::new(),
            redriven: Vec::new(),
            rng: StdRng::seed_from_u64(7),
            rv: 100,
        }
    }

    pub(crate) fn feed(&mut self, event: Event) {
        let mut todo = self.engine.step(event, self.now, &mut self.rng);
        while !todo.is_empty() {
            let action = todo.remove(0);
            todo.extend(self.execute(action));
        }
        assert_eq!(self.engine.illegal_writes(), 0);
    }

    fn execute(&mut self, action: Action) -> Vec<Action> {
        let is_held = match action {
            Action::Write { .. } => self.hold_writes,
            Action::WriteRecord { .. } => self.hold_records,
            _ => false,
        };
        if is_held {
            self.held.push(action);
            return Vec::new();
        }
        let Some((job, token, answer)) = self.perform(action) else {
            return Vec::new();
        };
        let event = Event::Answer { job, token, answer };
        self.engine.step(event, self.now, &mut self.rng)
    }

    /// Does what an action says; the answer is the caller's to deliver.
    pub(crate) fn perform(&mut self, action: Action) -> Option<(Uid, Token, Answer)> {
        Some(match action {
            Action::Write {
                job,
                token,
                rv,
                after,
                cause,
                ..
            } => (job, token, self.cas(job, rv, *after, cause)),
            Action::Read { job, token } => {
                self.asked.push("read");
                let found = self.etcd.get(&job).cloned();
                let answer = found.map_or(Answer::Gone, |j| Answer::Found(Box::new(j)));
                (job, token, answer)
            }
            Action::Delete { job, token, .. } if self.store.delete.is_some() => {
                self.asked.push("delete");
                assert!(self.asked.len() < 10_000, "again and again without a wait");
                (job, token, self.store.delete.clone()?)
            }
            Action::Delete { job, token, rv } => {
                let same = self.etcd.get(&job).is_some_and(|j| j.rv == rv);
                if same {
                    self.etcd.remove(&job);
                    self.deleted.push(job);
                }
                (job, token, if same { Answer::Yes } else { Answer::Unknown })
            }
            Action::Prepare { token, attempt, .. } => {
                (attempt.job, token, self.store.lease.clone())
            }
            Action::CheckOutputs { token, attempt, .. } => {
                self.asked.push("outputs");
                (attempt.job, token, self.store.outputs.clone())
            }
            Action::CheckSource { token, job } => {
                self.asked.push("source");
                (job, token, self.store.source.clone())
            }
            Action::ReadRecord { token, job } => {
                self.asked.push("read record");
                (job, token, self.store.record.clone())
            }
            Action::WriteRecord { token, job } => {
                self.asked.push("write record");
                let redrives = self.etcd.get(&job).map_or(0, |j| j.status.redrives);
                self.store.record = Answer::Record(redrives);
                (job, token, Answer::Yes)
            }
            Action::Clean { token, job } => {
                self.asked.push("clean");
                (job, token, self.store.clean.clone())
            }
            Action::Pod(action) => {
                self.pods.push(action);
                match action {
                    PodAction::Make { token, attempt, .. } | PodAction::Find { token, attempt } => {
                        (attempt.job, token, self.store.pod.clone())
                    }
                    PodAction::Remove { .. } => return None,
                }
            }
            Action::Reactivate {
                token, job, undo, ..
            } => {
                self.asked
                    .push(if undo { "take back" } else { "reactivate" });
                (job, token, self.store.reactivated.clone())
            }
            Action::Redriven { job, by, outcome } => {
                self.redriven.push((job, by, outcome));
                return None;
            }
            Action::Send {
                session,
                seq,
                message,
            } => {
                let holds = self.holds.entry(session).or_default();
                match message {
                    ToWorker::Lease(id) => holds.push(id),
                    ToWorker::Ack(id, _) => holds.retain(|held| *held != id),
                    ToWorker::Beat(_) | ToWorker::Cancel(_) | ToWorker::Drain => {}
                }
                self.sent.push((session, seq, message));
                return None;
            }
            Action::Close { session, why } => {
                self.closed.push((session, why));
                return None;
            }
        })
    }

    pub(crate) fn cas(&mut self, uid: Uid, rv: Rv, after: Status, cause: Cause) -> Answer {
        self.rv += 1;
        let Some(stored) = self.etcd.get_mut(&uid) else {
            return Answer::Gone;
        };
        if stored.rv != rv {
            return Answer::Unknown;
        }
        stored.rv = Rv(self.rv);
        stored.status = after.clone();
        self.writes.push((uid, cause, after));
        Answer::Written(Box::new(stored.clone()))
    }

    /// Stores a job as somebody made or changed it, and lets the watch tell.
    pub(crate) fn put(&mut self, job: Job) {
        let stored = self.put_unseen(job);
        self.feed(Event::Job(Box::new(stored)));
    }

    /// Stores a job; the watch is late.
    pub(crate) fn put_unseen(&mut self, mut job: Job) -> Job {
        self.rv += 1;
        job.rv = Rv(self.rv);
        self.etcd.insert(job.uid, job.clone());
        job
    }

    /// A change of the spec by its author.
    pub(crate) fn edit(&mut self, uid: u128, change: impl FnOnce(&mut Spec)) {
        let mut job = self.etcd[&Uid(uid)].clone();
        change(&mut job.spec);
        job.generation += 1;
        self.put(job);
    }

    /// Time passes in ticks of 100 ms while the honest workers behind these streams keep beating; our own writes go on
    /// succeeding.
    pub(crate) fn pass(&mut self, duration: Duration, beating: &[SessionId]) {
        let ticks = duration.as_millis() / 100;
        for tick in 0..ticks {
            self.now = self.now.after(Duration::from_millis(100));
            self.feed(Event::Alive);
            self.feed(Event::Tick);
            if tick % 30 == 29 {
                for session in beating {
                    let holds = self.holds.get(session).cloned().unwrap_or_default();
                    self.beat(*session, u64::MAX, &holds);
                }
            }
        }
    }

    /// Waits out a backoff.
    pub(crate) fn until_running(&mut self, uid: u128, session: SessionId) {
        for _ in 0..7000 {
            if self.phase(uid) == Phase::Running {
                return;
            }
            self.pass(Duration::from_millis(100), &[session]);
            self.beat(session, u64::MAX, &self.holds[&session].clone());
        }
        panic!("job {uid} never ran again");
    }

    pub(crate) fn hello(&mut self, session: u64, worker: u128, slots: u32) -> SessionId {
        self.hello_with(session, worker, slots, worker * 100, &[])
    }

    pub(crate) fn hello_with(
        &mut self,
        session: u64,
        worker: u128,
        slots: u32,
        instance: u128,
        held: &[AttemptId],
    ) -> SessionId {
        self.hello_in(POOL, session, worker, slots, instance, held)
    }

    pub(crate) fn hello_in(
        &mut self,
        pool: PoolName,
        session: u64,
        worker: u128,
        slots: u32,
        instance: u128,
        held: &[AttemptId],
    ) -> SessionId {
        self.holds.insert(SessionId(session), held.to_vec());
        self.feed(Event::Hello {
            session: SessionId(session),
            worker: Uid(worker),
            pool,
            slots,
            instance: Uid(instance),
            held: held.to_vec(),
            unacked: Vec::new(),
        });
        SessionId(session)
    }

    pub(crate) fn beat(&mut self, session: SessionId, received: u64, held: &[AttemptId]) {
        self.feed(Event::Heartbeat {
            session,
            seq: 1,
            received,
            held: held.to_vec(),
            unacked: Vec::new(),
        });
    }

    pub(crate) fn report(&mut self, session: SessionId, attempt: AttemptId, fact: Fact) {
        self.report_with(session, attempt, fact, None);
    }

    pub(crate) fn report_with(
        &mut self,
        session: SessionId,
        attempt: AttemptId,
        fact: Fact,
        retry_after: Option<Duration>,
    ) {
        self.feed(Event::Outcome {
            session,
            attempt,
            fact,
            retry_after,
        });
    }

    pub(crate) fn status(&self, uid: u128) -> &Status {
        &self.etcd[&Uid(uid)].status
    }

    pub(crate) fn phase(&self, uid: u128) -> Phase {
        self.status(uid).phase
    }

    pub(crate) fn leases(&self) -> Vec<AttemptId> {
        let lease = |m: &ToWorker| match m {
            ToWorker::Lease(id) => Some(*id),
            _ => None,
        };
        self.sent.iter().filter_map(|(_, _, m)| lease(m)).collect()
    }

    pub(crate) fn acks(&self) -> Vec<(AttemptId, bool)> {
        let ack = |m: &ToWorker| match m {
            ToWorker::Ack(id, accepted) => Some((*id, *accepted)),
            _ => None,
        };
        self.sent.iter().filter_map(|(_, _, m)| ack(m)).collect()
    }

    pub(crate) fn cancels(&self) -> Vec<AttemptId> {
        let cancel = |m: &ToWorker| match m {
            ToWorker::Cancel(id) => Some(*id),
            _ => None,
        };
        self.sent.iter().filter_map(|(_, _, m)| cancel(m)).collect()
    }

    /// Worker 1 on stream 1 runs attempt 1 of job 1.
    pub(crate) fn running() -> (World, SessionId) {
        World::running_with(job(1), pool())
    }

    pub(crate) fn running_with(job: Job, policy: PoolPolicy) -> (World, SessionId) {
        let mut world = World::with_pool(policy);
        let session = world.hello(1, 1, 1);
        world.put(job);
        assert_eq!(world.phase(1), Phase::Running);
        (world, session)
    }
}
