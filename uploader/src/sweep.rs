//! The sweeper of every replica: turns outbox entries without a job into jobs, finishes uploads
//! that were left whole, expires what nobody goes on with. All replicas do the same work in random
//! order; every step is idempotent.

mod erasures;
mod idem;
mod outbox;
mod states;

use std::sync::Arc;
use std::time::Duration;

use kinora_upload_engine::finish::SWEEP_AFTER_MS;

pub use erasures::{SweptErasures, sweep_erasures};
pub use idem::sweep_idem;
pub use outbox::{Swept, sweep_outbox};
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

/// Sweeps until the process closes: the outbox every `every`, the states every hour, jittered.
pub async fn run(app: Arc<App>, every: Duration) {
    let jitter = |period: Duration| period.mul_f64(0.8 + 0.4 * rand::random::<f64>());
    // The first look at the states comes soon, as a restart is when something was left.
    let mut states_in = jitter(every * 4).min(STATES_EVERY);
    loop {
        let pause = jitter(every);
        tokio::select! {
            () = app.closing.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let pass = sweep_outbox(&app, SWEEP_AFTER_MS).await;
        app.metrics.swept(if pass.stopped {
            SweepEnd::Stopped
        } else {
            SweepEnd::Done
        });
        erasures::pass(&app).await;
        states_in = states_in.saturating_sub(pause);
        if states_in.is_zero() {
            sweep_states(&app, Ages::default()).await;
            idem::pass(&app).await;
            states_in = jitter(STATES_EVERY);
        }
    }
}
