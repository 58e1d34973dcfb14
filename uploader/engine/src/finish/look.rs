//! Step 4: a look into the container of the finished object. What the store does not give is no
//! verdict: the sequence gives up and is repeated, as after a crash.

use crate::call::{Answer, Call, Decision, Next};
use crate::media::{Step, Verdict, Walk};

use super::{At, Finish, Finished};

impl Finish {
    /// Has the video looked into before the decision: it may play so many seconds.
    #[must_use]
    pub fn looking(mut self, max_seconds: u64) -> Self {
        self.max_seconds = Some(max_seconds);
        self
    }

    /// How long the video plays, in milliseconds, once it was looked into.
    #[must_use]
    pub fn duration_ms(&self) -> Option<u64> {
        self.duration_ms
    }

    /// Looks first where that was asked for; an object without multipart is at most one part.
    pub(super) fn decide(&mut self) -> Next<Finished> {
        if let Some(next) = self.digest() {
            return next;
        }
        match (self.max_seconds.take(), &self.verdict) {
            (Some(max_seconds), Decision::Accepted) => {
                let whole = self.facts.multipart.is_none();
                self.look(Walk::new(self.facts.length, whole, max_seconds))
            }
            _ => self.put_decision(),
        }
    }

    fn look(&mut self, mut walk: Walk) -> Next<Finished> {
        match walk.step() {
            Step::Read { from, to } => {
                self.go(At::Looking(Box::new(walk)), Call::ReadVideo { from, to })
            }
            Step::Done(Verdict::Accepted(media)) => {
                self.duration_ms = Some(media.duration_ms);
                self.put_decision()
            }
            Step::Done(Verdict::Rejected(why)) => {
                self.duration_ms = why.duration_ms;
                self.verdict = Decision::Rejected(why.reason.to_string());
                self.put_decision()
            }
        }
    }

    pub(super) fn looked(&mut self, mut walk: Walk, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Bytes(piece) => match walk.give(piece) {
                Ok(()) => self.look(walk),
                Err(error) => {
                    self.give_up("look into the object", &Answer::Failed(error.to_string()))
                }
            },
            other => self.give_up("look into the object", &other),
        }
    }
}
