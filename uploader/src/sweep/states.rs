//! Unfinished uploads: what was left whole is finished, what nobody went on with for a day is made
//! dead and its bytes are let go, and dead markers and lost slices go a day later.

use std::sync::Arc;

use jiff::Timestamp;
use kinora_storage::{StoreError, UploadId, keys};
use kinora_upload_engine::finish::Finish;
use kinora_upload_engine::open::{Goal, Opened};
use kinora_upload_engine::{Decision, Phase, State};

use super::outbox::age_ms;
use crate::app::App;
use crate::drive::{Driver, Finisher, Ram, Source};
use crate::janitor::Garbage;

/// The ages, in milliseconds by the store's clock, at which the sweep acts.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// A state that has rested so long is looked at: its request may have died.
    pub look: u64,
    /// An upload that nobody goes on with lives this long.
    pub expire: u64,
    /// And no upload longer than this.
    pub life: u64,
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            look: 5 * 60_000,
            expire: super::REST_MS,
            life: super::LIFE_MS,
        }
    }
}

const PAGE: usize = 1000;

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
    match walk(app, now, ages).await {
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
    let mut pass = SweptStates::default();
    let mut after: Option<String> = None;
    let mut with_state: Option<String> = None;
    loop {
        let page = app
            .store
            .list(keys::UPLOADS, after.as_deref(), PAGE)
            .await?;
        for entry in &page.entries {
            if app.closing.is_cancelled() {
                return Ok(pass);
            }
            match keys::upload_of(&entry.key) {
                Some(id) if id.cell() != app.cell.as_str() => {
                    with_state = Some(keys::upload_prefix(&id));
                }
                Some(id) => {
                    with_state = Some(keys::upload_prefix(&id));
                    pass.seen += 1;
                    let age = age_ms(now, entry.last_modified);
                    visit(app, &id, (age, &entry.etag), ages, &mut pass).await;
                }
                None => {
                    let owned = with_state
                        .as_ref()
                        .is_some_and(|prefix| entry.key.starts_with(prefix));
                    if !owned && age_ms(now, entry.last_modified) >= ages.expire {
                        app.janitor.leave(Garbage {
                            first: vec![entry.key.clone()],
                            last: Vec::new(),
                        });
                        pass.removed += 1;
                    }
                }
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(pass);
        }
    }
}

async fn visit(
    app: &Arc<App>,
    id: &UploadId,
    (age, etag): (u64, &str),
    ages: Ages,
    pass: &mut SweptStates,
) {
    let life = app.now_ms().saturating_sub(id.unix_ms());
    if age < ages.look && life < ages.life {
        return;
    }
    let driver = Driver::new(app, id);
    if age >= ages.expire || life >= ages.life {
        return expire(&driver, etag, pass).await;
    }
    // Only a read: whether somebody still writes is not the sweep's to say.
    let Ok(Some(object)) = app.store.get_document(&keys::state(id)).await else {
        return;
    };
    let Ok(doc) = State::parse(&object.bytes) else {
        return;
    };
    driver.touch(object.last_modified);
    let whole = match doc.phase {
        Phase::Finishing => true,
        Phase::Closed => doc.is_full(),
        Phase::Open | Phase::Dead => false,
    };
    if whole {
        finish(&driver, doc, object.etag, pass).await;
    }
}

async fn expire(driver: &Driver, etag: &str, pass: &mut SweptStates) {
    let etag = etag.to_owned();
    match driver.open(Goal::Expire { etag }, None).await {
        // Somebody went on with it since it was listed.
        Opened::Stirred => {}
        Opened::Dead { doc, now: true } => {
            driver.end(&doc).await;
            pass.expired += 1;
        }
        // A day after its end nobody asks any more.
        Opened::Dead { doc, now: false } => {
            driver.end(&doc).await;
            driver.app.janitor.leave(Garbage {
                first: Vec::new(),
                last: vec![keys::state(&driver.id)],
            });
            pass.removed += 1;
        }
        Opened::Whole(doc, etag) => finish(driver, *doc, etag, pass).await,
        other => tracing::warn!(upload = %driver.id, ?other, "an upload could not be expired"),
    }
}

async fn finish(driver: &Driver, doc: State, etag: String, pass: &mut SweptStates) {
    let mut finisher = Finisher::new(driver.clone(), Source::State(&doc), Ram::default());
    finisher
        .run(Finish::from_state(doc, etag, Decision::Accepted))
        .await;
    pass.finished += 1;
}
