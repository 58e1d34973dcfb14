//! The world around the actors: time, the store with its faults by call, who writes on which
//! replica, the operator's side of a VideoJob, and what the oracle knows.

use std::collections::{BTreeMap, BTreeSet};

use kinora_upload_engine::call::FinalRecord;
use kinora_upload_engine::document::{SmallPatches, VERSION};
use kinora_upload_engine::{Answer, Call, Decision, Owner, Phase, PutAnswer, State};

use crate::actor::Origin;
use crate::dice::Dice;
use crate::film::film;
use crate::mutants::{self, Mutant};
use crate::oracle::Oracle;
use crate::store::{Act, Bag, Job, Luck, Manners, Store, digest};

/// Bytes of a part.
pub(crate) const PART: u64 = 8;
pub(crate) const SECOND: u64 = 1_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;

/// What happens at one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    CrashBefore,
    CrashAfter,
    Luck(Luck),
    /// No answer, and the effect comes so many calls later.
    Late(u32),
    /// The process stands still for so many calls of others, with this call in hand.
    Stall(u32),
    /// Somebody aborts all multipart uploads before the call.
    AbortBehind,
}

pub(crate) enum Reply {
    Answer(Answer),
    Dead,
    Stalled(u32),
}

/// What can go wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Read,
    /// A conditional write, or one that has a 409 of its own.
    Conditional,
    Write,
}

struct Late {
    due: u32,
    act: Act,
    origin: Origin,
    bag: Bag,
}

/// What kind of upload the story is of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// The end is said, as in the IETF draft.
    pub(crate) draft: bool,
    /// The length is told later.
    pub(crate) deferred: bool,
    /// The file is a video, and the finish looks into it.
    pub(crate) looks: bool,
    /// The file is none.
    pub(crate) no_video: bool,
    /// Digests of the whole: right ones, or wrong in this algorithm.
    pub(crate) digests: Option<Option<&'static str>>,
}

impl Wish {
    /// Whether the upload is refused at its end.
    pub(crate) fn refused(self) -> bool {
        self.no_video || matches!(self.digests, Some(Some(_)))
    }
}

pub(crate) struct World {
    pub(crate) wish: Wish,
    pub(crate) store: Store,
    pub(crate) length: u64,
    /// What the two clients send.
    pub(crate) files: [Vec<u8>; 2],
    pub(crate) oracle: Oracle,
    pub(crate) writers: BTreeMap<u8, usize>,
    pub(crate) asked: BTreeSet<usize>,
    pub(crate) hints: BTreeMap<u8, (State, String)>,
    pub(crate) skews: [i64; 3],
    pub(crate) faults: BTreeMap<u32, Fault>,
    /// Faults by chance, while it is there.
    pub(crate) dice: Option<Dice>,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) classes: Vec<Class>,
    pub(crate) calls: u32,
    pub(crate) violation: Option<String>,
    pub(crate) trace: Option<Vec<String>>,
    late: Vec<Late>,
    nonces: u64,
    actors: usize,
}

/// A file of one client; two clients differ in every byte.
fn file(length: u64, client: u8) -> Vec<u8> {
    (0..length)
        .map(|at| ((at * 7 + at / 8) as u8 & 0x7f) | (client << 7))
        .collect()
}

/// A new state object.
pub(crate) fn fresh(w: &mut World, length: Option<u64>) -> State {
    State {
        v: VERSION,
        id: crate::store::ID.into(),
        owner: Owner {
            iss: "apikey".into(),
            sub: "k".into(),
        },
        tenant: "acme".into(),
        profile: "default".into(),
        metadata: BTreeMap::new(),
        upload_metadata: None,
        length,
        part_size: PART,
        key: "videos/x".into(),
        multipart: None,
        epoch: 0,
        phase: Phase::Closed,
        offset: 0,
        tail: vec![],
        spent: vec![],
        crc: Some(0),
        pin: None,
        unverified: false,
        doubted: None,
        sure: BTreeMap::new(),
        complete: None,
        limit: None,
        digests: BTreeMap::new(),
        crc32c: None,
        sniffed: true,
        reason: None,
        small: SmallPatches::default(),
        created_ms: 0,
        nonce: w.nonce(),
        extra: serde_json::Map::new(),
    }
}

/// The new state object of a create without bytes.
pub(crate) fn wished(w: &mut World) -> State {
    let known = !w.wish.deferred;
    let mut doc = fresh(w, known.then_some(w.length));
    doc.complete = (w.wish.draft && !known).then_some(false);
    let names = ["crc64nvme", "crc32c", "sha-256"];
    for name in names.iter().filter(|_| w.wish.digests.is_some()) {
        let mut bytes = w.files[0].clone();
        if w.wish.digests == Some(Some(name)) {
            bytes.push(1);
        }
        doc.digests.insert((*name).into(), digest(name, &bytes));
        doc.crc32c = Some(0);
    }
    doc
}

impl World {
    pub(crate) fn new(length: u64, same: bool, manners: Manners) -> Self {
        let store = Store {
            manners,
            now: 1_000 * HOUR,
            ..Store::default()
        };
        Self {
            store,
            wish: Wish::default(),
            length,
            files: [file(length, 0), file(length, u8::from(!same))],
            oracle: Oracle {
                same,
                ..Oracle::default()
            },
            writers: BTreeMap::new(),
            asked: BTreeSet::new(),
            hints: BTreeMap::new(),
            skews: [0; 3],
            faults: BTreeMap::new(),
            dice: None,
            mutant: None,
            classes: Vec::new(),
            calls: 0,
            violation: None,
            trace: None,
            late: Vec::new(),
            nonces: 0,
            actors: 0,
        }
    }

    /// The clients send videos.
    pub(crate) fn show(&mut self, two: bool) {
        self.files = [film(0), film(u8::from(two))];
        self.length = self.files[0].len() as u64;
    }

    pub(crate) fn nonce(&mut self) -> String {
        self.nonces += 1;
        format!("n{}", self.nonces)
    }

    pub(crate) fn next_actor(&mut self) -> usize {
        self.actors += 1;
        self.actors
    }

    pub(crate) fn skew_of(&self, replica: u8) -> i64 {
        self.skews.get(usize::from(replica)).copied().unwrap_or(0)
    }

    /// The first thing that is wrong is what counts.
    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(what.into());
        }
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// Executes one call of an actor, with the fault that is due for it.
    pub(crate) fn ask(&mut self, act: &Act, origin: &Origin, bag: &mut Bag, replica: u8) -> Reply {
        match act {
            Act::Engine(Call::Wait { ms }) => {
                self.store.now += ms;
                return Reply::Answer(Answer::Waited);
            }
            Act::Engine(Call::AskWriter) => {
                let writer = self
                    .writers
                    .get(&replica)
                    .copied()
                    .filter(|w| *w != origin.actor);
                self.asked.extend(writer);
                return Reply::Answer(Answer::Asked(writer.is_some()));
            }
            _ => {}
        }
        self.store.now += 3;
        let class = class(act);
        let fault = self
            .faults
            .get(&self.calls)
            .copied()
            .or_else(|| self.chance(class));
        self.calls += 1;
        self.classes.push(class);
        self.land();
        let now = self.store.now;
        self.note(|| {
            format!(
                "{now} actor {} on {replica}: {act:?} {fault:?}",
                origin.actor
            )
        });
        let answer = match fault {
            None => self.apply(act, origin, bag, Luck::Fine),
            Some(Fault::CrashBefore) => return Reply::Dead,
            Some(Fault::CrashAfter) => {
                self.apply(act, origin, bag, Luck::Fine);
                return Reply::Dead;
            }
            Some(Fault::Luck(luck)) => self.apply(act, origin, bag, luck),
            Some(Fault::Late(calls)) => {
                let (act, origin, bag) = (act.clone(), origin.clone(), bag.clone());
                self.late.push(Late {
                    due: self.calls + calls,
                    act,
                    origin,
                    bag,
                });
                let late = self.late.pop();
                let answer = late
                    .as_ref()
                    .map(|l| self.store.execute(&l.act, &l.bag, Luck::NotDone));
                self.late.extend(late);
                answer.unwrap_or(Answer::Failed("no answer".into()))
            }
            Some(Fault::Stall(calls)) => return Reply::Stalled(calls),
            Some(Fault::AbortBehind) => {
                self.oracle.tampered |= !self.store.multiparts.is_empty();
                self.store.multiparts.clear();
                self.apply(act, origin, bag, Luck::Fine)
            }
        };
        self.note(|| format!("    {answer:?}"));
        Reply::Answer(self.outbox_manners(act, answer, bag, replica))
    }

    /// What the server does around two of the calls.
    fn outbox_manners(&mut self, act: &Act, answer: Answer, bag: &mut Bag, replica: u8) -> Answer {
        match (act, &answer) {
            (Act::Engine(Call::PutPending), Answer::Put(PutAnswer::Lost)) => {
                let Some(entry) = self.store.pending.clone() else {
                    return Answer::Put(PutAnswer::Unknown);
                };
                bag.outbox_time = entry.at;
                bag.outbox = Some(entry);
            }
            (Act::Engine(Call::PutPending), _) => bag.outbox_time = self.store.now - 3,
            (Act::Engine(Call::PutState { doc, .. }), Answer::Put(PutAnswer::Written(etag)))
                if doc.phase == Phase::Closed =>
            {
                self.hints.insert(replica, ((**doc).clone(), etag.clone()));
            }
            _ => {}
        }
        answer
    }

    fn apply(&mut self, act: &Act, origin: &Origin, bag: &Bag, luck: Luck) -> Answer {
        match self.mutant {
            None => self.execute(act, origin, bag, luck),
            Some(mutant) => mutants::execute(self, mutant, act, origin, bag, luck),
        }
    }

    /// Executes a call under the oracle's eyes.
    pub(crate) fn execute(&mut self, act: &Act, origin: &Origin, bag: &Bag, luck: Luck) -> Answer {
        let before = self.glance(act);
        let answer = self.store.execute(act, bag, luck);
        self.judge(act, origin, before);
        answer
    }

    /// Effects that are due.
    fn land(&mut self) {
        while let Some(at) = self.late.iter().position(|late| late.due <= self.calls) {
            let late = self.late.remove(at);
            self.note(|| format!("    late: {:?}", late.act));
            self.apply(&late.act, &late.origin, &late.bag, Luck::Fine);
        }
    }

    /// No more faults: what is late comes now.
    pub(crate) fn calm(&mut self) {
        self.dice = None;
        for late in &mut self.late {
            late.due = 0;
        }
        self.land();
    }

    fn chance(&mut self, class: Class) -> Option<Fault> {
        let dice = self.dice.as_mut()?;
        if !dice.one_in(12) {
            return None;
        }
        let fault = match dice.below(10) {
            0..3 => Fault::Luck(Luck::AnswerLost),
            3..5 => Fault::Luck(Luck::NotDone),
            5 if class == Class::Conditional => Fault::Luck(Luck::Conflict),
            5..8 if class != Class::Read => Fault::Late(1 + dice.below(30) as u32),
            8 if dice.one_in(10) => Fault::AbortBehind,
            8 => Fault::CrashAfter,
            _ => Fault::CrashBefore,
        };
        Some(fault)
    }

    /// The operator's audit: a decision whose job was lost gets it again.
    fn audit(&mut self) {
        let Some(active) = &self.store.active else {
            return;
        };
        let old = self.store.now.saturating_sub(active.outbox_time) >= 10 * MINUTE;
        let lost = active.decision == Decision::Accepted && self.store.record.is_none();
        if old && lost && self.store.pending.is_none() {
            self.store.job = Some(Job {
                created: self.store.now,
                outbox_time: active.outbox_time,
                claimed: false,
            });
            self.note(|| "    the audit makes the job again".into());
        }
    }

    /// One step of the operator: claim, record, delete the decision, and after the TTL the job.
    pub(crate) fn operate(&mut self) {
        let now = self.store.now;
        let Some(job) = self.store.job.clone() else {
            return self.audit();
        };
        self.note(|| format!("{now} operator: {job:?}"));
        if !job.claimed {
            let late = job.created.saturating_sub(job.outbox_time) > MINUTE;
            if late && self.store.record.is_some() {
                self.store.job = None;
                return;
            }
            self.claimed();
            self.store.job = Some(Job {
                claimed: true,
                ..job
            });
        } else if self.store.record.is_none() {
            self.store.record = Some(FinalRecord {
                state: "succeeded".into(),
                reason: None,
            });
        } else if self.store.active.is_some() {
            self.store.active = None;
        } else if now - job.created >= 15 * MINUTE {
            self.store.job = None;
        }
    }
}

fn class(act: &Act) -> Class {
    match act {
        Act::KnownActive | Act::KnownRecord | Act::ReadPending | Act::ReadState => Class::Read,
        Act::DropPending | Act::DropSlices(_) | Act::DropState => Class::Write,
        Act::Engine(call) => match call {
            Call::PutState { .. }
            | Call::PutPending
            | Call::PutVideo { .. }
            | Call::PutActive { .. }
            | Call::PutRecord { .. }
            | Call::Abort { .. } => Class::Conditional,
            Call::CreateMultipart
            | Call::UploadPart { .. }
            | Call::PutSlice { .. }
            | Call::Complete { .. }
            | Call::DeleteVideo
            | Call::DeleteActive
            | Call::CreateJob
            | Call::PutIndex
            | Call::CleanUp { .. } => Class::Write,
            _ => Class::Read,
        },
    }
}
