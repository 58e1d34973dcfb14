//! Schedules by chance: up to five requests and sweeps at once on up to three replicas, two
//! clients with the same or different bytes, faults, kills, and leaps of time.

use crate::actor::{Actor, Kind, Patch, Said, Step};
use crate::dice::Dice;
use crate::mutants::Mutant;
use crate::scenarios::Found;
use crate::sim::Sim;
use crate::store::Manners;
use crate::world::{HOUR, MINUTE, PART, SECOND, World};

struct Schedule {
    sim: Sim,
    dice: Dice,
    actors: Vec<Actor>,
    /// The largest offset each client has heard.
    heard: [u64; 2],
    created: bool,
    deletes: bool,
}

/// How a schedule ended.
pub(crate) struct Ran {
    pub(crate) violation: Option<String>,
    pub(crate) calls: u32,
    /// A client was told that all bytes are there.
    pub(crate) full: bool,
    /// A take-over found the other client's bytes.
    pub(crate) mixed: bool,
    /// The digest of the whole was told.
    pub(crate) digest: bool,
    trace: Vec<String>,
}

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64, same: bool, mutant: Option<Mutant>, trace: bool) -> Ran {
    let mut dice = Dice(seed);
    let length = match dice.below(3) {
        0 => PART * (1 + dice.below(3)),
        _ => 1 + dice.below(28),
    };
    let manners = Manners {
        lists_crc: dice.one_in(2),
        keeps_overwritten: dice.one_in(2),
    };
    let mut w = World::new(length, same, manners);
    w.mutant = mutant;
    w.wish.draft = dice.one_in(4);
    w.wish.deferred = dice.one_in(4);
    w.wish.digests = dice.one_in(4).then_some(None);
    w.trace = trace.then(Vec::new);
    w.store.kubernetes_away = dice.one_in(5);
    for skew in &mut w.skews {
        *skew = dice.below(10 * MINUTE) as i64 - 5 * MINUTE as i64;
    }
    if !dice.one_in(4) {
        w.dice = Some(Dice(dice.roll()));
    }
    let replicas = 1 + dice.below(3) as u8;
    let hints = dice.one_in(2);
    let deletes = dice.one_in(4);
    let mut schedule = Schedule {
        sim: Sim::new(w, replicas, hints),
        dice,
        actors: Vec::new(),
        heard: [0; 2],
        created: false,
        deletes,
    };
    schedule.all();
    let w = schedule.sim.w;
    Ran {
        violation: w.violation,
        calls: w.calls,
        full: w.oracle.full,
        mixed: w.oracle.mixed > 0,
        digest: w.wish.digests.is_some(),
        trace: w.trace.unwrap_or_default(),
    }
}

/// What the schedules of a range came to, and the first violation.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) schedules: u64,
    pub(crate) calls: u64,
    pub(crate) full: u64,
    pub(crate) mixed: u64,
    /// Of these, those whose digest was told.
    pub(crate) guarded: u64,
    pub(crate) found: Option<Found>,
}

/// Runs the schedules of these seeds, up to the first violation.
pub(crate) fn explore(seeds: std::ops::Range<u64>, same: bool, mutant: Option<Mutant>) -> Sum {
    let mut sum = Sum::default();
    for seed in seeds {
        let ran = run(seed, same, mutant, false);
        sum.schedules += 1;
        sum.calls += u64::from(ran.calls);
        sum.full += u64::from(ran.full);
        sum.mixed += u64::from(ran.mixed);
        sum.guarded += u64::from(ran.mixed && ran.digest);
        if let Some(what) = ran.violation {
            let story = format!("seed {seed}, same bytes: {same}, {mutant:?}");
            let trace = run(seed, same, mutant, true).trace;
            sum.found = Some(Found { what, story, trace });
            return sum;
        }
    }
    sum
}

impl Schedule {
    fn all(&mut self) {
        let first = match (self.sim.w.length <= 8, self.dice.below(8)) {
            (true, 0) => Kind::Plain,
            (false, 0) => Kind::Post { told: true },
            (false, 1) => Kind::Post { told: false },
            _ => Kind::Create,
        };
        self.start(first, 0);
        let moves = 20 + self.dice.below(180);
        for _ in 0..moves {
            self.one_move();
            if self.sim.w.violation.is_some() {
                return;
            }
        }
        if self.dice.one_in(2) {
            for actor in self.actors.drain(..) {
                actor.leave(&mut self.sim.w);
            }
        }
        self.sim.w.calm();
        for _ in 0..4_000 {
            if self.actors.is_empty() {
                break;
            }
            self.step();
        }
        if !self.actors.is_empty() {
            self.sim.w.wrong("a request never ends");
        }
        let gone = self.sim.w.oracle.dead || self.sim.w.oracle.cancelled;
        if self.created && !gone && self.sim.w.violation.is_none() && !self.dice.one_in(3) {
            self.sim.client_goes_on(None);
        }
        if self.sim.w.violation.is_none() {
            self.sim.settle();
        }
    }

    fn one_move(&mut self) {
        let client = usize::from(self.dice.one_in(2));
        match self.dice.below(200) {
            0..10 if self.created => self.patch(client),
            10..14 if self.created => self.start(Kind::Head, client),
            14..16 if self.created && self.deletes => self.start(Kind::Delete, client),
            16..19 => self.sweep(),
            19..24 => {
                let leap = [
                    300,
                    2 * SECOND,
                    2 * SECOND,
                    30 * SECOND,
                    70 * SECOND,
                    6 * MINUTE,
                    20 * MINUTE,
                    25 * HOUR,
                ];
                self.sim.w.store.now += leap[self.dice.below(8) as usize];
            }
            24..32 => self.sim.w.operate(),
            32 => self.kill(),
            33 => self.sim.w.store.kubernetes_away ^= true,
            _ => self.step(),
        }
    }

    fn start(&mut self, kind: Kind, client: usize) {
        if self.actors.len() < 5 {
            let replica = self.dice.below(u64::from(self.sim.replicas)) as u8;
            self.start_on(kind, client, replica);
        }
    }

    fn start_on(&mut self, kind: Kind, client: usize, replica: u8) {
        let actor = Actor::new(&mut self.sim.w, kind, client, replica);
        self.sim.w.note(|| {
            format!(
                "start {} on {replica} of client {client}: {:?}",
                actor.origin.actor, actor.kind
            )
        });
        self.actors.push(actor);
    }

    fn patch(&mut self, client: usize) {
        if self.actors.len() >= 5 {
            return;
        }
        let replica = self.dice.below(u64::from(self.sim.replicas)) as u8;
        let from = self.heard[client];
        let left = self.sim.w.length - from;
        let wish = self.sim.w.wish;
        if left == 0 && !wish.draft {
            return self.start_on(Kind::Head, client, replica);
        }
        let send = match self.dice.below(4) {
            0 | 1 => left,
            2 => left.min(4),
            _ => left.min(1 + self.dice.below(left)),
        };
        let checksum = self.dice.one_in(3).then(|| !self.dice.one_in(3));
        let checksum = checksum.filter(|right| *right || send > 0);
        let end = wish.draft.then(|| send == left && !self.dice.one_in(4));
        let cut = send < left && self.dice.one_in(2);
        let tells = wish.deferred && (send == left || self.dice.one_in(3));
        let idles = send > 0 && checksum.is_none() && self.dice.one_in(4);
        let idle_after = idles.then(|| 1 + self.dice.below(send));
        let hint = self
            .sim
            .w
            .hints
            .get(&replica)
            .filter(|(doc, _)| doc.offset == from);
        let hint = hint.filter(|_| self.sim.hints).cloned().map(Box::new);
        self.start_on(
            Kind::Patch(Patch {
                from,
                send,
                cut,
                idle_after,
                checksum,
                end,
                tells,
                hint,
            }),
            client,
            replica,
        );
    }

    fn sweep(&mut self) {
        let store = &self.sim.w.store;
        let now = store.now;
        let outbox = store
            .pending
            .as_ref()
            .is_some_and(|p| now.saturating_sub(p.at) >= MINUTE);
        let state = store
            .state
            .as_ref()
            .map(|(_, etag, at)| (etag.clone(), now.saturating_sub(*at)));
        match state {
            Some((etag, age)) if age >= 5 * MINUTE && (!outbox || self.dice.one_in(2)) => {
                self.start(
                    Kind::SweepState {
                        expire: age >= 24 * HOUR,
                        etag,
                    },
                    0,
                );
            }
            _ if outbox => self.start(Kind::SweepOutbox, 0),
            _ => {}
        }
    }

    fn kill(&mut self) {
        let replica = self.dice.below(u64::from(self.sim.replicas)) as u8;
        self.sim.w.note(|| format!("kill {replica}"));
        self.actors.retain(|actor| actor.replica != replica);
        self.sim.w.writers.remove(&replica);
        self.sim.w.hints.remove(&replica);
    }

    fn step(&mut self) {
        if self.actors.is_empty() {
            return;
        }
        let who = self.dice.below(self.actors.len() as u64) as usize;
        let pick = self.dice.roll() >> 8;
        let step = self.actors[who].step(&mut self.sim.w, pick);
        let actor = &self.actors[who];
        let client = actor.origin.file;
        match actor.said {
            Some(Said::Created) => self.created = true,
            Some(Said::Offset(offset)) => self.heard[client] = self.heard[client].max(offset),
            Some(Said::NotEnded) => self.heard[client] = self.sim.w.length,
            Some(Said::Full) => self.heard[client] = self.sim.w.length,
            _ => {}
        }
        if matches!(step, Step::Over | Step::Dead) {
            self.actors.swap_remove(who);
        }
    }
}
