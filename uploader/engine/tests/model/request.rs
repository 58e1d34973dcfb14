//! One request on one replica: opening, writing, finishing, one call at a time.

use std::collections::VecDeque;

use kinora_upload_engine::finish::{Facts, Finish, Finished, Start};
use kinora_upload_engine::open::{Goal, Open, Opened};
use kinora_upload_engine::write::{Cause, Event, Status, Writer};
use kinora_upload_engine::{Answer, Call, Context, Decision, Next, crc};

use crate::store::{Luck, Ram, Store};

/// What a request told its client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Offset(u64),
    /// 409 without progress, 5xx: the client asks again.
    Nothing,
}

enum Stage {
    Opening(Open),
    Writing(Box<Writer>),
    Finishing(Box<Finish>),
}

pub(crate) struct Request {
    body: Option<(u64, Vec<u8>)>,
    pub(crate) heard_before: u64,
    stage: Stage,
    calls: VecDeque<Call>,
    fed: usize,
    closed: bool,
    ram: Ram,
    length: u64,
    begun: bool,
}

impl Request {
    pub(crate) fn new(body: Option<(u64, Vec<u8>)>, heard_before: u64) -> Self {
        let goal = match &body {
            Some((offset, _)) => Goal::Write {
                offset: *offset,
                body: None,
            },
            None => Goal::Read,
        };
        let stage = Stage::Opening(Open::new(goal, None));
        let ram = Ram::default();
        Self {
            body,
            heard_before,
            stage,
            calls: VecDeque::new(),
            fed: 0,
            closed: false,
            ram,
            length: 0,
            begun: false,
        }
    }

    /// Executes the next call; the answer to the client, once there is one.
    pub(crate) fn step(
        &mut self,
        store: &mut Store,
        luck: Luck,
        now_ms: u64,
        nonce: &str,
    ) -> Option<Said> {
        let ctx = Context { now_ms, nonce };
        if now_ms % 4 < 2 && self.takes_more() {
            return self.feed(ctx);
        }
        // Calls of parts are on their way together and may come to their end in any order.
        let next = if now_ms % 8 < 4 {
            self.calls.pop_back()
        } else {
            self.calls.pop_front()
        };
        let answer = match next {
            Some(call) => store.execute(call, &self.ram, luck, self.length),
            None if self.begun => return self.feed(ctx),
            None => {
                self.begun = true;
                Answer::Begin
            }
        };
        self.take(answer, ctx)
    }

    /// Whether more of the body can come in beside the calls under way.
    fn takes_more(&self) -> bool {
        let Stage::Writing(writer) = &self.stage else {
            return false;
        };
        let left = self
            .body
            .as_ref()
            .is_some_and(|(_, body)| self.fed < body.len());
        left && writer.status() == Status::Filling && writer.room() > 0
    }

    fn take(&mut self, answer: Answer, ctx: Context<'_>) -> Option<Said> {
        match &mut self.stage {
            Stage::Opening(open) => match open.step(answer, ctx) {
                Next::Call(call) => self.calls.push_back(call),
                Next::Done(opened) => return self.opened(opened, ctx),
            },
            Stage::Writing(writer) => {
                let calls = writer.step(Event::Answer(answer), ctx);
                self.calls.extend(calls);
            }
            Stage::Finishing(finish) => match finish.step(answer, ctx) {
                Next::Call(call) => self.calls.push_back(call),
                Next::Done(Finished::Accepted | Finished::Stored) => {
                    return Some(Said::Offset(self.length));
                }
                Next::Done(Finished::GaveUp(_)) => return Some(Said::Nothing),
                Next::Done(other) => panic!("{other:?} without a fault of the store"),
            },
        }
        None
    }

    fn opened(&mut self, opened: Opened, ctx: Context<'_>) -> Option<Said> {
        match opened {
            Opened::Closed(doc) | Opened::WrongOffset(doc) => Some(Said::Offset(doc.offset)),
            Opened::Writer(doc, etag) => {
                self.ram = Ram {
                    from: doc.offset,
                    bytes: Vec::new(),
                };
                self.stage = Stage::Writing(Box::new(Writer::new(*doc, etag)));
                None
            }
            Opened::Whole(doc, etag) => {
                self.length = doc.offset;
                let finish = Finish::from_state(*doc, etag, Decision::Accepted);
                self.stage = Stage::Finishing(Box::new(finish));
                self.take(Answer::Begin, ctx)
            }
            // The state is gone: it was finished by somebody else.
            Opened::Missing | Opened::Fault(_) => Some(Said::Nothing),
            Opened::Lost(_) => Some(Said::Nothing),
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is under way: feed more of the body, close, or go on to the finish.
    fn feed(&mut self, ctx: Context<'_>) -> Option<Said> {
        let Stage::Writing(writer) = &mut self.stage else {
            panic!("no call and no end")
        };
        let (offset, body) = self.body.clone().unwrap_or_default();
        match writer.status() {
            Status::Filling | Status::Busy
                if writer.in_trouble() || (self.fed == body.len() && !self.closed) =>
            {
                self.closed = true;
                let got = crc::of(&body[..(writer.pos() - offset) as usize]);
                let calls = writer.step(Event::Close(Cause::End, got), ctx);
                self.calls.extend(calls);
                None
            }
            Status::Filling => {
                let n = (writer.room() as usize).min(body.len() - self.fed).min(3);
                self.ram.bytes.extend(&body[self.fed..self.fed + n]);
                self.fed += n;
                let calls = writer.step(Event::Bytes(n as u64), ctx);
                self.calls.extend(calls);
                None
            }
            Status::Closed { trouble: None } => Some(Said::Offset(writer.document().0.offset)),
            Status::Whole => {
                let facts = Facts::of(writer.document().0);
                self.length = facts.length;
                let known = writer.stored().clone();
                let finish = Finish::new(facts, Start::Fresh, Decision::Accepted, known);
                self.stage = Stage::Finishing(Box::new(finish));
                self.take(Answer::Begin, ctx)
            }
            Status::Closed { .. } | Status::Superseded | Status::Fault(_) => Some(Said::Nothing),
            status => panic!("no call, nothing to feed, and {status:?}"),
        }
    }
}
