//! Dead letters that live in the store only: their VideoJobs are made again.

use kinora_crds::{VideoJob, names};
use kinora_engine::Wall;
use kinora_engine::redrive::Letter;
use kinora_storage::documents::{Active, Document, Record, decode, encode};
use kinora_storage::{CasOutcome, Condition, PutOptions, StoreErrorKind, UploadId, keys};
use kube::api::PostParams;
use kube::core::{PartialObjectMeta, Selector, SelectorExt};
use kube::{Api, ResourceExt};

use super::run::{Result, Run};
use super::source::DEAD;
use crate::archive::keys::upload_of;
use crate::archive::revive;
use crate::audit::{AuditError, call};
use crate::ports::Redrive;

/// An `active/` entry that was written, and what was there before.
struct Decided {
    key: String,
    etag: String,
    before: Option<Active>,
}

impl Run {
    /// A dead letter that may have no VideoJob any more.
    pub(super) async fn take_marker(
        &mut self,
        key: &str,
        selector: &Selector,
        dry_run: bool,
    ) -> Result<()> {
        let record_key = key.replacen(DEAD, keys::RECORDS, 1);
        let record: Record = match self.document(&record_key).await {
            Ok(Some((record, _))) => record,
            Ok(None) => return Ok(()),
            Err(AuditError::Unusable(problem)) => {
                // Whose it is cannot be told either.
                tracing::warn!(problem, "a dead letter cannot be read");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let redrives = u32::try_from(record.redrives)
            .unwrap_or(0)
            .saturating_add(1);
        let job = revive::job_of(&record, redrives, &self.uid);
        let Some(job) = job.filter(|job| self.is_meant(job, &record, selector)) else {
            return Ok(());
        };
        let jobs: Api<VideoJob> = Api::namespaced(self.config.client.clone(), &self.namespace);
        let name = job.name_any();
        // Those that there are were taken, or left, before.
        let found = call(|| format!("read videojob {name}"), jobs.get_metadata(&name)).await?;
        if let Some(found) = found {
            return self.left_behind(&jobs, key, &job, &found).await;
        }
        if dry_run {
            self.counts.matched = self.counts.matched.saturating_add(1);
            return Ok(());
        }
        self.turn().await;
        let is_declared = upload_of(&job).is_none();
        let outcome = match self.make_again(&jobs, job, &record, redrives).await {
            // Those behind it do not wait for it.
            Err(AuditError::Unusable(problem)) => {
                tracing::warn!(key, problem, "a dead letter cannot be brought back");
                Redrive::Refused
            }
            outcome => outcome?,
        };
        // Not sooner: who breaks off here comes by again.
        self.counts.matched = self.counts.matched.saturating_add(1);
        self.note(outcome);
        if is_declared && outcome == Redrive::Done {
            // Its next life has another uid, and so a record and a marker of its own: its end does not take this one away.
            self.config.store.delete(key).await?;
        }
        Ok(())
    }

    /// A marker that this request used up and did not come to delete goes now.
    async fn left_behind(
        &self,
        jobs: &Api<VideoJob>,
        key: &str,
        wanted: &VideoJob,
        found: &PartialObjectMeta<VideoJob>,
    ) -> Result<()> {
        let by = found.annotations().get(names::ANNOTATION_REDRIVEN_BY);
        if upload_of(wanted).is_some() || by != Some(&self.uid) {
            return Ok(());
        }
        let name = wanted.name_any();
        let found = call(|| format!("read videojob {name}"), jobs.get(&name)).await?;
        // Another dead letter of the same name may have been brought back in its place.
        let is_next =
            |job: &VideoJob| job.spec == wanted.spec && job.redrives() == wanted.redrives();
        if found.as_ref().is_some_and(is_next) {
            self.config.store.delete(key).await?;
        }
        Ok(())
    }

    fn is_meant(&self, job: &VideoJob, record: &Record, selector: &Selector) -> bool {
        let named = job.spec.pool_ref.as_ref().map(|pool| pool.name.as_str());
        let named = revive::pool_of(record).or(named);
        let finished = record.times.finished.map(|at| Wall(at.as_millisecond()));
        let letter = Letter {
            pool: named,
            reason: &record.reason,
            finished,
            redriven_by: None,
        };
        record.dead_lettered
            && job.namespace().as_deref() == Some(&self.namespace)
            && selector.matches(&job.metadata.labels.clone().unwrap_or_default())
            && self.wanted.takes(&letter)
    }

    /// First the store, then the control plane.
    async fn make_again(
        &self,
        jobs: &Api<VideoJob>,
        job: VideoJob,
        record: &Record,
        redrives: u32,
    ) -> Result<Redrive> {
        let decided = match record.id.parse::<UploadId>() {
            Ok(id) => match self.reactivate(id, &job, record, redrives).await? {
                Some(decided) => Some(decided),
                None => return Ok(Redrive::Skipped),
            },
            Err(_) => None,
        };
        let made = self.create(jobs, &job).await;
        let surely_not = match &made {
            Ok(outcome) => *outcome == Redrive::Refused,
            Err(AuditError::Api { source, .. }) => {
                matches!(&**source, kube::Error::Api(status) if names::tells_full(&status.message))
            }
            Err(_) => false,
        };
        let Some(decided) = decided.filter(|_| surely_not) else {
            return made;
        };
        // A quota is asked before the name: another request may have made it.
        let name = job.name_any();
        if call(|| format!("read videojob {name}"), jobs.get_metadata(&name))
            .await?
            .is_some()
        {
            return Ok(Redrive::Skipped);
        }
        // Or the audit would make it some day, though its author reads that it failed, or ended the request.
        self.take_back(decided).await?;
        made
    }

    async fn create(&self, jobs: &Api<VideoJob>, job: &VideoJob) -> Result<Redrive> {
        let params = PostParams {
            field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
            ..PostParams::default()
        };
        let name = job.name_any();
        let action = || format!("create videojob {name}");
        match call(action, jobs.create(&params, job)).await {
            Ok(Some(_)) => Ok(Redrive::Done),
            Ok(None) => Ok(Redrive::Refused),
            Err(AuditError::Api { action, source }) => match *source {
                kube::Error::Api(status) if status.code == 409 => Ok(Redrive::Skipped),
                kube::Error::Api(status)
                    if (400..429).contains(&status.code) && !names::tells_full(&status.message) =>
                {
                    tracing::warn!(job = name, %status, "a dead letter cannot be brought back");
                    Ok(Redrive::Refused)
                }
                error => Err(AuditError::Api {
                    action,
                    source: Box::new(error),
                }),
            },
            Err(error) => Err(error),
        }
    }

    /// `None`: a later life has begun.
    async fn reactivate(
        &self,
        id: UploadId,
        job: &VideoJob,
        record: &Record,
        redrives: u32,
    ) -> Result<Option<Decided>> {
        let key = keys::active(&id);
        let (before, condition) = match self.document::<Active>(&key).await? {
            None => (None, Condition::IfAbsent),
            Some((active, _)) if active.redrives > i64::from(redrives) => return Ok(None),
            Some((active, etag)) => {
                // One of this very life that is its own is left of a try that broke off.
                let by = &active.job["metadata"]["annotations"][names::ANNOTATION_REDRIVEN_BY];
                let is_left =
                    active.redrives == i64::from(redrives) && by.as_str() == Some(&self.uid);
                let before = Some(active).filter(|_| !is_left);
                (before, Condition::IfMatch(etag))
            }
        };
        let active = revive::decision(id, record, revive::manifest(job), redrives);
        match self.decide(&key, &active, condition).await? {
            CasOutcome::Won { etag } => Ok(Some(Decided { key, etag, before })),
            CasOutcome::Lost(_) | CasOutcome::Gone => Ok(None),
        }
    }

    /// The entry is again as it was; one that somebody changed meanwhile stays.
    async fn take_back(&self, decided: Decided) -> Result<()> {
        let Decided { key, etag, before } = decided;
        match before {
            Some(before) => {
                self.decide(&key, &before, Condition::IfMatch(etag)).await?;
            }
            None => {
                let known = self.document::<Active>(&key).await?;
                if known.is_some_and(|(_, found)| found == etag) {
                    self.config.store.delete(&key).await?;
                }
            }
        }
        Ok(())
    }

    async fn decide(&self, key: &str, active: &Active, condition: Condition) -> Result<CasOutcome> {
        let body =
            encode(active).map_err(|error| AuditError::Unusable(format!("{key}: {error}")))?;
        let options = PutOptions::json(condition);
        Ok(self.config.store.cas(key, body.into(), options).await?)
    }

    /// A document with its ETag. `Unusable`: it is there, and nothing that can be read.
    async fn document<T: Document>(&self, key: &str) -> Result<Option<(T, String)>> {
        let unusable =
            |error: &dyn std::fmt::Display| AuditError::Unusable(format!("{key}: {error}"));
        match self.config.store.get_document(key).await {
            Ok(None) => Ok(None),
            Ok(Some(object)) => {
                let document = decode(&object.bytes).map_err(|error| unusable(&error))?;
                Ok(Some((document, object.etag)))
            }
            Err(error) if error.kind == StoreErrorKind::TooLarge => Err(unusable(&error)),
            Err(error) => Err(error.into()),
        }
    }
}
