//! Redrives that were begun and not finished: `active/` knows a life that the dead letter, still there, does not. The leader that
//! began it is gone, and its request may be, too; so the audit asks the core to finish it.

use kinora_crds::{VideoJob, names, state};
use kinora_engine::audit::YOUNG;
use kube::{Api, ResourceExt};
use tokio::sync::oneshot;

use super::sweep::{Case, Sweep};
use super::{AuditError, call};
use crate::ports::{Redrive, RedriveRequest};

impl Sweep {
    /// True: it was such a one, and waits for its next attempt now.
    pub(super) async fn finish_redrive(&self, mut case: Case) -> Result<bool, AuditError> {
        // Younger entries belong to somebody who is at work.
        if case.facts.age < YOUNG || !self.read_entry(&mut case).await? {
            return Ok(false);
        }
        let jobs: Api<VideoJob> = Api::namespaced(self.client.clone(), &self.jobs_namespace);
        let name = names::job_name(case.id.as_str());
        let found = call(|| format!("read videojob {name}"), jobs.get(&name)).await?;
        let (Some(job), Some(entry)) = (found, case.facts.entry) else {
            return Ok(false);
        };
        if !entry.is_half_redriven(job.state() == state::DEAD_LETTERED, job.redrives()) {
            return Ok(false);
        }
        let job_uid = job.uid().unwrap_or_default();
        let (reply, answer) = oneshot::channel();
        let request = RedriveRequest {
            // Who began it is not known any more.
            by: job_uid.clone(),
            job_uid,
            reply,
        };
        let sent = self.redrives.send(request).await.is_ok();
        match answer.await {
            Ok(Redrive::Done) if sent => {
                tracing::warn!(job = name, "a redrive was begun and not finished: done now");
                Ok(true)
            }
            Ok(outcome) => {
                tracing::info!(
                    job = name,
                    ?outcome,
                    "a redrive that was begun is left alone"
                );
                Ok(false)
            }
            Err(_) => Err(AuditError::Unusable("this replica leads no more".into())),
        }
    }
}
