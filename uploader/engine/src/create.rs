//! The create: one conditional PUT of a new state object. The id is fresh and random, so whatever
//! is found under it with our nonce is ours.

use crate::call::{Answer, Call, Expect, Next};
use crate::cas::{Cas, Swap};
use crate::document::State;

/// How a create ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// Stored, under this ETag.
    There(Box<State>, String),
    /// No clear answer, or the id was taken: nothing may be told to the client, and another try
    /// takes another id, as this one may still come to be.
    Fault(String),
}

/// A create in progress.
#[derive(Clone, Debug)]
pub struct Create {
    cas: Cas,
    first: Option<Call>,
}

impl Create {
    /// Of this document.
    #[must_use]
    pub fn new(doc: State) -> Self {
        let (cas, call) = Cas::begin(doc, Expect::Absent);
        Self {
            cas,
            first: Some(call),
        }
    }

    /// Takes the answer of the last call.
    pub fn step(&mut self, answer: Answer) -> Next<Created> {
        if let Some(call) = self.first.take() {
            return Next::Call(call);
        }
        match self.cas.step(answer) {
            Swap::Call(call) => Next::Call(call),
            Swap::Won(doc, etag) => Next::Done(Created::There(doc, etag)),
            Swap::Lost(_) => Next::Done(Created::Fault("create an upload: its id is taken".into())),
            Swap::Fault(why) => Next::Done(Created::Fault(why)),
        }
    }
}
