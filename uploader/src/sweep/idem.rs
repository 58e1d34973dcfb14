//! Entries of idempotency keys that nobody honours any more. One shard of them in a pass, so that a pass is short; a
//! day after the creates stop honouring them, so that no create swaps what is being deleted.

use kinora_storage::selftest::MAX_SKEW_SECONDS;
use kinora_storage::{StoreError, keys};

use super::outbox::age_ms;
use crate::app::App;

const DAY_MS: u64 = 24 * 3_600_000;
/// By the store's clock.
const OLD_MS: u64 = 8 * DAY_MS;
const PAGE: usize = 1000;
const PAGES: usize = 50;

/// Deletes the entries of shard `hh` that are at least `old_ms` old; how many.
///
/// # Errors
/// When the store does not answer; what was deleted is gone.
pub async fn sweep_idem(app: &App, hh: &str, old_ms: u64) -> Result<usize, StoreError> {
    let prefix = keys::idem_shard(hh);
    // Begun at a place that is chosen by chance, so that all of a large shard is come by; hashes begin with the shard.
    let start = format!("{prefix}{hh}{:02x}", rand::random::<u8>());
    let (mut removed, mut after, mut is_second_round) = (0, Some(start.clone()), false);
    for _ in 0..PAGES {
        let page = app.store.list(&prefix, after.as_deref(), PAGE).await?;
        let now = app.store.now();
        if super::is_off(now, MAX_SKEW_SECONDS) {
            break;
        }
        let old = page
            .entries
            .into_iter()
            .filter(|entry| age_ms(now, entry.last_modified) >= old_ms)
            .map(|entry| entry.key);
        let old: Vec<String> = old.collect();
        app.store.delete_many(&old).await?;
        removed += old.len();
        after = page.next;
        let is_round = after.as_ref().is_none_or(|after| *after >= start);
        if is_second_round && is_round {
            break;
        }
        is_second_round |= after.is_none();
    }
    Ok(removed)
}

/// One pass over a shard that is chosen by chance: all replicas together come by each of them within days.
pub(super) async fn pass(app: &App) {
    let hh = format!("{:02x}", rand::random::<u8>());
    match sweep_idem(app, &hh, OLD_MS).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "old idempotency keys are gone"),
        Err(error) => tracing::warn!(%error, "old idempotency keys could not be removed"),
    }
}
