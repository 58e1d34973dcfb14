//! The finish sequence of an actor, and what sweeps do before it.

use std::collections::BTreeMap;

use kinora_upload_engine::finish::{Facts, Finish, Finished, Start};
use kinora_upload_engine::{Answer, Call, Decision, Phase};

use super::{Actor, Kind, Said, Stage};
use crate::store::{Act, ID, Outbox};
use crate::world::{PART, World};

impl Actor {
    pub(super) fn finish(&mut self, machine: Finish, w: &mut World) {
        let machine = Self::looking(machine, w);
        let facts = machine.facts();
        if self.bag.outbox.is_none() {
            self.bag.outbox = Some(Outbox {
                at: 0,
                length: facts.length,
                multipart: facts.multipart.clone(),
                crc: facts.crc,
                state: facts.state,
            });
        }
        self.stage = Stage::Finishing(Box::new(machine));
        self.deliver(Answer::Begin, w);
    }

    pub(super) fn call_of_finish(&mut self, call: Call, w: &mut World) {
        if let Call::CleanUp { slices, state } = call {
            // Handed to the janitor, who comes later.
            self.garbage.push_back(Act::DropPending);
            if !slices.is_empty() {
                self.garbage.push_back(Act::DropSlices(slices));
            }
            if state {
                self.garbage.push_back(Act::DropState);
            }
            return self.deliver(Answer::Done, w);
        }
        self.call(call);
    }

    pub(super) fn finished(&mut self, finished: &Finished, w: &mut World) {
        let cancels = matches!(self.kind, Kind::Delete);
        let said = match finished {
            Finished::Accepted | Finished::Stored if cancels => Said::Cancelled,
            Finished::Accepted | Finished::Stored => Said::Full,
            Finished::Rejected(reason) if reason == "Empty" => Said::Full,
            Finished::Rejected(_) => Said::Rejected,
            Finished::StoreLost | Finished::Abandoned => Said::Gone,
            Finished::Conflict => Said::Conflict,
            Finished::GaveUp(_) => Said::Nothing,
        };
        self.say(w, said);
    }

    pub(super) fn sweep(&mut self, answer: Answer, w: &mut World) {
        match (answer, w.store.pending.clone()) {
            (Answer::Pending(true), Some(entry)) => {
                let facts = Facts {
                    id: ID.into(),
                    length: entry.length,
                    part_size: PART,
                    multipart: entry.multipart.clone(),
                    tail: Vec::new(),
                    spent: Vec::new(),
                    crc: entry.crc,
                    pin: None,
                    sure: BTreeMap::new(),
                    crc32c: None,
                    digests: BTreeMap::new(),
                    state: entry.state,
                };
                self.bag.outbox_time = entry.at;
                self.bag.outbox = Some(entry);
                self.finish(
                    Finish::new(facts, Start::Swept, Decision::Accepted, BTreeMap::new()),
                    w,
                );
            }
            (Answer::State(Some((doc, etag))), _) => {
                let whole = match doc.phase {
                    Phase::Finishing => true,
                    Phase::Closed => doc.is_full(),
                    Phase::Open | Phase::Dead => false,
                };
                match whole {
                    true => self.finish(Finish::from_state(*doc, etag, Decision::Accepted), w),
                    false => self.stage = Stage::Over,
                }
            }
            _ => self.stage = Stage::Over,
        }
    }
}
