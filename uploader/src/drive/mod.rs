//! Executes what the upload engine decides: one call at a time for opening and finishing, several
//! at once for the parts of a body.

pub mod begin;
pub mod body;
mod bytes;
mod calls;
mod ends;
mod finish;
mod finish_calls;
mod finish_digest;
mod pieces;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use bytes::Ram;
pub use finish::{Finisher, Source, swept_facts};
use jiff::Timestamp;
use kinora_storage::{UploadId, keys};
use kinora_upload_engine::create::{Create, Created};
use kinora_upload_engine::document::{STORE_LOST, SmallPatches, VERSION};
use kinora_upload_engine::end::{End, Ended};
use kinora_upload_engine::open::{Goal, Open, Opened};
use kinora_upload_engine::{Answer, Context, Next, Owner, Phase, Principal, State};
pub use pieces::Pieces;
use tokio::time::Instant;
pub use turns::Turns;

use crate::app::App;
use crate::janitor::{Garbage, LINGER};
use crate::metrics::WriterEnd;

/// Executes calls for one upload.
#[derive(Clone)]
pub struct Driver {
    /// The replica.
    pub app: Arc<App>,
    /// The upload.
    pub id: UploadId,
    /// Since when repeated creates look for it under this id and no other.
    pub promised: Option<Instant>,
    /// When its state was last written, as far as this request knows.
    touched: Arc<AtomicU64>,
}

/// A fresh nonce.
pub(crate) fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Driver {
    /// For one upload.
    #[must_use]
    pub fn new(app: &Arc<App>, id: &UploadId) -> Self {
        Self {
            app: Arc::clone(app),
            id: id.clone(),
            promised: None,
            touched: Arc::default(),
        }
    }

    /// The same for an upload that repeated creates look for under this id, and that was not there at `since`.
    #[must_use]
    pub fn promised(self, since: Instant) -> Self {
        Self {
            promised: Some(since),
            ..self
        }
    }

    /// Whether another try of the create may have been done meanwhile, with its state object gone already.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.promised.is_some_and(|since| since.elapsed() >= LINGER)
    }

    /// When the sweep may expire the upload, by the store's clock: none while nothing is known of
    /// its state.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        let at = crate::sweep::expires_ms(self.touched_ms()?, self.id.unix_ms());
        Timestamp::from_millisecond(i64::try_from(at).ok()?).ok()
    }

    /// When its state was last written, in milliseconds by the store's clock.
    pub(crate) fn touched_ms(&self) -> Option<u64> {
        let touched = self.touched.load(Ordering::Relaxed);
        (touched > 0).then_some(touched)
    }

    pub(crate) fn touch(&self, at: Timestamp) {
        let ms = u64::try_from(at.as_millisecond()).unwrap_or_default();
        self.touched.store(ms, Ordering::Relaxed);
    }

    /// Opens the upload for a request.
    pub async fn open(&self, goal: Goal, principal: Option<Principal>) -> Opened {
        let hint = match &goal {
            Goal::Write(append) => self.app.hints.take(&self.id, append.offset),
            Goal::Read | Goal::Terminate | Goal::Expire { .. } => None,
        };
        let mut machine = match hint {
            Some((doc, etag)) => Open::remembering(goal, principal, doc, etag),
            None => Open::new(goal, principal),
        };
        let mut answer = Answer::Begin;
        loop {
            let nonce = nonce();
            let ctx = Context {
                now_ms: self.app.now_ms(),
                nonce: &nonce,
            };
            match machine.step(answer, ctx) {
                Next::Call(call) => answer = self.call(call, &Ram::default()).await,
                Next::Done(opened) => {
                    self.note_loss(&opened);
                    return opened;
                }
            }
        }
    }

    /// Whoever takes over from a writer that died may be the one to find its parts gone.
    fn note_loss(&self, opened: &Opened) {
        if let Opened::Dead { doc, now: true } = opened
            && doc.reason.as_deref() == Some(STORE_LOST)
        {
            tracing::error!(upload = %self.id, offset = doc.offset, "the store lost what it had confirmed");
            self.app.metrics.wrote(WriterEnd::Lost);
        }
    }

    /// Stores a new state object.
    pub async fn create(&self, doc: State) -> Created {
        let mut machine = Create::new(doc);
        let mut answer = Answer::Begin;
        loop {
            match machine.step(answer) {
                Next::Call(call) => answer = self.call(call, &Ram::default()).await,
                Next::Done(created) => return created,
            }
        }
    }

    /// Lets go of what a dead upload left in the store; false when some of it stays for a later try.
    pub async fn end(&self, dead: &State) -> bool {
        let mut machine = End::new(dead);
        let mut answer = Answer::Begin;
        let ended = loop {
            match machine.step(answer) {
                Next::Call(call) => {
                    let none = Ram::default();
                    answer = Box::pin(self.call_for(call, &none, &dead.key)).await;
                }
                Next::Done(ended) => break ended,
            }
        };
        match ended {
            Ended::Clean(slices) => {
                let first = slices.iter().map(|slice| self.slice_key(slice)).collect();
                self.app.janitor.leave(Garbage {
                    first,
                    last: Vec::new(),
                });
                true
            }
            Ended::Later(why) => {
                tracing::warn!(upload = %self.id, why, "ending an upload is left to the sweep");
                false
            }
        }
    }

    /// Makes the upload dead and lets go of its bytes.
    pub async fn kill(&self) {
        if let Opened::Dead { doc, now: true } = self.open(Goal::Terminate, None).await {
            self.end(&doc).await;
        }
    }
}

/// The state of an upload that nothing has happened to yet, closed at 0, of nobody.
#[must_use]
pub fn blank_state(
    id: &UploadId,
    tenant: &str,
    profile: &str,
    length: Option<u64>,
    part_size: u64,
) -> State {
    State {
        v: VERSION,
        id: id.to_string(),
        owner: Owner {
            iss: String::new(),
            sub: String::new(),
        },
        tenant: tenant.into(),
        profile: profile.into(),
        metadata: BTreeMap::new(),
        upload_metadata: None,
        length,
        part_size,
        key: keys::video(id),
        multipart: None,
        epoch: 0,
        phase: Phase::Closed,
        offset: 0,
        tail: Vec::new(),
        spent: Vec::new(),
        crc: Some(0),
        pin: None,
        unverified: false,
        doubted: None,
        sure: BTreeMap::new(),
        complete: None,
        limit: None,
        digests: BTreeMap::new(),
        crc32c: None,
        sniffed: false,
        reason: None,
        small: SmallPatches::default(),
        created_ms: id.unix_ms(),
        nonce: nonce(),
        extra: crate::trace::kept(),
    }
}
