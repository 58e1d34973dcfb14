//! The worker's self-fence against the operator's expiry: the machine of the worker and this engine, each with a clock of its
//! own, and between them a network that delays and cuts without a word.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use kinora_engine::action::ToWorker;
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::*;
use kinora_protocol::dispatch as wire;
use kinora_worker::machine::{Action as Does, AttemptKey, Event as Meets, Machine, Settings};
use proptest::prelude::*;

use crate::fixtures::*;

const WORKER: Uid = Uid(7);
const STEP_MS: u64 = 50;
const END_MS: u64 = 40_000;

/// What a network and two clocks do.
#[derive(Clone, Debug)]
struct Weather {
    /// Rate of the worker's clock, of so many of the operator's.
    rate: (u64, u64),
    /// Of one message after the other, in turn: to the operator, and to the worker.
    delays: (Vec<u64>, Vec<u64>),
    /// How long a call takes to connect, in turn, by the worker's clock.
    connects: Vec<u64>,
    /// From when on nothing arrives at the operator, and at the worker.
    cut: (u64, u64),
}

/// One direction: nothing overtakes.
struct Line<T> {
    cut: u64,
    waiting: VecDeque<(u64, SessionId, T)>,
    sent: usize,
}

impl<T> Line<T> {
    fn new(cut: u64) -> Line<T> {
        Line {
            cut,
            waiting: VecDeque::new(),
            sent: 0,
        }
    }

    fn send(&mut self, delays: &[u64], now: u64, session: SessionId, what: T) {
        self.sent += 1;
        let last = self.waiting.back().map_or(0, |(at, _, _)| *at);
        let at = last.max(now + delays[self.sent % delays.len()]);
        self.waiting.push_back((at, session, what));
    }

    fn arrived(&mut self, now: u64) -> Vec<(SessionId, T)> {
        let due = self.waiting.iter().take_while(|(at, _, _)| *at <= now);
        let due = due.count();
        let arrived = self.waiting.drain(..due);
        let seen = arrived.filter(|(at, _, _)| *at < self.cut);
        seen.map(|(_, session, what)| (session, what)).collect()
    }
}

struct Sim {
    weather: Weather,
    world: World,
    machine: Machine,
    /// By the operator's clock, from the beginning.
    now: u64,
    link: Option<SessionId>,
    sessions: u64,
    dial_at: u64,
    /// `None`: the stream ends.
    up: Line<Option<wire::FromWorker>>,
    down: Line<Option<wire::ToWorker>>,
    /// Calls that connect, and until when by the worker's clock.
    connecting: Vec<(u64, AttemptKey)>,
    connected: usize,
    begun: Vec<(u64, AttemptKey)>,
    /// Calls that began when their attempt was over.
    late: Vec<(u64, AttemptKey)>,
    /// Those of them that had a permit no more.
    free: Vec<(u64, AttemptKey)>,
}

impl Sim {
    fn new(weather: Weather) -> Sim {
        let (up, down) = weather.cut;
        Sim {
            weather,
            world: World::new(),
            machine: Machine::new(Settings {
                slots: 1000,
                instance: "i".to_owned(),
                drain: secs(60),
                timings: kinora_worker::machine::Timings::default(),
            }),
            now: 0,
            link: None,
            sessions: 0,
            dial_at: 0,
            up: Line::new(up),
            down: Line::new(down),
            connecting: Vec::new(),
            connected: 0,
            begun: Vec::new(),
            late: Vec::new(),
            free: Vec::new(),
        }
    }

    fn run(mut self) -> Sim {
        while self.now < END_MS {
            self.now += STEP_MS;
            self.operate();
            self.work();
            if self.now.is_multiple_of(400) {
                self.world.put(job(u128::from(self.now)));
            }
        }
        self
    }

    fn operate(&mut self) {
        self.world.now = self.world.now.after(Duration::from_millis(STEP_MS));
        for (session, message) in self.up.arrived(self.now) {
            self.world.feed(heard(session, message));
        }
        self.world.feed(Event::Alive);
        self.world.feed(Event::Tick);
        let sent = std::mem::take(&mut self.world.sent);
        let closed = std::mem::take(&mut self.world.closed);
        let sent = sent
            .into_iter()
            .map(|(session, seq, message)| (session, Some(told(seq, message))));
        for (session, message) in sent.chain(closed.into_iter().map(|(session, _)| (session, None)))
        {
            self.down
                .send(&self.weather.delays.1, self.now, session, message);
        }
    }

    fn work(&mut self) {
        if self.link.is_none() && self.dial_at <= self.now && self.now < self.up.cut {
            self.sessions += 1;
            self.link = Some(SessionId(self.sessions));
            self.step(Meets::LinkOpened);
        }
        for (session, message) in self.down.arrived(self.now) {
            match message {
                _ if self.link != Some(session) => {}
                Some(message) => self.step(Meets::Received(message)),
                None => {
                    self.hang_up();
                    self.step(Meets::LinkClosed);
                }
            }
        }
        let clock = self.clock();
        let (ready, waiting) = std::mem::take(&mut self.connecting)
            .into_iter()
            .partition(|(at, _)| *at <= clock);
        self.connecting = waiting;
        let ready: Vec<(u64, AttemptKey)> = ready;
        for (_, key) in ready {
            self.step(Meets::CallReady(key));
        }
        self.step(Meets::Tick);
    }

    /// The worker's, in milliseconds.
    fn clock(&self) -> u64 {
        self.now * self.weather.rate.0 / self.weather.rate.1
    }

    fn hang_up(&mut self) {
        self.link = None;
        self.dial_at = self.now + 500;
    }

    fn step(&mut self, event: Meets) {
        let clock = self.clock();
        for action in self.machine.step(event, Duration::from_millis(clock)) {
            match action {
                Does::Send(message) => self.say(Some(message)),
                Does::Prepare(lease) => {
                    let connects = &self.weather.connects;
                    let takes = connects[self.connected % connects.len()];
                    self.connected += 1;
                    let key = AttemptKey::of(lease.attempt.as_ref()).expect("named");
                    self.connecting.push((clock + takes, key));
                }
                Does::Begin(key) => self.begin(key),
                Does::Stop(_) => {}
                Does::DropLink(_) => {
                    self.say(None);
                    self.hang_up();
                }
                Does::Exit { .. } => unreachable!("it was not asked to leave"),
            }
        }
    }

    fn say(&mut self, message: Option<wire::FromWorker>) {
        if let Some(session) = self.link {
            self.up
                .send(&self.weather.delays.0, self.now, session, message);
        }
    }

    fn begin(&mut self, key: AttemptKey) {
        let id = id(&key.to_ref());
        let job = &self.world.etcd[&id.job];
        if job.runs(id.attempt, WORKER) {
            return self.begun.push((self.now, key));
        }
        let wall = self.world.now.wall;
        if !job.status.ghosts.iter().any(|until| *until > wall) {
            self.free.push((self.now, key.clone()));
        }
        self.late.push((self.now, key));
    }
}

fn id(of: &wire::AttemptRef) -> AttemptId {
    attempt(of.job_uid.parse().expect("a number"), of.attempt)
}

fn ids(list: &[wire::AttemptRef]) -> Vec<AttemptId> {
    list.iter().map(id).collect()
}

/// What the operator takes from a message.
fn heard(session: SessionId, message: Option<wire::FromWorker>) -> Event {
    use wire::from_worker::Message;
    let Some(message) = message else {
        return Event::Closed(session);
    };
    match message.message.expect("said") {
        Message::Hello(hello) => Event::Hello {
            session,
            worker: WORKER,
            pool: POOL,
            slots: hello.slots,
            instance: Uid(700),
            held: ids(&hello.held),
            unacked: ids(&hello.unacked),
        },
        Message::Heartbeat(beat) => Event::Heartbeat {
            session,
            seq: beat.seq,
            received: beat.received_seq,
            held: ids(&beat.held),
            unacked: ids(&beat.unacked),
        },
        Message::Outcome(outcome) => Event::Outcome {
            session,
            attempt: id(&outcome.attempt.expect("named")),
            fact: Fact::Released,
            retry_after: None,
        },
        other => unreachable!("{other:?}"),
    }
}

fn told(seq: u64, message: ToWorker) -> wire::ToWorker {
    use wire::to_worker::Message;
    let named = |id: AttemptId| {
        Some(wire::AttemptRef {
            job_uid: id.job.0.to_string(),
            attempt: id.attempt,
        })
    };
    let message = match message {
        ToWorker::Lease(id) => Message::Lease(wire::Lease {
            attempt: named(id),
            ..wire::Lease::default()
        }),
        ToWorker::Beat(seq) => Message::Beat(wire::Beat { seq }),
        ToWorker::Ack(id, accepted) => Message::Ack(wire::Ack {
            attempt: named(id),
            verdict: if accepted {
                wire::ack::Verdict::Accepted.into()
            } else {
                wire::ack::Verdict::Stale.into()
            },
        }),
        ToWorker::Cancel(id) => Message::Cancel(wire::Cancel {
            attempt: named(id),
            ..wire::Cancel::default()
        }),
        ToWorker::Drain => Message::Drain(wire::Drain {}),
    };
    wire::ToWorker {
        seq,
        message: Some(message),
    }
}

/// Half of the networks are fast: on a slow one the operator hears a heartbeat long after the worker counts from it.
fn delays() -> impl Strategy<Value = Vec<u64>> {
    let up_to = |most: u64| prop::collection::vec(0..most, 1..6);
    prop_oneof![up_to(100), up_to(4_000)]
}

/// The clocks' rates are among these.
fn weather(rates: RangeInclusive<u64>) -> impl Strategy<Value = Weather> {
    let connects = prop::collection::vec(0..2_500u64, 1..6);
    let cut = (3_000..20_000u64, 0..20_000u64);
    ((rates.clone(), rates), (delays(), delays()), connects, cut).prop_map(
        |(rate, delays, connects, (up, later))| Weather {
            rate,
            delays,
            connects,
            cut: (up, up + later),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// covers: T9, F39, F40
    #[test]
    fn while_clock_rates_agree_within_9_to_12_no_call_begins_after_its_attempt_was_given_up(
        weather in weather(9..=12),
    ) {
        let sim = Sim::new(weather).run();
        prop_assert!(sim.late.is_empty(), "{:?}", sim.late);
        // All of what the worker had is somebody else's by then.
        prop_assert!(sim.world.etcd.values().all(|job| job.status.phase != Phase::Running));
    }

    /// covers: I7, T9
    #[test]
    fn while_they_agree_within_4_to_6_a_call_that_begins_later_still_has_its_permit(
        weather in weather(4..=6),
    ) {
        let sim = Sim::new(weather).run();
        prop_assert!(sim.free.is_empty(), "{:?}", sim.free);
    }
}

/// That the calls of [`Sim`] come near to the fence, and that a clock beyond the bound goes over it.
#[test]
fn the_fence_is_what_keeps_calls_from_beginning() {
    let weather = |rate| Weather {
        rate,
        delays: (vec![10], vec![10]),
        connects: vec![100],
        cut: (10_000, END_MS),
    };
    let last = |sim: &Sim| sim.begun.last().expect("begun").0;
    let same = Sim::new(weather((1, 1))).run();
    assert!((17_500..18_200).contains(&last(&same)), "{}", last(&same));
    assert!(same.late.is_empty());
    let slow = Sim::new(weather((1, 2))).run();
    assert!(!slow.late.is_empty());
}
