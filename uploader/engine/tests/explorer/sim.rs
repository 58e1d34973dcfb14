//! Actors one after the other, with stalled ones waking up in between, and the end of every run:
//! sweeps, the operator and time bring everything to an end.

use crate::actor::{Actor, Kind, Patch, Said, Step};
use crate::world::{HOUR, MINUTE, SECOND, World};

const MOST_STEPS: u32 = 3_000;

pub(crate) struct Sim {
    pub(crate) w: World,
    pub(crate) replicas: u8,
    /// Replicas remember states that they closed.
    pub(crate) hints: bool,
    /// After the first PATCH another client goes on, with other bytes.
    pub(crate) two_files: bool,
    stalled: Vec<(u32, Actor)>,
    attempts: u8,
}

impl Sim {
    pub(crate) fn new(w: World, replicas: u8, hints: bool) -> Self {
        Self {
            w,
            replicas,
            hints,
            two_files: false,
            stalled: Vec::new(),
            attempts: 0,
        }
    }

    /// A request of the first client on the next replica, to its end; what it was told.
    pub(crate) fn run(&mut self, kind: Kind) -> Said {
        let mut kind = kind;
        let replica = self.attempts % self.replicas;
        self.attempts = self.attempts.wrapping_add(1);
        if let Kind::Patch(patch) = &mut kind {
            let hint = self
                .w
                .hints
                .get(&replica)
                .filter(|(doc, _)| doc.offset == patch.from);
            patch.hint = hint.filter(|_| self.hints).cloned().map(Box::new);
        }
        let file = usize::from(self.two_files && self.attempts > 2);
        let actor = Actor::new(&mut self.w, kind, file, replica);
        let said = self.finish(actor);
        if said == Said::Nothing {
            self.w.store.now += 2 * SECOND;
        }
        said
    }

    fn finish(&mut self, mut actor: Actor) -> Said {
        for _ in 0..MOST_STEPS {
            self.wake(false);
            match actor.step(&mut self.w, 0) {
                Step::Going => {}
                Step::Over | Step::Dead => return actor.said.unwrap_or(Said::Nothing),
                Step::Stalled(calls) => {
                    let said = actor.said.clone();
                    self.stalled.push((self.w.calls + calls, actor));
                    return said.unwrap_or(Said::Nothing);
                }
            }
            if self.w.violation.is_some() {
                return Said::Nothing;
            }
        }
        self.w.wrong("a request never ends");
        Said::Nothing
    }

    /// Lets stalled processes go on whose time has come, or all.
    fn wake(&mut self, all: bool) {
        while let Some(at) = self
            .stalled
            .iter()
            .position(|(due, _)| all || *due <= self.w.calls)
        {
            let (_, mut actor) = self.stalled.remove(at);
            for _ in 0..MOST_STEPS {
                match actor.step(&mut self.w, 0) {
                    Step::Going => {}
                    Step::Over | Step::Dead => break,
                    Step::Stalled(calls) => {
                        self.stalled.push((self.w.calls + calls, actor));
                        break;
                    }
                }
            }
        }
    }

    /// The client goes on until it hears that it is over.
    pub(crate) fn client_goes_on(&mut self, mut offset: Option<u64>) {
        for _ in 0..25 {
            let said = match offset.take() {
                Some(from) => {
                    let send = self.w.length - from;
                    let wish = self.w.wish;
                    // HEAD says the length once it was told.
                    let state = self.w.store.state.as_ref();
                    let untold = state.is_some_and(|(doc, ..)| doc.length.is_none());
                    self.run(Kind::Patch(Patch {
                        from,
                        send,
                        end: wish.draft.then_some(true),
                        tells: untold,
                        ..Patch::default()
                    }))
                }
                None => self.run(Kind::Head),
            };
            match said {
                Said::NotEnded => offset = Some(self.w.length),
                Said::Offset(from) if from < self.w.length => offset = Some(from),
                Said::Nothing | Said::Created => {}
                _ => return,
            }
            if self.w.violation.is_some() {
                return;
            }
        }
        self.w.wrong("the client never gets to the end");
    }

    fn state_age(&self) -> Option<u64> {
        self.w
            .store
            .state
            .as_ref()
            .map(|(.., at)| self.w.store.now.saturating_sub(*at))
    }

    fn operate(&mut self) {
        for _ in 0..3 {
            self.w.operate();
        }
    }

    /// The operator ends the job, and time removes it.
    pub(crate) fn forget(&mut self) {
        self.operate();
        self.w.store.now += 20 * MINUTE;
        self.operate();
    }

    pub(crate) fn sweep_outbox(&mut self) {
        let age = self
            .w
            .store
            .pending
            .as_ref()
            .map(|p| self.w.store.now.saturating_sub(p.at));
        if age.is_some_and(|age| age >= MINUTE) {
            self.run(Kind::SweepOutbox);
        }
    }

    pub(crate) fn sweep_states(&mut self) {
        let Some(age) = self.state_age().filter(|age| *age >= 5 * MINUTE) else {
            if self.w.store.state.is_none() {
                // Slices without a state are nobody's.
                self.w.store.slices.clear();
            }
            return;
        };
        let etag = self
            .w
            .store
            .state
            .as_ref()
            .map(|(_, etag, _)| etag.clone())
            .unwrap_or_default();
        self.run(Kind::SweepState {
            expire: age >= 24 * HOUR,
            etag,
        });
    }

    /// After the client: sweeps and time, until nothing is left; then the oracle's last word.
    pub(crate) fn settle(&mut self) {
        self.w.store.kubernetes_away = false;
        for round in 0..6 {
            if round == 3 {
                self.wake(true);
                self.w.calm();
            }
            self.w.store.now += 70 * SECOND;
            self.sweep_outbox();
            self.operate();
            self.w.store.now += 6 * MINUTE;
            if self.state_age().is_some() {
                self.sweep_states();
            }
            self.operate();
            self.w.store.now += 20 * MINUTE;
            self.operate();
            self.wake(round == 1);
            self.operate();
            self.w.store.now += 25 * HOUR;
            self.sweep_states();
            self.operate();
            if self.w.violation.is_some() {
                return;
            }
        }
        self.w.end();
    }
}
