//! The sweeper of every replica: turns outbox entries without a job into jobs, finishes uploads
//! that were left whole, expires what nobody goes on with. All replicas do the same work in random
//! order; every step is idempotent.

mod erasures;
mod idem;
mod outbox;
mod pace;
mod states;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kinora_upload_engine::finish::SWEEP_AFTER_MS;

pub use erasures::{SweptErasures, sweep_erasures};
pub use idem::sweep_idem;
pub use outbox::{Swept, sweep_outbox};
pub use pace::Pace;
pub use states::{Ages, SweptStates, sweep_states};

use crate::app::App;
use crate::metrics::SweepEnd;

const STATES_EVERY: Duration = Duration::from_secs(3600);
/// An upload that nobody goes on with lives this long …
const REST_MS: u64 = 24 * 3_600_000;
/// … and no upload longer than this.
const LIFE_MS: u64 = 7 * REST_MS;
/// The same rest in seconds, as it is told.
pub const REST_SECONDS: u64 = REST_MS / 1000;

/// When the sweep may expire an upload whose state was last written at `touched_ms`.
#[must_use]
pub fn expires_ms(touched_ms: u64, created_ms: u64) -> u64 {
    (touched_ms + REST_MS).min(created_ms + LIFE_MS)
}

/// Whether `now`, the time of the store's last answer, is further from the local one than so many seconds. One answer with
/// a wrong `Date` must remove nothing.
pub(crate) fn is_off(now: Timestamp, most_seconds: u64) -> bool {
    let apart = now.duration_since(Timestamp::now()).as_secs();
    apart.unsigned_abs() > most_seconds
}

/// Sweeps until the process closes: outbox and erasures every `every`, states and idempotency keys every hour, jittered.
/// Each has a task of its own: a pass over very many states lets no acknowledged video wait.
pub fn start(app: &Arc<App>, every: Duration) {
    tokio::spawn(sweep_outbox_every(Arc::clone(app), every));
    tokio::spawn(sweep_erasures_every(Arc::clone(app), every));
    // The first look at the states comes soon, as a restart is when something was left.
    let first = (every * 4).min(STATES_EVERY);
    tokio::spawn(sweep_states_from(Arc::clone(app), first));
}

/// Waits for about so long; false when the process closes.
async fn pause(app: &App, period: Duration) -> bool {
    let jittered = period.mul_f64(0.8 + 0.4 * rand::random::<f64>());
    tokio::select! {
        () = app.closing.cancelled() => false,
        () = tokio::time::sleep(jittered) => true,
    }
}

async fn sweep_outbox_every(app: Arc<App>, every: Duration) {
    while pause(&app, every).await {
        let pass = sweep_outbox(&app, SWEEP_AFTER_MS).await;
        app.metrics.swept(if pass.stopped {
            SweepEnd::Stopped
        } else {
            SweepEnd::Done
        });
    }
}

async fn sweep_erasures_every(app: Arc<App>, every: Duration) {
    while pause(&app, every).await {
        erasures::pass(&app).await;
    }
}

async fn sweep_states_from(app: Arc<App>, first: Duration) {
    let mut next = first;
    while pause(&app, next).await {
        sweep_states(&app, Ages::default()).await;
        idem::pass(&app).await;
        next = STATES_EVERY;
    }
}
