//! Two replicas that both may believe to lead, two workers, one etcd; answers get lost, writes come late, watches lag, anybody
//! crashes. The stored history is checked at every write. covers: I2, I3, I4, I11, F20, F22, F28, F29, T2, T3, T13

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kinora_engine::action::ToWorker;
use kinora_engine::event::{Answer, Lead};
use kinora_engine::ids::SessionId;
use kinora_engine::job::machine::is_legal;
use kinora_engine::outcome::Fact;
use kinora_engine::*;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use crate::fixtures::{NAMESPACE, POOL, START, job, pool, secs};

const REPLICAS: usize = 2;
const WORKERS: usize = 2;
const JOBS: u128 = 3;

struct Replica {
    engine: Engine,
    watch: VecDeque<Event>,
    requests: Vec<Action>,
}

#[derive(Default)]
struct Hand {
    uid: u128,
    instance: u128,
    line: Option<(usize, SessionId)>,
    inbox: VecDeque<(u64, ToWorker)>,
    received: u64,
    held: BTreeSet<AttemptId>,
    unacked: BTreeMap<AttemptId, Fact>,
}

struct Sim {
    seed: u64,
    rng: StdRng,
    now: Now,
    rv: u64,
    etcd: BTreeMap<Uid, Job>,
    late: Vec<Action>,
    replicas: Vec<Replica>,
    hands: Vec<Hand>,
    started: BTreeMap<AttemptId, u128>,
    reported: BTreeSet<(AttemptId, u128)>,
    sessions: u64,
    kind: bool,
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut sim = Sim {
            seed,
            rng: StdRng::seed_from_u64(seed),
            now: Now {
                mono: Mono(1_000_000),
                wall: START,
            },
            rv: 100,
            etcd: BTreeMap::new(),
            late: Vec::new(),
            replicas: Vec::new(),
            hands: Vec::new(),
            started: BTreeMap::new(),
            reported: BTreeSet::new(),
            sessions: 0,
            kind: false,
        };
        for uid in 1..=JOBS {
            sim.rv += 1;
            let mut fresh = job(uid);
            fresh.rv = Rv(sim.rv);
            sim.etcd.insert(fresh.uid, fresh);
        }
        for _ in 0..REPLICAS {
            sim.replicas.push(Replica {
                engine: Engine::new(),
                watch: VecDeque::new(),
                requests: Vec::new(),
            });
        }
        (0..REPLICAS).for_each(|r| sim.restart(r));
        sim.hands = (1..=WORKERS)
            .map(|n| Hand {
                uid: n as u128,
                instance: 1000 * n as u128,
                ..Hand::default()
            })
            .collect();
        sim
    }

    /// A replica starts with nothing and lists. Whoever was connected is cut off.
    fn restart(&mut self, r: usize) {
        self.replicas[r] = Replica {
            engine: Engine::new(),
            watch: VecDeque::new(),
            requests: Vec::new(),
        };
        for hand in &mut self.hands {
            if hand.line.is_some_and(|(at, _)| at == r) {
                hand.line = None;
                hand.inbox.clear();
            }
        }
        self.feed(
            r,
            Event::Pool(
                POOL,
                Box::new(PoolPolicy {
                    timeout: secs(60),
                    ..pool()
                }),
            ),
        );
        self.feed(r, Event::PoolsSynced);
        for job in self.etcd.clone().into_values() {
            self.feed(r, Event::Job(Box::new(job)));
        }
        self.feed(r, Event::JobsSynced);
    }

    fn feed(&mut self, r: usize, event: Event) {
        let actions = self.replicas[r].engine.step(event, self.now, &mut self.rng);
        assert_eq!(
            self.replicas[r].engine.illegal_writes(),
            0,
            "seed {}",
            self.seed
        );
        for action in actions {
            match action {
                Action::Send {
                    session,
                    seq,
                    message,
                } => self.send(r, session, seq, message),
                Action::Close { session, .. } => {
                    for hand in &mut self.hands {
                        if hand.line == Some((r, session)) {
                            hand.line = None;
                            hand.inbox.clear();
                        }
                    }
                }
                request => self.replicas[r].requests.push(request),
            }
        }
    }

    fn send(&mut self, r: usize, session: SessionId, seq: u64, message: ToWorker) {
        let hand = self.hands.iter_mut().find(|h| h.line == Some((r, session)));
        let Some(hand) = hand else { return };
        if let ToWorker::Ack(id, true) = message
            && hand.unacked.get(&id) == Some(&Fact::Succeeded)
        {
            let stored = &self.etcd[&id.job];
            assert_eq!(
                (
                    stored.status.phase,
                    stored.status.attempt,
                    stored.status.worker
                ),
                (Phase::Succeeded, id.attempt, Some(Uid(hand.uid))),
                "acknowledged before it was stored, seed {}",
                self.seed
            );
        }
        hand.inbox.push_back((seq, message));
    }

    /// The one place where etcd changes.
    fn cas(&mut self, uid: Uid, rv: Rv, after: &Status) -> Option<Job> {
        let stored = self.etcd.get_mut(&uid)?;
        if stored.rv != rv {
            return None;
        }
        let before = stored.status.clone();
        assert!(
            is_legal(&before, after),
            "seed {}: {before:?} {after:?}",
            self.seed
        );
        if before.phase.is_final() {
            assert_eq!(
                before.phase, after.phase,
                "an end was left, seed {}",
                self.seed
            );
        }
        if after.attempt == before.attempt
            && after.phase == Phase::Succeeded
            && before.phase != after.phase
        {
            let id = AttemptId {
                job: uid,
                attempt: after.attempt,
            };
            let worker = before.worker.expect("a holder").0;
            assert!(
                self.reported.contains(&(id, worker)),
                "a result nobody reported, seed {}",
                self.seed
            );
        }
        self.rv += 1;
        stored.rv = Rv(self.rv);
        stored.status = after.clone();
        let job = stored.clone();
        for replica in &mut self.replicas {
            replica.watch.push_back(Event::Job(Box::new(job.clone())));
        }
        Some(job)
    }

    fn execute(&mut self, action: &Action) -> Option<(Uid, Token, Answer)> {
        Some(match action {
            Action::Write {
                job,
                token,
                rv,
                after,
                ..
            } => {
                let written = self.cas(*job, *rv, after);
                let answer = written.map_or(Answer::Unknown, |j| Answer::Written(Box::new(j)));
                (*job, *token, answer)
            }
            Action::Read { job, token } => {
                let answer = Answer::Found(Box::new(self.etcd[job].clone()));
                (*job, *token, answer)
            }
            Action::Delete { job, token, .. } => (*job, *token, Answer::Unknown),
            Action::Prepare { token, attempt, .. } => (attempt.job, *token, Answer::Yes),
            Action::CheckOutputs { token, attempt, .. } => (attempt.job, *token, Answer::Yes),
            Action::CheckSource { token, job }
            | Action::WriteRecord { token, job }
            | Action::Reactivate { token, job, .. }
            | Action::Clean { token, job } => (*job, *token, Answer::Yes),
            Action::ReadRecord { token, job } => (*job, *token, Answer::No),
            Action::Send { .. }
            | Action::Close { .. }
            | Action::Pod(_)
            | Action::Redriven { .. } => return None,
        })
    }

    /// One request of a replica: done; done with the answer lost; not done; or done much later.
    fn serve(&mut self, r: usize) {
        let count = self.replicas[r].requests.len();
        if count == 0 {
            return;
        }
        let at = self.rng.random_range(0..count);
        let action = self.replicas[r].requests.remove(at);
        let fate = if self.kind {
            0
        } else {
            self.rng.random_range(0..10)
        };
        let Action::Write { job, token, .. } = &action else {
            if let Some((job, token, answer)) = self.execute(&action) {
                self.feed(r, Event::Answer { job, token, answer });
            }
            return;
        };
        let lost = Event::Answer {
            job: *job,
            token: *token,
            answer: Answer::Unknown,
        };
        match fate {
            0 if !self.kind => {
                self.execute(&action);
                self.feed(r, lost);
            }
            1 => self.feed(r, lost),
            2 => {
                self.late.push(action.clone());
                self.feed(r, lost);
            }
            _ => {
                if let Some((job, token, answer)) = self.execute(&action) {
                    self.feed(r, Event::Answer { job, token, answer });
                }
            }
        }
    }

    fn connect(&mut self, h: usize) {
        let leading: Vec<usize> = (0..REPLICAS)
            .filter(|r| self.replicas[*r].engine.lead() != Lead::Standby)
            .collect();
        let Some(r) = leading.into_iter().choose(&mut self.rng) else {
            return;
        };
        self.hang_up(h);
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let hand = &mut self.hands[h];
        hand.line = Some((r, session));
        hand.received = 0;
        let event = Event::Hello {
            session,
            worker: Uid(hand.uid),
            pool: POOL,
            slots: 2,
            instance: Uid(hand.instance),
            held: hand.held.iter().copied().collect(),
            unacked: hand.unacked.keys().copied().collect(),
        };
        self.feed(r, event);
    }

    fn hang_up(&mut self, h: usize) {
        self.hands[h].inbox.clear();
        if let Some((r, session)) = self.hands[h].line.take() {
            self.feed(r, Event::Closed(session));
        }
    }

    fn crash_worker(&mut self, h: usize) {
        self.hang_up(h);
        let hand = &mut self.hands[h];
        hand.instance += 1;
        hand.held.clear();
        hand.unacked.clear();
    }

    fn receive(&mut self, h: usize) {
        let hand = &mut self.hands[h];
        let Some((seq, message)) = hand.inbox.pop_front() else {
            return;
        };
        hand.received = seq;
        match message {
            ToWorker::Lease(id) => {
                let first = *self.started.entry(id).or_insert(hand.uid);
                assert_eq!(
                    first, hand.uid,
                    "two workers for {id:?}, seed {}",
                    self.seed
                );
                if !hand.unacked.contains_key(&id) {
                    hand.held.insert(id);
                }
            }
            ToWorker::Ack(id, _) => {
                hand.unacked.remove(&id);
            }
            ToWorker::Cancel(id) => {
                if hand.held.remove(&id) {
                    hand.unacked.insert(id, Fact::Released);
                }
            }
            ToWorker::Beat(_) | ToWorker::Drain => {}
        }
    }

    fn beat(&mut self, h: usize) {
        let hand = &self.hands[h];
        let Some((r, session)) = hand.line else {
            return;
        };
        let event = Event::Heartbeat {
            session,
            seq: 1,
            received: hand.received,
            held: hand.held.iter().copied().collect(),
            unacked: hand.unacked.keys().copied().collect(),
        };
        self.feed(r, event);
        for (attempt, fact) in self.hands[h].unacked.clone() {
            self.report(h, attempt, fact);
        }
    }

    fn report(&mut self, h: usize, attempt: AttemptId, fact: Fact) {
        let Some((r, session)) = self.hands[h].line else {
            return;
        };
        let event = Event::Outcome {
            session,
            attempt,
            fact,
            retry_after: None,
        };
        self.feed(r, event);
    }

    fn finish_call(&mut self, h: usize) {
        let Some(id) = self.hands[h].held.first().copied() else {
            return;
        };
        let fact = match self.rng.random_range(0..6) {
            _ if self.kind => Fact::Succeeded,
            0 => Fact::Grpc(13),
            1 => Fact::Grpc(8),
            2 => Fact::Released,
            _ => Fact::Succeeded,
        };
        let hand = &mut self.hands[h];
        hand.held.remove(&id);
        hand.unacked.insert(id, fact);
        if fact == Fact::Succeeded {
            self.reported.insert((id, hand.uid));
        }
        self.report(h, id, fact);
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now = self.now.after(Duration::from_millis(milliseconds));
        for r in 0..REPLICAS {
            self.feed(r, Event::Alive);
            self.feed(r, Event::Tick);
        }
    }

    fn step(&mut self) {
        let r = self.rng.random_range(0..REPLICAS);
        let h = self.rng.random_range(0..WORKERS);
        match self.rng.random_range(0..100) {
            0..25 => self.serve(r),
            25..40 => {
                if let Some(event) = self.replicas[r].watch.pop_front() {
                    self.feed(r, event);
                }
            }
            40..58 => self.receive(h),
            58..68 => self.beat(h),
            68..76 => self.finish_call(h),
            76..82 => self.connect(h),
            82..84 => self.hang_up(h),
            84..85 => self.crash_worker(h),
            85..86 => self.restart(r),
            86..89 => {
                let lead = [Lead::Leader, Lead::Leader, Lead::Doubtful, Lead::Standby];
                let lead = lead[self.rng.random_range(0..4)];
                self.feed(r, Event::Lead(lead));
            }
            89..91 => {
                if let Some(action) = self.late.pop() {
                    self.execute(&action);
                }
            }
            91..92 => self.pass(14_000),
            _ => self.pass(300),
        }
    }

    /// No more faults, one leader: everything ends.
    fn settle(&mut self) {
        self.kind = true;
        self.feed(0, Event::Lead(Lead::Standby));
        self.feed(1, Event::Lead(Lead::Leader));
        for round in 0..20_000 {
            if self.etcd.values().all(|job| job.status.phase.is_final()) {
                return;
            }
            for r in 0..REPLICAS {
                while let Some(event) = self.replicas[r].watch.pop_front() {
                    self.feed(r, event);
                }
                self.serve(r);
            }
            for h in 0..WORKERS {
                if self.hands[h].line.is_none() {
                    self.connect(h);
                }
                while !self.hands[h].inbox.is_empty() {
                    self.receive(h);
                }
                self.finish_call(h);
                if round % 10 == 0 {
                    self.beat(h);
                }
            }
            self.pass(200);
        }
        let stuck: Vec<_> = self.etcd.values().map(|j| &j.status).collect();
        panic!("seed {}: stuck with {stuck:?}", self.seed);
    }
}

#[test]
fn two_leaders_two_workers_and_any_fault_never_break_a_job() {
    assert_eq!(NAMESPACE, POOL.namespace);
    let number = |name| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let first = number("KINORA_SIM_SEED").unwrap_or(0);
    let count = number("KINORA_SIM_COUNT").unwrap_or(400);
    let seeds = first..first + count;
    for seed in seeds {
        let mut sim = Sim::new(seed);
        for _ in 0..600 {
            sim.step();
        }
        sim.settle();
    }
}
