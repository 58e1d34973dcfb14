//! Wishes to erase that wait: for the end of a video, for a hold that is lifted, for a policy that allows them. Each is
//! looked at once more a day after it was carried out.

use std::sync::Arc;

use kinora_storage::documents::decode;
use kinora_storage::selftest::MAX_SKEW_SECONDS;
use kinora_storage::{UploadId, keys};

use crate::app::App;
use crate::drive::Driver;
use crate::erase::{Carried, EraseError, ErasePolicy, Erasure, carry_out, forget, is_past};

const DAY_MS: i64 = 24 * 3_600_000;
const PAGE: usize = 1000;

/// What a pass over the wishes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweptErasures {
    /// Wishes that were carried out.
    pub erased: usize,
    /// Wishes that go on waiting.
    pub waiting: usize,
    /// Wishes that were looked at for the last time.
    pub forgotten: usize,
}

/// One pass; what was carried out at least `after_ms` ago is looked at for the last time.
pub async fn sweep_erasures(app: &Arc<App>, after_ms: i64) -> SweptErasures {
    let mut pass = SweptErasures::default();
    if app.erase != ErasePolicy::Allow {
        return pass;
    }
    let mut after: Option<String> = None;
    loop {
        let page = app.store.list(keys::ERASURES, after.as_deref(), PAGE).await;
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "wishes to erase could not be listed");
                return pass;
            }
        };
        for entry in page.entries {
            let id = entry.key.rsplit('/').next().and_then(|id| id.parse().ok());
            let Some(id) = id.filter(|id: &UploadId| id.cell() == app.cell.as_str()) else {
                continue;
            };
            if let Err(error) = visit(app, &id, after_ms, &mut pass).await {
                pass.waiting += 1;
                tracing::warn!(upload = %id, %error, "an erasure is tried again later");
            }
        }
        after = page.next;
        if after.is_none() || app.closing.is_cancelled() {
            return pass;
        }
    }
}

async fn visit(
    app: &Arc<App>,
    id: &UploadId,
    after_ms: i64,
    pass: &mut SweptErasures,
) -> Result<(), EraseError> {
    let Some(object) = app.store.get_document(&keys::erasure(id)).await? else {
        return Ok(());
    };
    let erasure: Erasure = decode(&object.bytes)?;
    if erasure.erased.is_some() {
        let now = app.store.now();
        if is_past(&erasure, now, after_ms) && !super::is_off(now, MAX_SKEW_SECONDS) {
            forget(app, &erasure).await?;
            pass.forgotten += 1;
        }
        return Ok(());
    }
    match carry_out(&Driver::new(app, id), erasure).await? {
        Carried::Erased => pass.erased += 1,
        Carried::NotYet | Carried::Held => pass.waiting += 1,
    }
    Ok(())
}

pub(super) async fn pass(app: &Arc<App>) {
    sweep_erasures(app, DAY_MS).await;
}
