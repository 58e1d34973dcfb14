//! Step 3: the object becomes visible. Complete is unconditional, as key and multipart id belong
//! to one upload; after an unclear answer the object itself is asked, and NoSuchUpload alone is
//! never taken for "complete".

use crate::call::{Answer, Call, CompleteAnswer, Decision, Next, PutAnswer, SeenVideo};
use crate::document::STORE_LOST;
use crate::parts::{pin, whole_parts};

use super::{At, Facts, Finish, Finished, Start};

/// So often a step is repeated that fails for good, in case somebody else did it.
const MAX_ATTEMPTS: u8 = 5;

impl Finish {
    /// Is the object there already? The sweeper first needs the slices, which only the state names.
    pub(super) fn find_source(&mut self) -> Next<Finished> {
        match self.start {
            Start::Swept if self.facts.state => self.go(At::FindState, Call::GetState),
            Start::Swept | Start::Fresh | Start::Found => self.find_object(),
        }
    }

    pub(super) fn found_state(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::State(Some((doc, _))) => {
                self.facts = Facts {
                    length: self.facts.length,
                    ..Facts::of(&doc)
                };
                self.known.extend(self.facts.sure.clone());
                self.find_object()
            }
            Answer::State(None) => self.find_object(),
            other => self.give_up("read the state", &other),
        }
    }

    fn find_object(&mut self) -> Next<Finished> {
        if self.facts.length == 0 {
            return self.decide();
        }
        self.go(At::FindObject, Call::HeadVideo)
    }

    pub(super) fn found_object(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Video(Some(video)) => self.compare(&video),
            Answer::Video(None) => self.store_object(),
            other => self.give_up("look for the object", &other),
        }
    }

    pub(super) fn store_object(&mut self) -> Next<Finished> {
        let refused = self.verdict != Decision::Accepted;
        if self.facts.length == 0 || refused || !self.settle_crcs() {
            // What is refused already never becomes visible.
            return self.decide();
        }
        if self.facts.multipart.is_none() {
            return self.store_video();
        }
        let count = self.facts.grid().count().unwrap_or(0);
        if (0..count).all(|part| self.known.contains_key(&part)) {
            return self.complete();
        }
        self.list()
    }

    pub(super) fn list(&mut self) -> Next<Finished> {
        match self.facts.multipart.clone() {
            Some(multipart) => self.go(At::ListParts, Call::ListParts { multipart }),
            None => self.store_video(),
        }
    }

    pub(super) fn listed(&mut self, answer: Answer) -> Next<Finished> {
        let seen = match answer {
            Answer::Parts(Some(seen)) => seen,
            Answer::Parts(None) => {
                return self.go(At::AfterComplete { gone: true }, Call::HeadVideo);
            }
            other => return self.give_up("list the parts", &other),
        };
        let grid = self.facts.grid();
        for (part, seen) in whole_parts(&grid, &seen) {
            // An ETag that was given to us is surer than the newest of a listing.
            self.known.entry(part).or_insert(seen.etag);
        }
        let count = grid.count().unwrap_or(0);
        let missing: Vec<u32> = (0..count)
            .filter(|part| !self.known.contains_key(part))
            .collect();
        match (missing.as_slice(), self.facts.multipart.clone()) {
            ([], _) => self.complete(),
            ([last], Some(multipart)) if *last + 1 == count => self.go(
                At::LastPart,
                Call::UploadPart {
                    multipart,
                    part: *last,
                    from: grid.start(*last),
                    to: grid.end(*last),
                    slices: self.facts.tail.clone(),
                },
            ),
            // A listing may lag; the bytes were confirmed.
            _ => self.retry(At::ListParts),
        }
    }

    pub(super) fn last_part(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Part { part, etag } => {
                self.known.insert(part, etag);
                self.complete()
            }
            // The upload may be completed or gone; the listing says which.
            Answer::NoSuchUpload | Answer::SliceGone | Answer::Failed(_)
                if self.attempts < MAX_ATTEMPTS =>
            {
                self.retry(At::ListParts)
            }
            Answer::SliceGone => self.slice_gone(),
            other => self.give_up("store the last part", &other),
        }
    }

    /// Whether the parts are those that the state counts. The checksum of the whole says more,
    /// where it is known: then the store refuses what is mixed.
    fn pinned(&self) -> bool {
        let (None, Some((want, count))) = (self.facts.crc, self.facts.pin) else {
            return true;
        };
        let etags = (0..count).map(|part| self.known.get(&part).map(String::as_str));
        pin(None, 0, etags) == Some(want)
    }

    pub(super) fn complete(&mut self) -> Next<Finished> {
        if !self.pinned() {
            return self.mixed();
        }
        match self.facts.multipart.clone() {
            Some(multipart) => {
                let call = Call::Complete {
                    multipart,
                    parts: self.known.clone(),
                    crc: self.facts.crc,
                };
                self.go(At::Completing, call)
            }
            None => self.store_video(),
        }
    }

    pub(super) fn completed(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Complete(CompleteAnswer::Done(_)) => self.decide(),
            Answer::Complete(CompleteAnswer::InvalidPart) => {
                // Somebody overwrote a part that was sure; checksum or pin say whether that counts.
                self.facts.sure.clear();
                self.known.clear();
                self.retry(At::ListParts)
            }
            Answer::Complete(CompleteAnswer::ChecksumMismatch) => self.mixed(),
            Answer::Complete(CompleteAnswer::NoSuchUpload) => {
                self.go(At::AfterComplete { gone: true }, Call::HeadVideo)
            }
            Answer::Complete(CompleteAnswer::Unknown) => {
                self.go(At::AfterComplete { gone: false }, Call::HeadVideo)
            }
            other => self.give_up("complete the object", &other),
        }
    }

    /// Mixed bytes must never become a video; nothing becomes visible.
    fn mixed(&mut self) -> Next<Finished> {
        self.verdict = Decision::Rejected(super::DIGEST_MISMATCH.into());
        self.decide()
    }

    pub(super) fn after_complete(&mut self, gone: bool, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Video(Some(video)) => self.compare(&video),
            Answer::Video(None) if gone => self.lose(),
            Answer::Video(None) => self.retry(At::Completing),
            other => self.give_up("look for the object", &other),
        }
    }

    pub(super) fn store_video(&mut self) -> Next<Finished> {
        let held: u64 = self
            .facts
            .tail
            .iter()
            .map(|slice| slice.to - slice.from)
            .sum();
        let in_memory = matches!(self.start, Start::Fresh);
        if !in_memory && held != self.facts.length {
            // A request that carried the whole file died before the object was stored: it was
            // never answered. With a state object the bytes had been confirmed.
            return if self.facts.state {
                self.lose()
            } else {
                self.abandon()
            };
        }
        let slices = self.facts.tail.clone();
        self.go(At::PutVideo, Call::PutVideo { slices })
    }

    pub(super) fn put_video(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Put(PutAnswer::Written(_)) => self.decide(),
            Answer::Put(PutAnswer::Lost | PutAnswer::Unknown) => {
                self.go(At::AfterVideo, Call::HeadVideo)
            }
            // The slices go when somebody else has finished: then the object is there.
            Answer::SliceGone | Answer::Failed(_) if self.attempts < MAX_ATTEMPTS => {
                self.go(At::AfterVideo, Call::HeadVideo)
            }
            Answer::SliceGone => self.slice_gone(),
            other => self.give_up("store the object", &other),
        }
    }

    pub(super) fn after_video(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Video(Some(video)) => {
                // Another try may have stored it and be long done: a decision made now has to meet its final record.
                self.start = Start::Found;
                self.compare(&video)
            }
            Answer::Video(None) => self.retry(At::PutVideo),
            other => self.give_up("look for the object", &other),
        }
    }

    /// Only the same upload with the same bytes is success.
    fn compare(&mut self, video: &SeenVideo) -> Next<Finished> {
        let ours = video.upload_id.as_deref() == Some(self.facts.id.as_str());
        let same_crc = self
            .facts
            .crc
            .zip(video.crc)
            .is_none_or(|(want, have)| want == have);
        if ours && video.size == self.facts.length && same_crc {
            return self.decide();
        }
        Next::Done(Finished::Conflict)
    }

    /// A slice is not there, however often it is asked for. Somebody else may have finished and cleaned up: everything that
    /// would tell so is read once more before the bytes are called lost.
    fn slice_gone(&mut self) -> Next<Finished> {
        if std::mem::replace(&mut self.asked_anew, true) {
            return self.lose();
        }
        if matches!(self.start, Start::Fresh) {
            self.start = Start::Found;
        }
        self.go(At::FindDecision, Call::GetActive)
    }

    fn lose(&mut self) -> Next<Finished> {
        self.go(
            At::Losing,
            Call::PutRecord {
                rejected: false,
                reason: STORE_LOST.into(),
            },
        )
    }

    pub(super) fn lost(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Put(PutAnswer::Written(_)) => self.index(Finished::StoreLost),
            // Somebody else ended it, perhaps otherwise: an object that was refused is gone too.
            Answer::Put(PutAnswer::Lost) => self.go(At::FindRecord, Call::GetRecord),
            other => self.give_up("record the loss", &other),
        }
    }

    fn abandon(&mut self) -> Next<Finished> {
        self.clean(Finished::Abandoned)
    }
}
