//! One run of the finish sequence: the engine's machine, its documents, and the bytes that this
//! request still has in memory.

use jiff::Timestamp;
use kinora_storage::documents::{Active, Pending};
use kinora_upload_engine::finish::{Facts, Finish, Finished};
use kinora_upload_engine::{Answer, Call, Context, Next, State};
use tokio::sync::OwnedSemaphorePermit;

use super::{Driver, Ram, nonce};
use crate::documents::{self, ObjectFacts};
use crate::jobs::SinkError;
use crate::metrics::FinishEnd;
use crate::profiles::Accept;

/// An upload that is whole waits so long for a replica that knows its profile.
const ROLLOUT_MS: u64 = 60 * 60_000;

/// Where the outbox entry of a run comes from.
pub enum Source<'a> {
    /// It is made from this state.
    State(&'a State),
    /// It is there, since this time.
    Stored(Box<Pending>, Timestamp),
}

/// One run.
pub struct Finisher {
    pub(super) driver: Driver,
    pub(super) pending: Pending,
    /// Whether it is the sweep of the outbox that runs it.
    pub(super) swept: bool,
    /// Last-Modified of the outbox entry, once it is stored.
    pub(super) outbox_time: Option<Timestamp>,
    pub(super) object: ObjectFacts,
    /// The decision, once it is stored or read.
    pub(super) active: Option<Active>,
    pub(super) ram: Ram,
    /// The turn of the look into the object, while it lasts.
    pub(super) look: Option<OwnedSemaphorePermit>,
    /// How long the video plays, in milliseconds, once it was looked into.
    pub(super) duration_ms: Option<u64>,
    pub(super) trouble: Option<SinkError>,
}

impl Finisher {
    /// A run for one upload; `ram` holds its last bytes, when this request received them.
    #[must_use]
    pub fn new(driver: Driver, source: Source<'_>, ram: Ram) -> Self {
        let swept = matches!(source, Source::Stored(..));
        let (pending, outbox_time) = match source {
            Source::Stored(pending, since) => (*pending, Some(since)),
            Source::State(state) => {
                let app = &driver.app;
                let profile = app.profiles.or_default(&state.profile);
                let pending = documents::pending(
                    &driver.id,
                    state,
                    profile,
                    &app.jobs_namespace,
                    app.store.now(),
                );
                (pending, None)
            }
        };
        let object = ObjectFacts {
            etag: None,
            parts_only: pending.crc.is_none(),
        };
        Self {
            driver,
            pending,
            swept,
            outbox_time,
            object,
            active: None,
            ram,
            look: None,
            duration_ms: None,
            trouble: None,
        }
    }

    /// Runs the sequence to its end.
    #[tracing::instrument(level = "debug", name = "finish", skip_all, fields(upload = %self.driver.id))]
    pub async fn run(&mut self, mut machine: Finish) -> Finished {
        if let Some(max_seconds) = self.max_seconds() {
            machine = machine.looking(max_seconds);
        }
        let mut answer = Answer::Begin;
        let ready = self.driver.app.ready.clone();
        let finished = loop {
            let nonce = nonce();
            let ctx = Context {
                now_ms: self.driver.app.now_ms(),
                nonce: &nonce,
            };
            match machine.step(answer, ctx) {
                Next::Call(
                    Call::PutPending
                    | Call::DigestVideo { .. }
                    | Call::ReadVideo { .. }
                    | Call::PutActive { .. },
                ) if !self.may_judge() => {
                    break Finished::GaveUp(format!(
                        "finish upload {}: its profile {} is not known here",
                        self.driver.id, self.pending.profile
                    ));
                }
                Next::Call(call) => {
                    self.duration_ms = machine.duration_ms();
                    if !matches!(call, Call::ReadVideo { .. }) {
                        self.look = None;
                    }
                    if is_past_the_bytes(&call) {
                        // Others wait for this memory, and Kubernetes may hang.
                        self.ram = Ram::default();
                    }
                    let call = Box::pin(self.call(call, machine.facts()));
                    // Whoever goes on later finds what a crash here would leave.
                    answer = tokio::select! {
                        biased;
                        answer = call => answer,
                        () = ready.store_gone() => {
                            break Finished::GaveUp("the object store does not answer".into());
                        }
                    };
                }
                Next::Done(finished) => break finished,
            }
        };
        self.look = None;
        self.report(&finished);
        finished
    }

    /// The limit of the profile on playing time; none where any file is taken.
    pub(super) fn max_seconds(&self) -> Option<u64> {
        let profile = self.driver.app.profiles.or_default(&self.pending.profile);
        match profile.accept {
            Accept::Video => Some(profile.max_seconds),
            Accept::Any => None,
        }
    }

    /// Whether this replica knows what the upload is judged by. While profiles are rolled out another one may; what has
    /// waited for that in vain, as its profile was removed, is judged by the default.
    fn may_judge(&self) -> bool {
        let app = &self.driver.app;
        let outbox = self.outbox_time;
        let outbox = outbox.and_then(|at| u64::try_from(at.as_millisecond()).ok());
        let since = outbox.into_iter().chain(self.driver.touched_ms()).min();
        app.profiles.get(&self.pending.profile).is_some()
            || since.is_some_and(|since| app.now_ms().saturating_sub(since) >= ROLLOUT_MS)
    }

    /// What Kubernetes said, when it did not take the job.
    #[must_use]
    pub fn trouble(&self) -> Option<&SinkError> {
        self.trouble.as_ref()
    }

    fn report(&self, finished: &Finished) {
        let id = &self.driver.id;
        let outcome = FinishEnd::from(finished).word();
        self.driver.app.metrics.finished(finished);
        match finished {
            Finished::Accepted => {
                tracing::info!(upload = %id, size = self.pending.length, outcome, "finished");
            }
            Finished::Stored => {
                let cause = self.trouble.as_ref().map(ToString::to_string);
                tracing::warn!(upload = %id, outcome, cause, "stored; the sweep creates its job");
            }
            Finished::Rejected(reason) => tracing::info!(upload = %id, outcome, reason, "finished"),
            Finished::Abandoned => {
                tracing::info!(upload = %id, outcome, "dropped an unanswered upload");
            }
            Finished::StoreLost => {
                tracing::error!(upload = %id, outcome, "the store lost the bytes of an upload");
            }
            Finished::Conflict => {
                tracing::error!(upload = %id, outcome, "other bytes are under the upload's key");
            }
            Finished::GaveUp(why) => {
                tracing::warn!(upload = %id, outcome, why, "finishing goes on later");
            }
        }
    }
}

/// Whether no step from this call on needs the bytes: what they are is decided.
fn is_past_the_bytes(call: &Call) -> bool {
    matches!(
        call,
        Call::PutActive { .. }
            | Call::CreateJob
            | Call::PutRecord { .. }
            | Call::DeleteVideo
            | Call::DeleteActive
            | Call::PutIndex
            | Call::CleanUp { .. }
    )
}

/// The facts of an outbox entry, for the sweeper.
#[must_use]
pub fn swept_facts(pending: &Pending) -> Facts {
    Facts {
        id: pending.id.to_string(),
        length: pending.length,
        part_size: pending.part_size,
        multipart: pending.multipart.clone(),
        tail: Vec::new(),
        spent: Vec::new(),
        crc: pending
            .crc
            .as_deref()
            .and_then(kinora_storage::checksum::from_base64),
        pin: None,
        sure: Default::default(),
        crc32c: None,
        digests: Default::default(),
        state: !documents::is_direct(pending),
    }
}
