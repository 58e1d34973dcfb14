//! One request or sweep on one replica: the engine's machines in the order in which the server
//! runs them (`uploader/src/drive`, `http`, `sweep`), one call at a time.

mod finishing;
mod writing;

use std::collections::{BTreeMap, VecDeque};

use kinora_upload_engine::create::{Create, Created};
use kinora_upload_engine::end::{End, Ended};
use kinora_upload_engine::finish::{Facts, Finish, Start};
use kinora_upload_engine::open::{Append, Goal, Open, Opened};
use kinora_upload_engine::write::{Cause, Event, Writer};
use kinora_upload_engine::{Answer, Call, Context, Decision, Next, Phase, State, crc};

use crate::mutants::Mutant;
use crate::store::{Act, Bag, ID, Ram, Row};
use crate::world::{PART, Reply, World, fresh};

/// What a request is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A plain body of at most one part: no state object.
    Plain,
    /// A create without bytes, as the world's `Wish` says.
    Create,
    /// A plain body of more than one part, its length told or not.
    Post {
        told: bool,
    },
    Patch(Patch),
    Head,
    Delete,
    SweepOutbox,
    /// Of a state that was listed under this ETag.
    SweepState {
        expire: bool,
        etag: String,
    },
}

/// A PATCH: `send` bytes from `from`, then the end, or a cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    pub(crate) from: u64,
    pub(crate) send: u64,
    pub(crate) cut: bool,
    /// Silence of a second after so many bytes.
    pub(crate) idle_after: Option<u64>,
    /// A checksum of the body: right, or of other bytes than those that come.
    pub(crate) checksum: Option<bool>,
    /// The draft's word on the end.
    pub(crate) end: Option<bool>,
    /// It says the length of the whole.
    pub(crate) tells: bool,
    /// A state that this replica remembers, and its ETag.
    pub(crate) hint: Option<Box<(State, String)>>,
}

/// What a request told its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Created,
    Offset(u64),
    /// All bytes are there, and nobody said yet that nothing follows.
    NotEnded,
    /// All bytes are there.
    Full,
    Gone,
    Rejected,
    NotFound,
    /// DELETE: it is dead.
    Terminated,
    /// DELETE: the video it became is cancelled.
    Cancelled,
    /// 409 of another's content.
    Conflict,
    /// 409 without an offset, or 5xx: the client asks again.
    Nothing,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Going,
    Over,
    Dead,
    /// The process stands still for so many calls of others.
    Stalled(u32),
}

pub(super) enum Stage {
    Idle,
    Creating(Create),
    Opening(Open),
    Writing(Box<Writer>),
    Finishing(Box<Finish>),
    Ending {
        end: End,
        marker: bool,
        say: Option<Said>,
    },
    Asking,
    Sweeping,
    Cleaning,
    Over,
}

/// Who an actor is to the oracle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) actor: usize,
    pub(crate) file: usize,
    /// First byte and bytes of a body that is being written.
    pub(crate) body: Option<(u64, Vec<u8>)>,
    /// What ListParts last showed it.
    pub(crate) listing: Vec<Row>,
    pub(crate) plain: bool,
    pub(crate) sweep: bool,
    /// It began with a remembered state.
    pub(crate) hinted: bool,
    /// What it sends is not what its checksum says.
    pub(crate) damaged: bool,
    /// It says the length of the whole.
    pub(crate) tells: bool,
}

pub(crate) struct Actor {
    pub(crate) origin: Origin,
    pub(crate) replica: u8,
    pub(crate) kind: Kind,
    pub(crate) said: Option<Said>,
    /// What had been told when it began.
    pub(crate) told_before: u64,
    pub(crate) full_before: bool,
    pub(crate) ended_before: bool,
    pub(super) stage: Stage,
    pub(super) acts: VecDeque<Act>,
    pub(super) garbage: VecDeque<Act>,
    pub(super) bag: Bag,
    pub(super) skew: i64,
    pub(super) body: Vec<u8>,
    pub(super) fed: usize,
    pub(super) cause: Option<Cause>,
    pub(super) idled: bool,
    /// The upload's CRC32C is kept.
    pub(super) sums: bool,
}

/// What a closed document says to its client.
pub(super) fn offset(doc: &State, length: u64) -> Said {
    match doc.offset == length && !doc.is_full() {
        true => Said::NotEnded,
        false => Said::Offset(doc.offset),
    }
}

impl Actor {
    pub(crate) fn new(w: &mut World, kind: Kind, file: usize, replica: u8) -> Self {
        let origin = Origin {
            actor: w.next_actor(),
            file,
            plain: matches!(kind, Kind::Plain),
            sweep: matches!(kind, Kind::SweepOutbox | Kind::SweepState { .. }),
            hinted: matches!(&kind, Kind::Patch(Patch { hint: Some(_), .. })),
            damaged: matches!(
                &kind,
                Kind::Patch(Patch {
                    checksum: Some(false),
                    ..
                })
            ),
            tells: matches!(&kind, Kind::Patch(Patch { tells: true, .. })),
            ..Origin::default()
        };
        let body = match &kind {
            Kind::Plain | Kind::Post { .. } => w.files[file].clone(),
            Kind::Patch(patch) => {
                let to = (patch.from + patch.send).min(w.length);
                w.files[file][patch.from as usize..to as usize].to_vec()
            }
            _ => Vec::new(),
        };
        let body = match origin.damaged {
            true => body.iter().map(|byte| byte ^ 0x2a).collect(),
            false => body,
        };
        let ends = match &kind {
            Kind::Patch(patch) => patch.end != Some(false),
            Kind::Plain | Kind::Post { .. } => true,
            _ => false,
        };
        w.oracle.end_said |= ends;
        Self {
            origin,
            replica,
            kind,
            said: None,
            told_before: w.oracle.told,
            full_before: w.oracle.full,
            ended_before: w.oracle.ended,
            stage: Stage::Idle,
            acts: VecDeque::new(),
            garbage: VecDeque::new(),
            bag: Bag::default(),
            skew: w.skew_of(replica),
            body,
            fed: 0,
            cause: None,
            idled: false,
            sums: false,
        }
    }

    /// One move: a call, or some more of the body. `pick` chooses where there is a choice.
    pub(crate) fn step(&mut self, w: &mut World, pick: u64) -> Step {
        if self.takes_more() && (self.acts.is_empty() || pick.is_multiple_of(2)) {
            self.feed(w, pick / 2);
            return Step::Going;
        }
        let at = if self.acts.is_empty() {
            0
        } else {
            pick as usize % self.acts.len()
        };
        let Some(act) = self.acts.remove(at) else {
            return self.without_calls(w);
        };
        match w.ask(&act, &self.origin, &mut self.bag, self.replica) {
            Reply::Dead => {
                self.leave(w);
                Step::Dead
            }
            Reply::Stalled(calls) => {
                self.acts.insert(at, act);
                Step::Stalled(calls)
            }
            Reply::Answer(answer) => {
                self.remember(&act, &answer, w);
                self.deliver(answer, w);
                self.progress()
            }
        }
    }

    fn progress(&self) -> Step {
        if matches!(self.stage, Stage::Over) {
            Step::Over
        } else {
            Step::Going
        }
    }

    fn without_calls(&mut self, w: &mut World) -> Step {
        match self.stage {
            Stage::Idle => self.begin(w),
            Stage::Writing(_) => self.written(w),
            Stage::Cleaning => self.clean(),
            Stage::Over => {}
            _ => w.wrong(format!("{:?} waits for nothing", self.kind)),
        }
        self.progress()
    }

    /// Ends the process's part in the world.
    pub(crate) fn leave(&self, w: &mut World) {
        if w.writers.get(&self.replica) == Some(&self.origin.actor) {
            w.writers.remove(&self.replica);
        }
    }

    fn begin(&mut self, w: &mut World) {
        let goal = match &self.kind {
            Kind::Plain => return self.plain(w),
            Kind::Create => {
                let doc = crate::world::wished(w);
                self.stage = Stage::Creating(Create::new(doc));
                return self.deliver(Answer::Begin, w);
            }
            Kind::Post { told } => {
                let mut doc = fresh(w, told.then_some(w.length));
                (doc.epoch, doc.phase) = (1, Phase::Open);
                self.stage = Stage::Creating(Create::new(doc));
                return self.deliver(Answer::Begin, w);
            }
            Kind::SweepOutbox => {
                self.stage = Stage::Sweeping;
                return self.acts.push_back(Act::ReadPending);
            }
            Kind::SweepState { expire: false, .. } => {
                self.stage = Stage::Sweeping;
                return self.acts.push_back(Act::ReadState);
            }
            Kind::SweepState { etag, .. } => {
                let any = w.mutant == Some(Mutant::ExpiryOfAnyVersion);
                let now = w.store.state.as_ref().map(|(_, etag, _)| etag);
                let etag = now.filter(|_| any).unwrap_or(etag).clone();
                Goal::Expire { etag }
            }
            Kind::Head => Goal::Read,
            Kind::Delete => Goal::Terminate,
            Kind::Patch(patch) => Goal::Write(Append {
                offset: patch.from,
                length: patch.tells.then_some(w.length),
                complete: patch.end,
                verify: patch.checksum.is_some(),
                ..Append::default()
            }),
        };
        let open = match &self.kind {
            Kind::Patch(Patch {
                hint: Some(hint), ..
            }) => Open::remembering(goal, None, hint.0.clone(), hint.1.clone()),
            _ => Open::new(goal, None),
        };
        self.stage = Stage::Opening(open);
        self.deliver(Answer::Begin, w);
    }

    fn plain(&mut self, w: &mut World) {
        self.bag.ram = Ram {
            from: 0,
            bytes: self.body.clone(),
        };
        let facts = Facts {
            id: ID.into(),
            length: w.length,
            part_size: PART,
            multipart: None,
            tail: Vec::new(),
            spent: Vec::new(),
            crc: Some(crc::of(&self.body)),
            pin: None,
            sure: BTreeMap::new(),
            crc32c: None,
            digests: BTreeMap::new(),
            state: false,
        };
        self.finish(
            Finish::new(facts, Start::Fresh, Decision::Accepted, BTreeMap::new()),
            w,
        );
    }

    /// A run of the finish, with the look that the world wants.
    pub(super) fn looking(machine: Finish, w: &World) -> Finish {
        match w.wish.looks {
            true => machine.looking(15),
            false => machine,
        }
    }

    pub(super) fn say(&mut self, w: &mut World, said: Said) {
        self.stage = Stage::Cleaning;
        if self.said.is_none() && !self.origin.sweep {
            w.told(self, &said);
            self.said = Some(said);
        }
    }

    fn clean(&mut self) {
        match self.garbage.pop_front() {
            Some(act) => self.acts.push_back(act),
            None => self.stage = Stage::Over,
        }
    }

    fn remember(&mut self, act: &Act, answer: &Answer, w: &World) {
        match (act, answer) {
            (Act::Engine(Call::ListParts { multipart }), Answer::Parts(Some(_))) => {
                self.origin.listing = w
                    .store
                    .multiparts
                    .get(multipart)
                    .cloned()
                    .unwrap_or_default();
            }
            (Act::Engine(Call::GetActive), Answer::Active(Some(_))) => {
                self.bag.outbox_time = w.store.active.as_ref().map_or(0, |a| a.outbox_time);
            }
            (Act::Engine(Call::GetPending), Answer::Pending(true)) => {
                self.bag.outbox.clone_from(&w.store.pending);
                self.bag.outbox_time = w.store.pending.as_ref().map_or(0, |p| p.at);
            }
            _ => {}
        }
    }

    pub(super) fn deliver(&mut self, answer: Answer, w: &mut World) {
        let nonce = w.nonce();
        let ctx = Context {
            now_ms: w.store.now.saturating_add_signed(self.skew),
            nonce: &nonce,
        };
        match &mut self.stage {
            Stage::Creating(create) => match create.step(answer) {
                Next::Call(call) => self.call(call),
                Next::Done(Created::There(doc, etag)) => match self.kind {
                    Kind::Post { .. } => self.write(*doc, etag, w),
                    _ => self.say(w, Said::Created),
                },
                Next::Done(Created::Fault(_)) => self.say(w, Said::Nothing),
            },
            Stage::Opening(open) => match open.step(answer, ctx) {
                Next::Call(call) => self.call(call),
                Next::Done(opened) => self.opened(opened, w),
            },
            Stage::Writing(writer) => {
                let calls = writer.step(Event::Answer(answer), ctx);
                self.calls(calls);
            }
            Stage::Finishing(finish) => match finish.step(answer, ctx) {
                Next::Call(call) => self.call_of_finish(call, w),
                Next::Done(finished) => self.finished(&finished, w),
            },
            Stage::Ending { end, .. } => match end.step(answer) {
                Next::Call(call) => self.call(call),
                Next::Done(ended) => self.ended(ended, w),
            },
            Stage::Asking => self.known(&answer, w),
            Stage::Sweeping => self.sweep(answer, w),
            Stage::Cleaning => {
                if matches!(answer, Answer::Failed(_)) {
                    self.garbage.clear();
                }
            }
            Stage::Idle | Stage::Over => {}
        }
    }

    pub(super) fn call(&mut self, call: Call) {
        self.acts.push_back(Act::Engine(call));
    }

    pub(super) fn calls(&mut self, calls: Vec<Call>) {
        self.acts.extend(calls.into_iter().map(Act::Engine));
    }

    fn opened(&mut self, opened: Opened, w: &mut World) {
        match opened {
            Opened::Closed(doc) | Opened::WrongOffset(doc) => self.say(w, offset(&doc, w.length)),
            Opened::Writer(doc, etag) => self.write(*doc, etag, w),
            Opened::Whole(doc, etag) => {
                self.finish(Finish::from_state(*doc, etag, Decision::Accepted), w);
            }
            Opened::Dead { doc, now } => {
                let say = match (&self.kind, now) {
                    (Kind::Delete, true) => Some(Said::Terminated),
                    (Kind::SweepState { .. } | Kind::Post { .. }, _) => None,
                    _ => return self.say(w, Said::Gone),
                };
                let end = End::new(&doc);
                let marker = self.origin.sweep && !now;
                self.stage = Stage::Ending { end, marker, say };
                self.deliver(Answer::Begin, w);
            }
            Opened::Missing => match self.kind {
                Kind::Delete => self.say(w, Said::Cancelled),
                _ => {
                    self.stage = Stage::Asking;
                    self.acts.push_back(Act::KnownActive);
                }
            },
            Opened::TooManySmall(_) | Opened::Fault(_) | Opened::Stirred => {
                self.say(w, Said::Nothing);
            }
            // A body after one that brought more, of an unknown length: the client asks again.
            Opened::Inconsistent(_) if w.wish.draft => self.say(w, Said::Nothing),
            Opened::Foreign
            | Opened::TooLong(_)
            | Opened::Inconsistent(_)
            | Opened::OverLimit(_) => {
                w.wrong(format!("{opened:?} to {:?}", self.kind));
            }
        }
    }

    fn ended(&mut self, ended: Ended, w: &mut World) {
        let Stage::Ending { marker, say, .. } = std::mem::replace(&mut self.stage, Stage::Cleaning)
        else {
            return;
        };
        if let Ended::Clean(slices) = ended {
            self.garbage.push_back(Act::DropSlices(slices));
            if marker {
                self.garbage.push_back(Act::DropState);
            }
        }
        self.say(w, say.unwrap_or(Said::Nothing));
    }

    /// The state is gone: the decision, then the record.
    fn known(&mut self, answer: &Answer, w: &mut World) {
        let said = match answer {
            Answer::Active(Some(Decision::Rejected(_))) => Said::Rejected,
            Answer::Active(Some(Decision::Accepted)) => Said::Full,
            Answer::Active(None) => return self.acts.push_back(Act::KnownRecord),
            Answer::Record(Some(record)) => match record.state.as_str() {
                "rejected" => Said::Rejected,
                "failed" => Said::Gone,
                _ => Said::Full,
            },
            Answer::Record(None) => Said::NotFound,
            _ => Said::Nothing,
        };
        self.say(w, said);
    }
}
