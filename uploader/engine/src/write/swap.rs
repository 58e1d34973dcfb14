//! The swaps of a writer: naming its multipart upload, closing, and opening again after silence.

use crate::call::{Answer, Call, Context, Expect};
use crate::cas::{Cas, Swap};
use crate::document::Phase;

use super::{At, Status, Writer};

impl Writer {
    /// A multipart upload that the state will never name is nobody's, and is let go here.
    pub(super) fn save_multipart(&mut self, mut cas: Cas, answer: Answer) -> Vec<Call> {
        let made = cas.document().multipart.clone();
        match (cas.step(answer), made) {
            // What is stored may have come after this writer's swap: then it has the id too.
            (Swap::Lost(Some((doc, _))), Some(multipart))
                if doc.multipart != Some(multipart.clone()) =>
            {
                self.at = At::Discarding;
                vec![Call::Abort { multipart }]
            }
            (swap, _) => self.swapped(swap, cas, At::SavingMultipart),
        }
    }

    pub(super) fn swap(&mut self, mut cas: Cas, answer: Answer, back: fn(Cas) -> At) -> Vec<Call> {
        let swap = cas.step(answer);
        self.swapped(swap, cas, back)
    }

    fn swapped(&mut self, swap: Swap, cas: Cas, back: fn(Cas) -> At) -> Vec<Call> {
        match swap {
            Swap::Call(call) => {
                self.at = back(cas);
                vec![call]
            }
            Swap::Won(doc, etag) => {
                self.doc = *doc;
                self.etag = etag;
                self.won()
            }
            Swap::Lost(_) => {
                self.at = At::Ended(Status::Superseded);
                Vec::new()
            }
            Swap::Fault(why) => {
                self.at = At::Ended(Status::Fault(why));
                Vec::new()
            }
        }
    }

    fn won(&mut self) -> Vec<Call> {
        match self.doc.phase {
            Phase::Open => {
                self.at = At::Filling;
                self.upload_ready()
            }
            Phase::Closed => {
                self.pos = self.doc.offset;
                self.cut = self.doc.offset;
                self.at = At::Closed(self.trouble.take());
                Vec::new()
            }
            Phase::Finishing => {
                self.at = At::Ended(Status::Whole);
                Vec::new()
            }
            Phase::Dead => {
                self.at = At::Ended(Status::Dead);
                Vec::new()
            }
        }
    }

    pub(super) fn resume(&mut self, ctx: Context<'_>) -> Vec<Call> {
        let (cas, call) = Cas::begin(self.doc.opened(ctx.nonce), Expect::Match(self.etag.clone()));
        self.at = At::Reopening(cas);
        vec![call]
    }
}
