//! Unfinished uploads: what was left whole is finished, what nobody went on with for a day is made
//! dead and its bytes are let go, and dead markers and lost slices go a day later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kinora_storage::selftest::MAX_SKEW_SECONDS;
use kinora_storage::{StoreError, UploadId, keys};
use kinora_upload_engine::finish::Finish;
use kinora_upload_engine::open::{Goal, Opened};
use kinora_upload_engine::{Decision, Phase, State};
use tokio::sync::Mutex;

use super::outbox::age_ms;
use crate::app::App;
use crate::drive::{Driver, Finisher, Ram, Source};
use crate::janitor::Garbage;
use crate::jobs::SinkError;

/// The ages, in milliseconds by the store's clock, at which the sweep acts.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// A state that has rested so long is looked at: its request may have died.
    pub look: u64,
    /// An upload that nobody goes on with lives this long.
    pub expire: u64,
    /// And no upload longer than this.
    pub life: u64,
    /// Nothing is removed while the store's clock and the local one are further apart, in seconds.
    pub max_skew_seconds: u64,
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            look: 5 * 60_000,
            expire: super::REST_MS,
            life: super::LIFE_MS,
            max_skew_seconds: MAX_SKEW_SECONDS,
        }
    }
}

impl Ages {
    /// The ages of a pass that begins at `now` by the store's clock: by one that is off nothing expires.
    fn at(self, now: Timestamp) -> Self {
        if !super::is_off(now, self.max_skew_seconds) {
            return self;
        }
        tracing::warn!("the clocks here and of the store differ: nothing expires");
        Self {
            expire: u64::MAX,
            life: u64::MAX,
            ..self
        }
    }
}

const PAGE: usize = 1000;
/// States that are looked at side by side: there may be a hundred thousand.
const AT_ONCE: usize = 16;

/// What a pass over the states did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweptStates {
    /// State objects seen.
    pub seen: usize,
    /// Uploads that were left whole, now finished.
    pub finished: usize,
    /// Uploads that are dead now.
    pub expired: usize,
    /// Markers and lost slices that are gone now.
    pub removed: usize,
}

/// One pass.
pub async fn sweep_states(app: &Arc<App>, ages: Ages) -> SweptStates {
    let now = app.store.now();
    match walk(app, now, ages.at(now)).await {
        Ok(pass) => {
            let seen = i64::try_from(pass.seen).unwrap_or(i64::MAX);
            app.metrics.unfinished_uploads.set(seen);
            pass
        }
        Err(error) => {
            tracing::warn!(%error, "the unfinished uploads could not be listed");
            SweptStates::default()
        }
    }
}

/// Walks all keys of unfinished uploads; those of one upload follow each other, its state first.
async fn walk(app: &Arc<App>, now: Timestamp, ages: Ages) -> Result<SweptStates, StoreError> {
    let round = Round::new(app, now, ages);
    let mut pass = SweptStates::default();
    let mut after: Option<String> = None;
    let mut with_state: Option<String> = None;
    loop {
        let page = app
            .store
            .list(keys::UPLOADS, after.as_deref(), PAGE)
            .await?;
        let mut resting = Vec::new();
        for entry in page.entries {
            match keys::upload_of(&entry.key) {
                Some(id) => {
                    with_state = Some(keys::upload_prefix(&id));
                    if id.cell() == app.cell.as_str() {
                        pass.seen += 1;
                        let age = age_ms(now, entry.last_modified);
                        resting.push((id, age, entry.etag));
                    }
                }
                None => {
                    let owned = with_state
                        .as_ref()
                        .is_some_and(|prefix| entry.key.starts_with(prefix));
                    if !owned && age_ms(now, entry.last_modified) >= ages.expire {
                        app.janitor.leave(Garbage {
                            first: vec![entry.key],
                            last: Vec::new(),
                        });
                        pass.removed += 1;
                    }
                }
            }
        }
        let visits = resting
            .into_iter()
            .map(|(id, age, etag)| round.visit(id, age, etag));
        let mut visits = stream::iter(visits).buffer_unordered(AT_ONCE);
        while let Some(came) = visits.next().await {
            pass.count(came);
        }
        after = page.next;
        if after.is_none() || app.closing.is_cancelled() {
            return Ok(pass);
        }
    }
}

/// What came of a look at an upload.
#[derive(Clone, Copy)]
enum Came {
    Nothing,
    Finished,
    Expired,
    Removed,
}

impl SweptStates {
    fn count(&mut self, came: Came) {
        match came {
            Came::Nothing => {}
            Came::Finished => self.finished += 1,
            Came::Expired => self.expired += 1,
            Came::Removed => self.removed += 1,
        }
    }
}

/// What the visits of a pass share.
struct Round<'a> {
    app: &'a Arc<App>,
    now: Timestamp,
    ages: Ages,
    /// Uploads are finished one after the other, so that the first finds out for all that Kubernetes takes no jobs.
    turn: Mutex<()>,
    stopped: AtomicBool,
}

impl<'a> Round<'a> {
    fn new(app: &'a Arc<App>, now: Timestamp, ages: Ages) -> Self {
        Self {
            app,
            now,
            ages,
            turn: Mutex::default(),
            stopped: AtomicBool::default(),
        }
    }

    /// Whether no more uploads are finished in this pass. Others still expire.
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.app.closing.is_cancelled()
    }

    async fn visit(&self, id: UploadId, age: u64, etag: String) -> Came {
        let now = u64::try_from(self.now.as_millisecond()).unwrap_or_default();
        let life = now.saturating_sub(id.unix_ms());
        let is_over = age >= self.ages.expire || life >= self.ages.life;
        if self.app.closing.is_cancelled() || age < self.ages.look && !is_over {
            return Came::Nothing;
        }
        let driver = Driver::new(self.app, &id);
        match is_over {
            true => self.expire(&driver, etag).await,
            false => self.look(&driver).await,
        }
    }

    /// Only a read: whether somebody still writes is not the sweep's to say.
    async fn look(&self, driver: &Driver) -> Came {
        if self.is_stopped() {
            return Came::Nothing;
        }
        let state = keys::state(&driver.id);
        let Ok(Some(object)) = self.app.store.get_document(&state).await else {
            return Came::Nothing;
        };
        let Ok(doc) = State::parse(&object.bytes) else {
            return Came::Nothing;
        };
        driver.touch(object.last_modified);
        let whole = match doc.phase {
            Phase::Finishing => true,
            Phase::Closed => doc.is_full(),
            Phase::Open | Phase::Dead => false,
        };
        match whole {
            true => self.finish(driver, doc, object.etag).await,
            false => Came::Nothing,
        }
    }

    async fn expire(&self, driver: &Driver, etag: String) -> Came {
        match driver.open(Goal::Expire { etag }, None).await {
            // Somebody went on with it since it was listed.
            Opened::Stirred => Came::Nothing,
            Opened::Dead { doc, now: true } => {
                driver.end(&doc).await;
                Came::Expired
            }
            // A day after its end nobody asks any more.
            Opened::Dead { doc, now: false } => {
                if !driver.end(&doc).await {
                    // Without the marker nobody would know of the parts that stay.
                    return Came::Nothing;
                }
                self.app.janitor.leave(Garbage {
                    first: Vec::new(),
                    last: vec![keys::state(&driver.id)],
                });
                Came::Removed
            }
            Opened::Whole(doc, etag) => self.finish(driver, *doc, etag).await,
            other => {
                tracing::warn!(upload = %driver.id, ?other, "an upload could not be expired");
                Came::Nothing
            }
        }
    }

    async fn finish(&self, driver: &Driver, doc: State, etag: String) -> Came {
        if doc.phase == Phase::Finishing && self.is_in_the_outbox(&driver.id).await {
            return Came::Nothing;
        }
        let _turn = self.turn.lock().await;
        self.app.pace.turn().await;
        if self.is_stopped() {
            return Came::Nothing;
        }
        let mut finisher = Finisher::new(driver.clone(), Source::State(&doc), Ram::default());
        finisher
            .run(Finish::from_state(doc, etag, Decision::Accepted))
            .await;
        if finisher.trouble().is_some_and(SinkError::meets_all) {
            self.stopped.store(true, Ordering::Relaxed);
        }
        Came::Finished
    }

    /// Then it is finished from there; the next pass sees to what cannot be asked about.
    async fn is_in_the_outbox(&self, id: &UploadId) -> bool {
        let entry = self.app.store.head(&keys::pending(id)).await;
        !matches!(entry, Ok(None))
    }
}
