//! What is around the engine: a control plane, a store and workers that answer at once. Everything that is said to the engine
//! is noted, so that it can be said again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kinora_engine::action::ToWorker;
use kinora_engine::event::{Answer, Lead};
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::{Fact, grpc};
use kinora_engine::policy::{Fairness, TenantShare};
use kinora_engine::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Jobs that have not ended, at any time.
pub(crate) const LIVE: u64 = 20_000;
/// Workers, and leases that each may hold.
pub(crate) const WORKERS: usize = 200;
pub(crate) const SLOTS: u32 = 4;
/// Tenants; one of them makes a third of the jobs.
pub(crate) const TENANTS: u32 = 20;
/// Shortest and longest call, in ticks.
const CALL: std::ops::Range<u64> = 30..80;

const TICK: Duration = Duration::from_millis(100);
const NAMESPACE: Symbol = Symbol(1);
const POOL: PoolName = PoolName {
    namespace: NAMESPACE,
    name: Symbol(2),
};

#[derive(Default)]
struct Hand {
    session: SessionId,
    received: u64,
    /// Calls, and the tick in which each ends.
    held: BTreeMap<AttemptId, u64>,
    unacked: BTreeMap<AttemptId, Fact>,
}

/// See the module.
pub(crate) struct World {
    engine: Engine,
    now: Now,
    /// Of the engine only.
    draws: StdRng,
    rng: StdRng,
    rv: u64,
    tick: u64,
    sessions: u64,
    etcd: BTreeMap<Uid, Job>,
    hands: Vec<Hand>,
    next: VecDeque<Event>,
    noted: Option<Vec<(Event, Now)>>,
    actions: usize,
}

impl World {
    fn new() -> World {
        let mut world = World {
            engine: Engine::new(),
            now: Now {
                mono: Mono(1_000_000),
                wall: Wall(1_700_000_000_000),
            },
            draws: StdRng::seed_from_u64(1),
            rng: StdRng::seed_from_u64(2),
            rv: 1,
            tick: 0,
            sessions: 0,
            etcd: BTreeMap::new(),
            hands: Vec::new(),
            next: VecDeque::new(),
            noted: None,
            actions: 0,
        };
        world.say(Event::Pool(POOL, Box::new(policy())));
        world.say(Event::PoolsSynced);
        world.say(Event::JobsSynced);
        world.say(Event::Lead(Lead::Leader));
        world
    }

    /// A leader with so many jobs and no worker.
    pub(crate) fn waiting(jobs: usize) -> World {
        let mut world = World::new();
        for _ in 0..jobs {
            let (event, uid) = world.created();
            world.say(event);
            world.etcd.remove(&uid);
        }
        world
    }

    /// A leader with all its jobs and workers.
    pub(crate) fn busy() -> World {
        let mut world = World::new();
        for h in 0..WORKERS {
            world.hands.push(Hand::default());
            world.connect(h);
        }
        world
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, seconds: u64) {
        (0..seconds * 10).for_each(|_| self.step());
    }

    /// Drives on until so many events were noted.
    pub(crate) fn record(mut self, events: usize) -> Recording {
        let (before, draws) = (self.engine.clone(), self.draws.clone());
        self.noted = Some(Vec::with_capacity(events));
        self.actions = 0;
        while self
            .noted
            .as_ref()
            .is_some_and(|noted| noted.len() < events)
        {
            self.step();
        }
        Recording {
            before,
            draws,
            events: self.noted.unwrap_or_default(),
            actions: self.actions,
            after: self.engine,
        }
    }

    fn step(&mut self) {
        self.tick += 1;
        self.now = self.now.after(TICK);
        if self.tick.is_multiple_of(10) {
            self.say(Event::Alive);
        }
        self.say(Event::Tick);
        (0..self.hands.len()).for_each(|h| self.work(h));
        while self.engine.live_jobs() < LIVE {
            let (event, _) = self.created();
            self.say(event);
        }
        if self.tick.is_multiple_of(50) {
            let h = self.rng.random_range(0..WORKERS);
            self.hands[h].held.clear();
            self.hands[h].unacked.clear();
            self.connect(h);
        }
        if self.tick.is_multiple_of(10) {
            self.cancel_one();
        }
    }

    fn work(&mut self, h: usize) {
        let (tick, session) = (self.tick, self.hands[h].session);
        let phase = tick + h as u64;
        let held: Vec<(AttemptId, u64)> =
            self.hands[h].held.iter().map(|(a, t)| (*a, *t)).collect();
        for (attempt, ends) in held {
            if ends <= tick {
                let fact = match self.rng.random_range(0..100) {
                    0..3 => Fact::Grpc(grpc::INTERNAL),
                    3 => Fact::Http(503),
                    _ => Fact::Succeeded,
                };
                self.hands[h].held.remove(&attempt);
                self.hands[h].unacked.insert(attempt, fact);
                self.report(session, attempt, fact);
            } else if phase.is_multiple_of(10) {
                let percent = 100 - u32::try_from((ends - tick).min(100)).unwrap_or(0);
                self.say(Event::Progress {
                    session,
                    attempt,
                    percent,
                });
            }
        }
        if phase.is_multiple_of(30) {
            self.say(Event::Heartbeat {
                session,
                seq: tick,
                received: self.hands[h].received,
                held: self.hands[h].held.keys().copied().collect(),
                unacked: self.hands[h].unacked.keys().copied().collect(),
            });
        }
    }

    fn report(&mut self, session: SessionId, attempt: AttemptId, fact: Fact) {
        self.say(Event::Outcome {
            session,
            attempt,
            fact,
            retry_after: None,
        });
    }

    fn connect(&mut self, h: usize) {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        self.hands[h].session = session;
        self.hands[h].received = 0;
        self.say(Event::Hello {
            session,
            worker: Uid(1 + h as u128),
            pool: POOL,
            slots: SLOTS,
            instance: Uid(u128::from(self.sessions)),
            held: self.hands[h].held.keys().copied().collect(),
            unacked: self.hands[h].unacked.keys().copied().collect(),
        });
    }

    fn created(&mut self) -> (Event, Uid) {
        self.rv += 1;
        let tenant = match self.rng.random_range(0..3) {
            0 => 0,
            _ => self.rng.random_range(0..TENANTS),
        };
        let job = Job {
            uid: Uid(self.rng.random()),
            rv: Rv(self.rv),
            generation: 1,
            spec: Spec {
                namespace: NAMESPACE,
                tenant: Symbol(10 + tenant),
                priority: if self.rng.random_range(0..20) == 0 {
                    10
                } else {
                    0
                },
                own_source: true,
                ttl: Some(Duration::from_secs(60)),
                created: self.now.wall.floor_second(),
                ..Spec::default()
            },
            status: Status::default(),
        };
        let uid = job.uid;
        self.etcd.insert(uid, job.clone());
        (Event::Job(Box::new(job)), uid)
    }

    /// Somebody gives up a job, whatever it is at.
    fn cancel_one(&mut self) {
        let from = Uid(self.rng.random());
        let open = |job: &&mut Job| !job.status.phase.is_final();
        let Some(job) = self.etcd.range_mut(from..).map(|(_, job)| job).find(open) else {
            return;
        };
        self.rv += 1;
        job.rv = Rv(self.rv);
        job.generation += 1;
        job.spec.cancel = true;
        let event = Event::Job(Box::new(job.clone()));
        self.say(event);
    }

    /// Says this, and whatever follows from it.
    fn say(&mut self, event: Event) {
        self.next.push_back(event);
        while let Some(event) = self.next.pop_front() {
            if let Some(noted) = &mut self.noted {
                noted.push((event.clone(), self.now));
            }
            let actions = self.engine.step(event, self.now, &mut self.draws);
            self.actions += actions.len();
            for action in actions {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        let (job, token, answer) = match action {
            Action::Write {
                job,
                token,
                rv,
                after,
                ..
            } => (job, token, self.write(job, rv, *after)),
            Action::Delete { job, token, .. } => {
                self.etcd.remove(&job);
                (job, token, Answer::Yes)
            }
            Action::Read { job, token } => {
                let found = self.etcd.get(&job).cloned();
                let answer = found.map_or(Answer::Gone, |job| Answer::Found(Box::new(job)));
                (job, token, answer)
            }
            Action::ReadRecord { job, token } => (job, token, Answer::Record(0)),
            Action::Prepare { token, attempt, .. }
            | Action::CheckOutputs { token, attempt, .. } => (attempt.job, token, Answer::Yes),
            Action::CheckSource { token, job }
            | Action::WriteRecord { token, job }
            | Action::Reactivate { token, job, .. }
            | Action::Clean { token, job } => (job, token, Answer::Yes),
            Action::Send {
                session,
                seq,
                message,
            } => return self.receive(session, seq, message),
            Action::Close { .. } | Action::Pod(_) | Action::Redriven { .. } => return,
        };
        let gone = matches!(answer, Answer::Yes) && !self.etcd.contains_key(&job);
        self.next.push_back(Event::Answer { job, token, answer });
        // The watch follows.
        match self.etcd.get(&job) {
            _ if gone => self.next.push_back(Event::JobDeleted(job)),
            Some(stored) if stored.rv.0 == self.rv => {
                self.next.push_back(Event::Job(Box::new(stored.clone())));
            }
            _ => {}
        }
    }

    fn write(&mut self, uid: Uid, rv: Rv, after: Status) -> Answer {
        let Some(job) = self.etcd.get_mut(&uid).filter(|job| job.rv == rv) else {
            return Answer::Unknown;
        };
        self.rv += 1;
        job.rv = Rv(self.rv);
        job.status = after;
        Answer::Written(Box::new(job.clone()))
    }

    fn receive(&mut self, session: SessionId, seq: u64, message: ToWorker) {
        let tick = self.tick;
        let ends = tick + self.rng.random_range(CALL);
        let Some(hand) = self.hands.iter_mut().find(|hand| hand.session == session) else {
            return;
        };
        hand.received = seq;
        match message {
            ToWorker::Lease(id) => {
                hand.held.insert(id, ends);
            }
            ToWorker::Ack(id, _) => {
                hand.unacked.remove(&id);
            }
            ToWorker::Cancel(id) => {
                if hand.held.remove(&id).is_some() {
                    hand.unacked.insert(id, Fact::Released);
                    self.next.push_back(Event::Outcome {
                        session,
                        attempt: id,
                        fact: Fact::Released,
                        retry_after: None,
                    });
                }
            }
            ToWorker::Beat(_) | ToWorker::Drain => {}
        }
    }
}

fn policy() -> PoolPolicy {
    let share = |n: u32| TenantShare {
        tenant: Symbol(10 + n),
        weight: 1 + n % 3,
        max_in_flight: n.is_multiple_of(4).then_some(200),
    };
    PoolPolicy {
        is_default: true,
        rate_per_second: Some(1000.0),
        burst: 100,
        max_in_flight: Some(1000),
        fairness: Fairness {
            tenants: (0..TENANTS).map(share).collect(),
            ..Fairness::default()
        },
        ..PoolPolicy::default()
    }
}

/// Events, and the engine before and after them.
pub(crate) struct Recording {
    before: Engine,
    draws: StdRng,
    events: Vec<(Event, Now)>,
    actions: usize,
    after: Engine,
}

impl Recording {
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The processor's time that the engine takes for them.
    pub(crate) fn replay(&self) -> Result<Duration, String> {
        let (mut engine, mut draws) = (self.before.clone(), self.draws.clone());
        let events = self.events.clone();
        let mut actions = 0;
        let begin = crate::report::on_cpu()?;
        for (event, now) in events {
            actions += engine.step(event, now, &mut draws).len();
        }
        let took = crate::report::on_cpu()?.saturating_sub(begin);
        if actions != self.actions || engine != self.after {
            return Err("the same events led elsewhere".to_owned());
        }
        Ok(took)
    }

    /// How many of each kind.
    pub(crate) fn mix(&self) -> BTreeMap<&'static str, usize> {
        let mut mix = BTreeMap::new();
        for (event, _) in &self.events {
            *mix.entry(kind(event)).or_default() += 1;
        }
        mix
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Job(job) if job.status == Status::default() => "job created",
        Event::Job(_) => "job changed, by the watch",
        Event::JobDeleted(_) => "job deleted, by the watch",
        Event::Answer { answer, .. } => match answer {
            Answer::Written(_) => "answer: status written",
            Answer::Found(_) | Answer::Gone => "answer: job read",
            _ => "answer: store, deletion, URLs",
        },
        Event::Heartbeat { .. } => "heartbeat",
        Event::Progress { .. } => "progress",
        Event::Outcome { .. } => "outcome",
        Event::Tick | Event::Alive => "time",
        _ => "streams and other",
    }
}
