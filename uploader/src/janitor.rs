//! Step 8 in batches: outbox entries and slices of many finished uploads go in one call, their
//! state objects after them. What a crash leaves here is found again by the sweep.

use std::time::Duration;

use kinora_storage::Store;
use tokio::sync::mpsc;

/// A batch waits so long for company, unless it is full: no state object goes sooner after its upload's end.
pub(crate) const LINGER: Duration = Duration::from_millis(500);
const MOST: usize = 900;

/// What one finished upload leaves behind.
#[derive(Clone, Debug, Default)]
pub struct Garbage {
    /// Goes first: the outbox entry and the slices.
    pub first: Vec<String>,
    /// Goes last: the state object, which makes the rest findable.
    pub last: Vec<String>,
}

/// The way to the janitor.
#[derive(Clone, Debug)]
pub struct Janitor(mpsc::UnboundedSender<Garbage>);

impl Janitor {
    /// A janitor and its work; run it with [`clean`].
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Garbage>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Hands garbage over. Once the janitor has gone home it is the sweep's.
    pub fn leave(&self, garbage: Garbage) {
        let _ = self.0.send(garbage);
    }
}

/// Deletes what is handed over, until all senders are gone. Each call takes the state objects along whose rest the call
/// before it removed, so that a busy replica makes one call for all that ends within half a second.
pub async fn clean(store: Store, mut garbage: mpsc::UnboundedReceiver<Garbage>) {
    let mut last = Vec::new();
    while let Some(batch) = gather(&mut garbage, last.is_empty()).await {
        let keys = [last, batch.first].concat();
        last = match store.delete_many(&keys).await {
            Ok(()) => batch.last,
            Err(error) => {
                tracing::warn!(%error, "cleaning up is left to the sweep");
                Vec::new()
            }
        };
    }
    if let Err(error) = store.delete_many(&last).await {
        tracing::warn!(%error, "cleaning up is left to the sweep");
    }
}

/// The next batch, after a pause for company; none when all senders are gone. One that is not `idle` has something to
/// delete already, and gets an empty batch when nothing comes.
async fn gather(garbage: &mut mpsc::UnboundedReceiver<Garbage>, idle: bool) -> Option<Garbage> {
    let mut batch = Garbage::default();
    if idle {
        batch = garbage.recv().await?;
    }
    let full = tokio::time::sleep(LINGER);
    tokio::pin!(full);
    while batch.first.len() + batch.last.len() < MOST {
        tokio::select! {
            more = garbage.recv() => match more {
                Some(more) => {
                    batch.first.extend(more.first);
                    batch.last.extend(more.last);
                }
                None => break,
            },
            () = &mut full => break,
        }
    }
    Some(batch)
}
