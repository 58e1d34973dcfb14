//! The start of every request on an existing upload: read the state, see whether the caller may,
//! end another writer (ask it, wait for it, take over), and swap to what the request wants.

mod append;

use std::collections::BTreeMap;

use crate::access::Principal;
use crate::call::{Answer, Call, Context, Expect, Next};
use crate::cas::{Cas, Swap};
use crate::document::{Phase, State};
use crate::parts::{Recovered, SeenPart, recover};

/// How long another replica's writer is waited for before it is taken over.
pub const TAKE_OVER_MS: u64 = 1_500;
/// PATCHes below this size that do not end the upload are counted.
pub const SMALL_PATCH: u64 = 64 * 1024;
/// So many of them are taken in a minute.
pub const SMALL_PER_MINUTE: u32 = 10;
const POLL_MS: u64 = 100;
const SHORT_LISTS: u8 = 3;
const MAX_ROUNDS: u8 = 8;
pub(crate) const MINUTE_MS: u64 = 60_000;

/// What the request wants of the upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Answer its offset.
    Read,
    /// Append.
    Write(Append),
    /// Terminate it.
    Terminate,
    /// Expire it, unless all its bytes are there (the sweep, as nobody's principal).
    Expire {
        /// The version whose age was seen; any other means that somebody goes on with it.
        etag: String,
    },
}

/// What a request appends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Append {
    /// Where the client believes it goes on.
    pub offset: u64,
    /// Bytes it says it sends.
    pub body: Option<u64>,
    /// Bytes that it says the whole upload has.
    pub length: Option<u64>,
    /// Where the end is said (the IETF draft): whether this body brings it.
    pub complete: Option<bool>,
    /// Whether the body has a checksum, so that nothing of it counts before that was compared.
    pub verify: bool,
    /// Digests that the whole must have, in hex by algorithm.
    pub digests: BTreeMap<String, String>,
}

/// How an opening ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    /// Closed at `doc.offset`, nothing to do but answer.
    Closed(Box<State>),
    /// This request is the writer of `doc` (stored under this ETag).
    Writer(Box<State>, String),
    /// All bytes are durable: run the finish sequence from this document.
    Whole(Box<State>, String),
    /// The request's offset is wrong; the right one is in the document.
    WrongOffset(Box<State>),
    /// The body would go beyond the length.
    TooLong(Box<State>),
    /// What the request says of the whole, its length or a digest, is not what was said before.
    Inconsistent(Box<State>),
    /// The length is beyond what the upload may have.
    OverLimit(u64),
    /// Too many small PATCHes; seconds until the next minute.
    TooManySmall(u64),
    /// Dead; `now` says whether this request made it so (then the parts are to be aborted).
    Dead {
        /// The dead document.
        doc: Box<State>,
        /// Whether this machine swapped it.
        now: bool,
    },
    /// Somebody was at it since its age was seen: it is not to be expired.
    Stirred,
    /// There is no state object: answer from the record or the decision.
    Missing,
    /// The caller may not see it.
    Foreign,
    /// No clear answer from the store in time.
    Fault(String),
}

#[derive(Clone, Debug)]
enum At {
    Remembering(Box<State>, String),
    Reading,
    Asking,
    Waiting,
    Listing(Box<State>, String),
    Relisting(Box<State>, String),
    TakingOver(Cas),
    Swapping(Cas),
}

/// The opening of one request.
#[derive(Clone, Debug)]
pub struct Open {
    goal: Goal,
    principal: Option<Principal>,
    at: At,
    asked: bool,
    waiting_since: Option<u64>,
    short_lists: u8,
    rounds: u8,
}

impl Open {
    /// An opening for a request of `principal`; without one (the sweep) everything is allowed.
    #[must_use]
    pub fn new(goal: Goal, principal: Option<Principal>) -> Self {
        Self {
            goal,
            principal,
            at: At::Reading,
            asked: false,
            waiting_since: None,
            short_lists: 0,
            rounds: 0,
        }
    }

    /// As `new`, with a document that this process saw under `etag`. It saves the read when it is
    /// still the stored one, which the swap proves; nothing is ever answered from it.
    #[must_use]
    pub fn remembering(goal: Goal, principal: Option<Principal>, doc: State, etag: String) -> Self {
        Self {
            at: At::Remembering(Box::new(doc), etag),
            ..Self::new(goal, principal)
        }
    }

    /// Takes the answer of the last call.
    pub fn step(&mut self, answer: Answer, ctx: Context<'_>) -> Next<Opened> {
        if let Answer::Failed(why) = answer {
            return Next::Done(Opened::Fault(why));
        }
        match (std::mem::replace(&mut self.at, At::Reading), answer) {
            (At::Remembering(doc, etag), Answer::Begin) => self.remembered(doc, etag, ctx),
            (At::Reading, Answer::Begin) | (At::Waiting, Answer::Waited) => {
                Next::Call(Call::GetState)
            }
            (At::Reading, Answer::State(found)) => self.read(found, ctx),
            (At::Asking, Answer::Asked(true)) => Next::Call(Call::GetState),
            (At::Asking, Answer::Asked(false)) => self.wait(),
            (At::Listing(doc, etag), Answer::Parts(seen)) => self.listed(doc, etag, seen, ctx),
            (At::Relisting(doc, etag), Answer::Waited) => self.list(doc, etag, ctx),
            (At::TakingOver(mut cas), answer) => match cas.step(answer) {
                Swap::Call(call) => self.go(At::TakingOver(cas), call),
                Swap::Won(doc, etag) => {
                    if let Goal::Expire { etag: seen } = &mut self.goal {
                        seen.clone_from(&etag);
                    }
                    self.read(Some((doc, etag)), ctx)
                }
                Swap::Lost(found) => self.again(found, ctx),
                Swap::Fault(why) => Next::Done(Opened::Fault(why)),
            },
            (At::Swapping(mut cas), answer) => match cas.step(answer) {
                Swap::Call(call) => self.go(At::Swapping(cas), call),
                Swap::Won(doc, etag) => Next::Done(match doc.phase {
                    Phase::Dead => Opened::Dead { doc, now: true },
                    Phase::Open | Phase::Closed | Phase::Finishing => Opened::Writer(doc, etag),
                }),
                Swap::Lost(found) => self.again(found, ctx),
                Swap::Fault(why) => Next::Done(Opened::Fault(why)),
            },
            (at, answer) => Next::Done(Opened::Fault(format!(
                "open an upload: {answer:?} at {at:?}"
            ))),
        }
    }

    fn go(&mut self, at: At, call: Call) -> Next<Opened> {
        self.at = at;
        Next::Call(call)
    }

    /// Only a swap may follow from what is remembered; for everything else the state is read.
    fn remembered(&mut self, doc: Box<State>, etag: String, ctx: Context<'_>) -> Next<Opened> {
        if doc.phase == Phase::Closed
            && let next @ Next::Call(_) = self.read(Some((doc, etag)), ctx)
        {
            return next;
        }
        self.go(At::Reading, Call::GetState)
    }

    fn wait(&mut self) -> Next<Opened> {
        self.go(At::Waiting, Call::Wait { ms: POLL_MS })
    }

    /// Another request swapped first: decide anew on what it left, but not for ever.
    fn again(&mut self, found: Option<(Box<State>, String)>, ctx: Context<'_>) -> Next<Opened> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Next::Done(Opened::Fault(
                "open an upload: other requests keep changing it".into(),
            ));
        }
        self.asked = false;
        self.read(found, ctx)
    }

    fn read(&mut self, found: Option<(Box<State>, String)>, ctx: Context<'_>) -> Next<Opened> {
        let Some((doc, etag)) = found else {
            return Next::Done(Opened::Missing);
        };
        if self
            .principal
            .as_ref()
            .is_some_and(|p| !p.may_access(&doc.owner, &doc.tenant))
        {
            return Next::Done(Opened::Foreign);
        }
        if let Goal::Expire { etag: seen } = &self.goal
            && *seen != etag
        {
            return Next::Done(Opened::Stirred);
        }
        match doc.phase {
            Phase::Dead => Next::Done(Opened::Dead { doc, now: false }),
            Phase::Finishing => Next::Done(Opened::Whole(doc, etag)),
            Phase::Closed => self.closed(doc, etag, ctx),
            Phase::Open => self.busy(doc, etag, ctx),
        }
    }

    /// Another writer has it.
    fn busy(&mut self, doc: Box<State>, etag: String, ctx: Context<'_>) -> Next<Opened> {
        match self.goal {
            Goal::Terminate => return self.kill(&doc, etag, "terminated", ctx),
            Goal::Expire { .. } => return self.list(doc, etag, ctx),
            Goal::Read | Goal::Write(_) => {}
        }
        if ctx.waited_ms(&mut self.waiting_since) >= TAKE_OVER_MS {
            return self.list(doc, etag, ctx);
        }
        if self.asked {
            return self.wait();
        }
        self.asked = true;
        self.go(At::Asking, Call::AskWriter)
    }

    fn closed(&mut self, doc: Box<State>, etag: String, ctx: Context<'_>) -> Next<Opened> {
        if doc.is_full() && self.goal != Goal::Terminate {
            return Next::Done(Opened::Whole(doc, etag));
        }
        match self.goal.clone() {
            Goal::Read => Next::Done(Opened::Closed(doc)),
            Goal::Terminate => self.kill(&doc, etag, "terminated", ctx),
            Goal::Expire { .. } => self.kill(&doc, etag, "expired", ctx),
            Goal::Write(append) => match append.open(doc, ctx) {
                Ok(next) => {
                    let (cas, call) = Cas::begin(*next, Expect::Match(etag));
                    self.go(At::Swapping(cas), call)
                }
                Err(opened) => Next::Done(opened),
            },
        }
    }

    fn kill(&mut self, doc: &State, etag: String, reason: &str, ctx: Context<'_>) -> Next<Opened> {
        let (cas, call) = Cas::begin(doc.dead(reason, ctx.nonce), Expect::Match(etag));
        self.go(At::Swapping(cas), call)
    }

    /// Starts a take-over: the offset has to be recovered from the store.
    fn list(&mut self, doc: Box<State>, etag: String, ctx: Context<'_>) -> Next<Opened> {
        match doc.multipart.clone() {
            Some(multipart) => self.go(At::Listing(doc, etag), Call::ListParts { multipart }),
            None => self.take_over(*doc, etag, ctx),
        }
    }

    fn listed(
        &mut self,
        doc: Box<State>,
        etag: String,
        seen: Option<Vec<SeenPart>>,
        ctx: Context<'_>,
    ) -> Next<Opened> {
        let Some(seen) = seen else {
            let lost = doc.without_parts(ctx.nonce);
            return match lost.phase {
                Phase::Dead => {
                    let (cas, call) = Cas::begin(lost, Expect::Match(etag));
                    self.go(At::Swapping(cas), call)
                }
                Phase::Open | Phase::Closed | Phase::Finishing => self.take_over(lost, etag, ctx),
            };
        };
        match recover(&doc, &seen) {
            Recovered::At(to) => self.take_over(*to, etag, ctx),
            Recovered::Short { .. } if self.short_lists < SHORT_LISTS => {
                self.short_lists += 1;
                self.go(At::Relisting(doc, etag), Call::Wait { ms: 2 * POLL_MS })
            }
            Recovered::Short { listed } => Next::Done(Opened::Fault(format!(
                "recover upload {}: the store lists {listed} bytes, {} were confirmed",
                doc.id, doc.offset
            ))),
        }
    }

    fn take_over(&mut self, doc: State, etag: String, ctx: Context<'_>) -> Next<Opened> {
        let next = State {
            phase: Phase::Closed,
            unverified: false,
            epoch: doc.epoch + 1,
            nonce: ctx.nonce.into(),
            ..doc
        };
        let (cas, call) = Cas::begin(next, Expect::Match(etag));
        self.go(At::TakingOver(cas), call)
    }
}
