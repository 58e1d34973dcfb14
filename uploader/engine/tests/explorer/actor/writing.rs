//! The body of an actor: fed to the engine's writer, closed as the server closes it.

use kinora_upload_engine::crc::Sums;
use kinora_upload_engine::finish::{Facts, Finish, Start};
use kinora_upload_engine::open::{Goal, Open};
use kinora_upload_engine::write::{Cause, Event, Status, Writer};
use kinora_upload_engine::{Answer, Context, Decision, State, crc};

use super::{Actor, Kind, Said, Stage, offset};
use crate::mutants::Mutant;
use crate::store::Ram;
use crate::world::World;

impl Actor {
    pub(super) fn write(&mut self, doc: State, etag: String, w: &mut World) {
        self.origin.body = Some((doc.offset, self.body.clone()));
        self.bag.ram = Ram {
            from: doc.offset,
            bytes: Vec::new(),
        };
        self.sums = doc.crc32c.is_some();
        self.stage = Stage::Writing(Box::new(Writer::new(doc, etag)));
        if let Some(older) = w.writers.insert(self.replica, self.origin.actor) {
            w.asked.insert(older);
        }
    }

    /// Whether more of the body can come in beside the calls under way.
    pub(super) fn takes_more(&self) -> bool {
        let Stage::Writing(writer) = &self.stage else {
            return false;
        };
        let silent = !self.idled && self.idle_after() == Some(self.fed as u64);
        self.cause.is_none()
            && self.fed < self.body.len()
            && !silent
            && writer.status() == Status::Filling
            && writer.room() > 0
    }

    fn idle_after(&self) -> Option<u64> {
        match &self.kind {
            Kind::Patch(patch) => patch.idle_after,
            _ => None,
        }
    }

    fn event(&mut self, event: Event, w: &mut World) {
        let nonce = w.nonce();
        let ctx = Context {
            now_ms: w.store.now,
            nonce: &nonce,
        };
        if let Stage::Writing(writer) = &mut self.stage {
            let calls = writer.step(event, ctx);
            self.calls(calls);
        }
    }

    pub(super) fn feed(&mut self, w: &mut World, pick: u64) {
        let Stage::Writing(writer) = &self.stage else {
            return;
        };
        let mut most = (writer.room() as usize).min(self.body.len() - self.fed);
        if let Some(idle) = self
            .idle_after()
            .filter(|idle| !self.idled && *idle > self.fed as u64)
        {
            most = most.min(idle as usize - self.fed);
        }
        let n = if pick == 0 {
            most
        } else {
            1 + pick as usize % most
        };
        self.bag
            .ram
            .bytes
            .extend(&self.body[self.fed..self.fed + n]);
        self.fed += n;
        self.event(Event::Bytes(n as u64), w);
    }

    fn close(&mut self, cause: Cause, w: &mut World) {
        self.cause = Some(cause);
        let came = &self.body[..self.fed];
        let sums = Sums {
            crc: crc::of(came),
            crc32c: self.sums.then(|| crc::crc32c(came)),
        };
        self.event(Event::Close(cause, sums), w);
    }

    /// Nothing is under way: close, go on after silence, answer, or finish.
    pub(super) fn written(&mut self, w: &mut World) {
        let Stage::Writing(writer) = &self.stage else {
            return;
        };
        let asked = w.asked.contains(&self.origin.actor);
        let (status, trouble, pos) = (writer.status(), writer.in_trouble(), writer.pos());
        let closed = offset(writer.document().0, w.length);
        let end = match &self.kind {
            Kind::Post { .. } => Cause::Complete,
            Kind::Patch(patch) if patch.cut => Cause::Client,
            Kind::Patch(_) if self.origin.damaged && w.mutant != Some(Mutant::ChecksumIgnored) => {
                Cause::Mismatch
            }
            Kind::Patch(patch) if patch.end == Some(true) => Cause::Complete,
            _ => Cause::End,
        };
        match (status, self.cause) {
            (Status::Filling | Status::Busy, None) if trouble => self.close(Cause::Client, w),
            (Status::Filling, None) if asked => self.close(Cause::Asked, w),
            (Status::Filling, None) if self.fed == self.body.len() => self.close(end, w),
            (Status::Filling, None) => {
                self.idled = true;
                self.close(Cause::Idle, w);
            }
            (Status::Closed { trouble: None }, Some(Cause::Idle)) if !asked => {
                self.cause = None;
                self.bag.ram = Ram {
                    from: pos,
                    bytes: Vec::new(),
                };
                self.event(Event::Resume, w);
            }
            (Status::Closed { .. }, _) => {
                self.leave(w);
                self.not_whole(closed, w);
            }
            (Status::Whole, _) => {
                self.leave(w);
                let Stage::Writing(writer) = std::mem::replace(&mut self.stage, Stage::Over) else {
                    return;
                };
                if w.mutant == Some(Mutant::AckBeforePending) {
                    w.told(self, &Said::Full);
                    self.said = Some(Said::Full);
                }
                let facts = Facts::of(writer.document().0);
                let known = writer.stored().clone();
                self.finish(
                    Finish::new(facts, Start::Fresh, Decision::Accepted, known),
                    w,
                );
            }
            (Status::Dead, _) => {
                self.leave(w);
                self.not_whole(Said::Gone, w);
            }
            (Status::Superseded | Status::Fault(_), _) => {
                self.leave(w);
                self.not_whole(Said::Nothing, w);
            }
            (status, cause) => {
                w.wrong(format!("a writer waits for nothing: {status:?}, {cause:?}"));
            }
        }
    }

    fn not_whole(&mut self, said: Said, w: &mut World) {
        if matches!(self.kind, Kind::Post { .. }) {
            // Whoever sent a plain body has no URL to go on with.
            self.stage = Stage::Opening(Open::new(Goal::Terminate, None));
            return self.deliver(Answer::Begin, w);
        }
        self.say(w, said);
    }
}
