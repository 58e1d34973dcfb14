//! The finish sequence, steps 2 to 8, as a resumable list. Each step is idempotent; a crash after
//! any of them is mended by running the list again from the state (`HEAD`, `PATCH`, the hourly
//! sweep) or from the outbox entry (the sweeper). Step 1, the swap to `finishing`, is the
//! writer's, or done here for an upload that was found full.

mod decide;
mod digest;
mod look;
mod object;

use std::collections::BTreeMap;

use crate::call::{Answer, Call, Context, Decision, Expect, Next};
use crate::cas::{Cas, Swap};
use crate::document::{Phase, STORE_LOST, Slice, State};
use crate::grid::Grid;
use crate::media::Walk;

/// A finisher gives up after this; the sweeper looks at entries older than 60 s.
pub const GIVE_UP_MS: u64 = 45_000;
/// Age at which the sweeper takes an outbox entry.
pub const SWEEP_AFTER_MS: u64 = 60_000;

/// What is finished, from the state object, the outbox entry, or memory alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The upload.
    pub id: String,
    /// Bytes of the whole.
    pub length: u64,
    /// Bytes of a part.
    pub part_size: u64,
    /// The multipart upload, if there is one.
    pub multipart: Option<String>,
    /// Slices with the bytes of the last part (or of all, when there is no multipart upload).
    pub tail: Vec<Slice>,
    /// Slices that only have to be deleted.
    pub spent: Vec<Slice>,
    /// CRC64NVME of the whole, when known.
    pub crc: Option<u64>,
    /// The pin of the parts that the state counts, and how many those are.
    pub pin: Option<(u64, u32)>,
    /// ETags that are known for certain of parts whose listing is doubted.
    pub sure: BTreeMap<u32, String>,
    /// CRC32C of the whole, when known.
    pub crc32c: Option<u32>,
    /// Digests that the whole must have, in hex by algorithm.
    pub digests: BTreeMap<String, String>,
    /// Whether a state object exists.
    pub state: bool,
}

impl Facts {
    /// The facts in a document whose bytes are all durable.
    #[must_use]
    pub fn of(doc: &State) -> Self {
        Self {
            id: doc.id.clone(),
            length: doc.offset,
            part_size: doc.part_size,
            multipart: doc.multipart.clone(),
            tail: doc.tail.clone(),
            spent: doc.spent.clone(),
            crc: doc.crc,
            pin: doc.pin.map(|pin| (pin, doc.counted_parts())),
            sure: doc.sure.clone(),
            crc32c: doc.crc32c,
            digests: doc.digests.clone(),
            state: true,
        }
    }

    fn grid(&self) -> Grid {
        Grid {
            part_size: self.part_size,
            length: Some(self.length),
        }
    }
}

/// Why a whole upload is refused whose bytes are not those that its client meant.
pub const DIGEST_MISMATCH: &str = "DigestMismatch";

/// From where the sequence starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// This process just made it whole and holds the only finisher of this epoch.
    Fresh,
    /// A `finishing` state was found; others may be at it, or may have ended it.
    Found,
    /// An outbox entry was found by the sweeper.
    Swept,
}

/// How the sequence ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Stored, accepted, and its VideoJob exists (or has come and gone).
    Accepted,
    /// Stored and accepted; the job follows when Kubernetes takes it.
    Stored,
    /// Refused for this reason; the final record says so.
    Rejected(String),
    /// The store lost the bytes; the final record says so.
    StoreLost,
    /// An object with other bytes is there under this upload's key.
    Conflict,
    /// An outbox entry of a request whose bytes never came whole: nobody was told of it.
    Abandoned,
    /// No clear answer in time; another try goes on from here.
    GaveUp(String),
}

#[derive(Clone, Debug)]
enum At {
    Start,
    Claiming(Cas),
    FindDecision,
    FindRecord,
    FindPending,
    FindState,
    PutPending,
    FindObject,
    ListParts,
    LastPart,
    Completing,
    AfterComplete { gone: bool },
    PutVideo,
    AfterVideo,
    Losing,
    Digesting,
    Looking(Box<Walk>),
    Deciding,
    ReadDecision,
    ReadRecord(Decision),
    Rejecting(String),
    DroppingVideo(String),
    DroppingActive(String),
    Creating,
    Indexing(Finished),
    Cleaning(Finished),
    Waiting(Box<At>),
}

/// One run of the finish sequence.
#[derive(Clone, Debug)]
pub struct Finish {
    facts: Facts,
    claim: Option<(State, String)>,
    start: Start,
    verdict: Decision,
    /// The limit of a look that is still to be taken.
    max_seconds: Option<u64>,
    duration_ms: Option<u64>,
    known: BTreeMap<u32, String>,
    decided: Option<Decision>,
    began_ms: Option<u64>,
    attempts: u8,
    /// A slice was gone, and it was looked for whoever may have finished.
    asked_anew: bool,
    at: At,
}

impl Finish {
    /// A run over `facts`. `verdict` is what a look at the video said; `known` the ETags of parts
    /// that this process stored itself.
    #[must_use]
    pub fn new(
        facts: Facts,
        start: Start,
        verdict: Decision,
        mut known: BTreeMap<u32, String>,
    ) -> Self {
        known.extend(facts.sure.clone());
        // Nothing can be processed of an empty file, whatever anybody says.
        let verdict = if facts.length == 0 {
            Decision::Rejected("Empty".into())
        } else {
            verdict
        };
        Self {
            facts,
            claim: None,
            start,
            verdict,
            max_seconds: None,
            duration_ms: None,
            known,
            decided: None,
            began_ms: None,
            attempts: 0,
            asked_anew: false,
            at: At::Start,
        }
    }

    /// A run for an upload whose state was read: `finishing`, or `closed` with all its bytes.
    #[must_use]
    pub fn from_state(doc: State, etag: String, verdict: Decision) -> Self {
        let mut run = Self::new(Facts::of(&doc), Start::Found, verdict, BTreeMap::new());
        run.claim = (doc.phase != Phase::Finishing).then_some((doc, etag));
        run
    }

    /// What is being finished.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes the answer of the last call.
    pub fn step(&mut self, answer: Answer, ctx: Context<'_>) -> Next<Finished> {
        if matches!(self.at, At::Digesting) {
            // A long video takes long to read; what follows has its own time.
            self.began_ms = Some(ctx.now_ms);
        }
        if ctx.waited_ms(&mut self.began_ms) > GIVE_UP_MS {
            return Next::Done(Finished::GaveUp(format!(
                "finish upload {}: no end within 45 s",
                self.facts.id
            )));
        }
        match std::mem::replace(&mut self.at, At::Start) {
            At::Start => self.begin(ctx),
            At::Claiming(cas) => self.claimed(cas, answer),
            At::FindDecision => self.found_decision(answer),
            At::FindRecord => self.found_record(answer),
            At::FindPending => self.found_pending(answer),
            At::FindState => self.found_state(answer),
            At::PutPending => self.put_pending(answer),
            At::FindObject => self.found_object(answer),
            At::ListParts => self.listed(answer),
            At::LastPart => self.last_part(answer),
            At::Completing => self.completed(answer),
            At::AfterComplete { gone } => self.after_complete(gone, answer),
            At::PutVideo => self.put_video(answer),
            At::AfterVideo => self.after_video(answer),
            At::Losing => self.lost(answer),
            At::Digesting => self.digested(answer),
            At::Looking(walk) => self.looked(*walk, answer),
            At::Deciding => self.decided(answer),
            At::ReadDecision => self.read_decision(answer),
            At::ReadRecord(decision) => self.read_record(decision, answer),
            At::Rejecting(reason) => self.rejected(reason, answer),
            At::DroppingVideo(reason) => self.dropped_video(reason, answer),
            At::DroppingActive(reason) => self.dropped_active(reason, answer),
            At::Creating => self.created(answer),
            At::Indexing(end) => self.indexed(end, &answer),
            At::Cleaning(end) => Next::Done(end),
            At::Waiting(then) => self.waited(*then),
        }
    }

    fn go(&mut self, at: At, call: Call) -> Next<Finished> {
        self.at = at;
        Next::Call(call)
    }

    fn give_up(&self, what: &str, answer: &Answer) -> Next<Finished> {
        let id = &self.facts.id;
        Next::Done(Finished::GaveUp(match answer {
            Answer::Failed(why) => format!("{what} of upload {id}: {why}"),
            other => format!("{what} of upload {id}: {other:?}"),
        }))
    }

    /// Tries a step again after a pause that doubles, within the 45 s.
    fn retry(&mut self, at: At) -> Next<Finished> {
        self.attempts = self.attempts.saturating_add(1);
        let ms = 100u64 << self.attempts.min(6);
        self.go(At::Waiting(Box::new(at)), Call::Wait { ms })
    }

    fn waited(&mut self, then: At) -> Next<Finished> {
        match then {
            At::Completing => self.complete(),
            At::PutVideo => self.store_video(),
            At::Deciding => self.decide(),
            At::PutPending => self.go(At::PutPending, Call::PutPending),
            At::ListParts => self.list(),
            other => Next::Done(Finished::GaveUp(format!(
                "finish upload {}: waited for {other:?}",
                self.facts.id
            ))),
        }
    }

    fn begin(&mut self, ctx: Context<'_>) -> Next<Finished> {
        if let Some((doc, etag)) = self.claim.take() {
            let (cas, call) = Cas::begin(doc.finishing(ctx.nonce), Expect::Match(etag));
            return self.go(At::Claiming(cas), call);
        }
        match self.start {
            Start::Fresh => self.go(At::PutPending, Call::PutPending),
            // Others may be ahead. The decision is read before the record: it goes only after
            // the record is there, so whoever ended the video is seen in one of the two.
            Start::Found | Start::Swept => self.go(At::FindDecision, Call::GetActive),
        }
    }

    fn claimed(&mut self, mut cas: Cas, answer: Answer) -> Next<Finished> {
        match cas.step(answer) {
            Swap::Call(call) => self.go(At::Claiming(cas), call),
            // Ours now: nobody can have been ahead of the swap.
            Swap::Won(..) => self.go(At::PutPending, Call::PutPending),
            Swap::Lost(Some((doc, _))) if doc.phase == Phase::Finishing => {
                self.facts = Facts::of(&doc);
                self.known.extend(self.facts.sure.clone());
                self.go(At::FindDecision, Call::GetActive)
            }
            Swap::Lost(_) => Next::Done(Finished::GaveUp(format!(
                "finish upload {}: another request changed it",
                self.facts.id
            ))),
            Swap::Fault(why) => Next::Done(Finished::GaveUp(why)),
        }
    }

    fn found_decision(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Active(decision) => {
                self.decided = decision;
                self.go(At::FindRecord, Call::GetRecord)
            }
            other => self.give_up("read the decision", &other),
        }
    }

    fn found_record(&mut self, answer: Answer) -> Next<Finished> {
        match answer {
            Answer::Record(Some(record)) => {
                let end = match (record.state.as_str(), record.reason.as_deref()) {
                    ("rejected", reason) => Finished::Rejected(reason.unwrap_or_default().into()),
                    ("failed", Some(STORE_LOST)) => Finished::StoreLost,
                    _ => Finished::Accepted,
                };
                self.finalised(&record, end)
            }
            Answer::Record(None) => self.go(At::FindPending, Call::GetPending),
            other => self.give_up("read the record", &other),
        }
    }

    fn found_pending(&mut self, answer: Answer) -> Next<Finished> {
        match (answer, self.decided.clone()) {
            // Somebody has come past step 5 and has begun to clean up.
            (Answer::Pending(false), Some(Decision::Accepted)) => self.clean(Finished::Accepted),
            (Answer::Pending(true), Some(Decision::Accepted)) => {
                self.go(At::Creating, Call::CreateJob)
            }
            (Answer::Pending(_), Some(Decision::Rejected(reason))) => self.reject(reason),
            (Answer::Pending(true), None) => self.find_source(),
            (Answer::Pending(false), None) => match self.start {
                Start::Swept => Next::Done(Finished::Accepted),
                Start::Fresh | Start::Found => self.go(At::PutPending, Call::PutPending),
            },
            (other, _) => self.give_up("read the outbox entry", &other),
        }
    }

    fn put_pending(&mut self, answer: Answer) -> Next<Finished> {
        use crate::call::PutAnswer::{Lost, Unknown, Written};
        match answer {
            // 412: an earlier try of ours stored it.
            Answer::Put(Written(_) | Lost) => match self.start {
                Start::Fresh => self.store_object(),
                Start::Found | Start::Swept => self.find_source(),
            },
            Answer::Put(Unknown) => self.retry(At::PutPending),
            other => self.give_up("store the outbox entry", &other),
        }
    }
}
