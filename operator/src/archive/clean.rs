//! What goes once a job's end is in its record: its `active/` entry, and the outputs of attempts that lost.

use std::sync::Arc;

use kinora_crds::{VideoJob, state};
use kinora_storage::documents::{Active, Record};

use super::keys::{Filed, filed};
use super::{Archive, Result, unavailable};
use crate::core::seams::StoreWorkError;

/// Keys of one page of a listing.
const PAGE: usize = 1000;

impl Archive {
    pub(super) async fn clean(&self, job: Arc<VideoJob>) -> Result<()> {
        let filed = filed(&job)?;
        let status = job.status.clone().unwrap_or_default();
        let accepted = status
            .worker
            .as_ref()
            .filter(|_| job.state() == state::SUCCEEDED);
        let accepted =
            accepted.map(|w| filed.outputs(u32::try_from(status.attempt).unwrap_or(0), &w.pod_uid));
        // An only attempt that succeeded leaves nothing behind, and one that never began neither.
        let clean = status.attempt == 0 || (status.attempt == 1 && accepted.is_some());
        if !clean {
            self.remove_losers(&job, &filed, accepted).await?;
        }
        let Some(key) = filed.active() else {
            return Ok(());
        };
        // An entry of a later redrive is not ours to remove.
        match self.document::<Active>(&key).await? {
            Some((active, _)) if active.redrives <= i64::from(job.redrives()) => {
                self.store.delete(&key).await.map_err(unavailable)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The entry of a life that never began, unless it is all there is of the job.
    pub(super) async fn unrevive(&self, job: Arc<VideoJob>, redrives: u32) -> Result<()> {
        let filed = filed(&job)?;
        let Some(key) = filed.active() else {
            return Ok(());
        };
        let redrives = i64::from(redrives);
        let Some((active, _)) = self.document::<Active>(&key).await? else {
            return Ok(());
        };
        let record = self.document::<Record>(&filed.record()).await?;
        if active.redrives == redrives
            && record.is_some_and(|(record, _)| record.ends(redrives - 1))
        {
            self.store.delete(&key).await.map_err(unavailable)?;
        }
        Ok(())
    }

    /// Outputs that neither this end nor the record names. A job that came back from a backup, or a leader that was away, may
    /// tell of an end that a later life has left behind: then nothing here is a loser.
    async fn remove_losers(
        &self,
        job: &VideoJob,
        filed: &Filed,
        accepted: Option<String>,
    ) -> Result<()> {
        let Some((record, _)) = self.document::<Record>(&filed.record()).await? else {
            return Err(StoreWorkError::Unavailable(format!(
                "remove outputs of {}: it has no record yet",
                filed.id
            )));
        };
        if record.redrives > i64::from(job.redrives()) {
            return Ok(());
        }
        let named = record.outputs.iter().filter_map(|output| {
            let (prefix, _) = output.uri.rsplit_once('/')?;
            Some(format!("{prefix}/"))
        });
        let spared: Vec<String> = named.chain(accepted).collect();
        self.remove_outputs(&filed.all_outputs(), &spared).await
    }

    async fn remove_outputs(&self, prefix: &str, spared: &[String]) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .list(prefix, after.as_deref(), PAGE)
                .await
                .map_err(unavailable)?;
            let keys = page.entries.into_iter().map(|entry| entry.key);
            let losers: Vec<_> = keys
                .filter(|key| !spared.iter().any(|prefix| key.starts_with(prefix)))
                .collect();
            self.store.delete_many(&losers).await.map_err(unavailable)?;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}
