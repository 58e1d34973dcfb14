//! Compare-and-swap manners of the state object: after 412, 409, timeout or 5xx the object is
//! read again, and whoever finds his own nonce has won.

use crate::call::{Answer, Call, Expect, PutAnswer};
use crate::document::State;

const MAX_TRIES: u8 = 4;

/// One swap in progress.
#[derive(Clone, Debug)]
pub(crate) struct Cas {
    doc: Box<State>,
    expect: Expect,
    tries: u8,
    /// A write had no clear answer: it may still come to be.
    unclear: bool,
}

/// Where a swap stands.
#[derive(Debug)]
pub(crate) enum Swap {
    /// Execute this.
    Call(Call),
    /// Stored: the document and its ETag.
    Won(Box<State>, String),
    /// Somebody else's document is stored (`None`: the object is gone).
    Lost(Option<(Box<State>, String)>),
    /// The store gave no clear answer.
    Fault(String),
}

impl Cas {
    /// Starts a swap; the call is its first.
    pub(crate) fn begin(doc: State, expect: Expect) -> (Self, Call) {
        let cas = Self {
            doc: Box::new(doc),
            expect,
            tries: 0,
            unclear: false,
        };
        let call = cas.put();
        (cas, call)
    }

    /// What is to be stored.
    pub(crate) fn document(&self) -> &State {
        &self.doc
    }

    fn put(&self) -> Call {
        Call::PutState {
            doc: self.doc.clone(),
            expect: self.expect.clone(),
        }
    }

    /// Takes the answer of the last call.
    pub(crate) fn step(&mut self, answer: Answer) -> Swap {
        match answer {
            Answer::Put(PutAnswer::Written(etag)) => Swap::Won(self.doc.clone(), etag),
            Answer::Put(PutAnswer::Lost) => Swap::Call(Call::GetState),
            Answer::Put(PutAnswer::Unknown) => {
                self.unclear = true;
                Swap::Call(Call::GetState)
            }
            Answer::State(Some((doc, etag))) if doc.nonce == self.doc.nonce => {
                Swap::Won(self.doc.clone(), etag)
            }
            Answer::State(found) => self.not_mine(found),
            Answer::Failed(why) => Swap::Fault(why),
            other => Swap::Fault(format!(
                "swap the state of upload {}: unexpected {other:?}",
                self.doc.id
            )),
        }
    }

    fn not_mine(&mut self, found: Option<(Box<State>, String)>) -> Swap {
        let untouched = match (&self.expect, &found) {
            (Expect::Match(etag), Some((_, now))) => etag == now,
            (Expect::Absent, None) => true,
            (Expect::Match(_), None) | (Expect::Absent, Some(_)) => false,
        };
        if !untouched {
            return Swap::Lost(found);
        }
        self.tries += 1;
        // A second create under this id could succeed, and the first come after the upload's end
        // and make its state anew. A swap that comes late finds another version.
        if self.unclear && self.expect == Expect::Absent {
            return Swap::Fault(format!(
                "create upload {}: no clear answer, and it is not there yet",
                self.doc.id
            ));
        }
        if self.tries >= MAX_TRIES {
            return Swap::Fault(format!(
                "swap the state of upload {}: the store takes no write",
                self.doc.id
            ));
        }
        Swap::Call(self.put())
    }
}
