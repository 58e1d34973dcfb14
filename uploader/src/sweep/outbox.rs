//! The outbox: entries older than a minute by the store's clock are taken through steps 3 to 8.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kinora_storage::documents::{Pending, decode};
use kinora_storage::{StoreError, UploadId, keys};
use kinora_upload_engine::Decision;
use kinora_upload_engine::finish::{Finish, Finished, Start};
use rand::seq::SliceRandom;

use crate::app::App;
use crate::drive::{Driver, Finisher, Ram, Source, swept_facts};
use crate::jobs::SinkError;

/// Entries under way at once: each takes some calls to the store, which may be slow.
const AT_ONCE: usize = 8;
const PAGE: usize = 1000;
/// So many stale entries are taken in one pass; the next goes on.
const MOST: usize = 2000;

/// What a pass over the outbox did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Stale entries seen.
    pub stale: usize,
    /// Entries that came to their end.
    pub finished: usize,
    /// Whether Kubernetes stopped the pass.
    pub stopped: bool,
}

/// One pass over entries of at least this age in milliseconds, by the store's clock.
pub async fn sweep_outbox(app: &Arc<App>, min_age_ms: u64) -> Swept {
    let mut pass = Swept::default();
    let stale = match stale_entries(app, min_age_ms).await {
        Ok(stale) => stale,
        Err(error) => {
            tracing::warn!(%error, "the outbox could not be listed");
            pass.stopped = true;
            return pass;
        }
    };
    pass.stale = stale.seen;
    let mut stale = stale.kept;
    stale.shuffle(&mut rand::rng());
    let mut running = FuturesUnordered::new();
    loop {
        // The first goes alone, so that a Kubernetes that takes no jobs is asked once in a pass.
        let at_once = if pass.finished > 0 { AT_ONCE } else { 1 };
        let has_next = !stale.is_empty() && !pass.stopped && running.len() < at_once;
        tokio::select! {
            biased;
            Some(next) = running.next() => match next {
                Next::Finished => pass.finished += 1,
                Next::Left => {}
                Next::Stop => pass.stopped = true,
            },
            () = app.pace.turn(), if has_next => {
                if app.closing.is_cancelled() || !app.admission.is_open() {
                    pass.stopped = true;
                } else if let Some(id) = stale.pop() {
                    running.push(finish(app, id));
                }
            }
            else => return pass,
        }
    }
}

/// An even sample of at most [`MOST`] of all that is offered: while Kubernetes is away the outbox grows without bounds.
#[derive(Debug)]
struct Sample<T> {
    seen: usize,
    kept: Vec<T>,
}

impl<T> Sample<T> {
    fn offer(&mut self, item: T) {
        self.seen += 1;
        if self.kept.len() < MOST {
            self.kept.push(item);
        } else if let Some(place) = self.kept.get_mut(rand::random_range(0..self.seen)) {
            *place = item;
        }
    }
}

async fn stale_entries(app: &App, min_age_ms: u64) -> Result<Sample<UploadId>, StoreError> {
    let mut stale = Sample {
        seen: 0,
        kept: Vec::new(),
    };
    let (mut oldest, mut waits, mut all) = (0, 0, 0);
    let mut after: Option<String> = None;
    loop {
        let page = app
            .store
            .list(keys::PENDING, after.as_deref(), PAGE)
            .await?;
        let now = app.store.now();
        all += page.entries.len();
        for entry in page.entries {
            let age = age_ms(now, entry.last_modified);
            oldest = oldest.max(age);
            // Jobs of another cell are its own uploaders' to make.
            let id = keys::upload_of(&entry.key).filter(|id| id.cell() == app.cell.as_str());
            if id.as_ref().is_some_and(|id| !app.admission.is_stuck(id)) {
                waits = waits.max(age);
            }
            if let Some(id) = id.filter(|_| age >= min_age_ms) {
                stale.offer(id);
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let seconds = oldest / 1000;
    let uptime = app.admission.uptime().as_secs();
    app.admission.set_oldest_pending(uptime.min(waits / 1000));
    app.metrics
        .oldest_pending_seconds
        .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    app.metrics
        .pending
        .set(i64::try_from(all).unwrap_or(i64::MAX));
    app.metrics
        .stale_pending
        .set(i64::try_from(stale.seen).unwrap_or(i64::MAX));
    Ok(stale)
}

/// Age in milliseconds; what is from the future has none.
pub(super) fn age_ms(now: Timestamp, then: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond() - then.as_millisecond()).unwrap_or(0)
}

enum Next {
    Finished,
    Left,
    Stop,
}

async fn finish(app: &Arc<App>, id: UploadId) -> Next {
    let object = match app.store.get_document(&keys::pending(&id)).await {
        Ok(Some(object)) => object,
        Ok(None) => return Next::Left,
        Err(error) => {
            tracing::warn!(upload = %id, %error, "an outbox entry could not be read");
            return Next::Left;
        }
    };
    let pending: Pending = match decode(&object.bytes) {
        Ok(pending) => pending,
        Err(error) => {
            tracing::error!(upload = %id, %error, "an outbox entry is left as it is");
            app.admission.note_stuck(&id);
            return Next::Left;
        }
    };
    let machine = Finish::new(
        swept_facts(&pending),
        Start::Swept,
        Decision::Accepted,
        Default::default(),
    );
    let source = Source::Stored(Box::new(pending), object.last_modified);
    let mut finisher = Finisher::new(Driver::new(app, &id), source, Ram::default());
    match finisher.run(machine).await {
        Finished::Stored => match finisher.trouble().is_none_or(SinkError::meets_all) {
            true => Next::Stop,
            false => {
                app.admission.note_stuck(&id);
                Next::Left
            }
        },
        Finished::GaveUp(_) => Next::Left,
        Finished::Conflict => {
            app.admission.note_stuck(&id);
            Next::Left
        }
        Finished::Accepted | Finished::Rejected(_) | Finished::StoreLost | Finished::Abandoned => {
            Next::Finished
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_an_even_sample_is_kept() {
        let mut sample = Sample {
            seen: 0,
            kept: Vec::new(),
        };
        (0..MOST).for_each(|n| sample.offer(n));
        assert_eq!(sample.kept, (0..MOST).collect::<Vec<_>>(), "all of few");
        (MOST..10 * MOST).for_each(|n| sample.offer(n));
        assert_eq!((sample.seen, sample.kept.len()), (10 * MOST, MOST));
        // 200 are to be expected of each tenth, with a deviation of 13.
        for tenth in 0..10 {
            let of_it = sample.kept.iter().filter(|n| *n / MOST == tenth).count();
            assert!((100..300).contains(&of_it), "{of_it} of tenth {tenth}");
        }
        sample.kept.sort_unstable();
        sample.kept.dedup();
        assert_eq!(sample.kept.len(), MOST, "none twice");
    }
}
