//! One VideoJobRedrive, from its first dead letter to its end.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kinora_crds::conditions::{SUCCEEDED, find};
use kinora_crds::{Time, VideoJob, VideoJobRedrive, VideoJobRedriveStatus, names};
use kinora_engine::pace::Pace;
use kinora_engine::redrive::{Counts, Letter, Next, Wanted, Wishes, next};
use kinora_engine::{Mono, Wall};
use kinora_storage::documents::{Active, Record, decode, encode};
use kinora_storage::{CasOutcome, Condition, PutOptions, UploadId, keys};
use kube::api::PostParams;
use kube::core::{PartialObjectMeta, Selector, SelectorExt};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::sync::oneshot;

use super::source::{DEAD, Found, Source};
use super::{Known, RedriveConfig, status, write_status};
use crate::archive::keys::upload_of;
use crate::archive::revive;
use crate::audit::{AuditError, call};
use crate::metrics::Redriven;
use crate::ports::{Redrive, RedriveRequest};

/// Jobs a second when the request names no pace.
const PER_SECOND: i32 = 10;
/// Counts are written at most this often.
const REPORT: Duration = Duration::from_secs(5);
/// A paused request is looked at this often.
const PAUSE: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, AuditError>;

/// See the module.
pub(super) struct Run {
    config: RedriveConfig,
    known: Known,
    at: ObjectRef<VideoJobRedrive>,
    uid: String,
    namespace: String,
    selector: Option<Selector>,
    wanted: Wanted,
    counts: Counts,
    cursor: Option<String>,
    began: Instant,
    pace: Pace,
    per_second: Option<i32>,
    reported: Option<Instant>,
    told: Option<VideoJobRedriveStatus>,
}

fn wall(time: &Time) -> Wall {
    Wall(time.0.as_millisecond())
}

impl Run {
    pub(super) fn new(
        config: RedriveConfig,
        known: Known,
        redrive: &VideoJobRedrive,
        uid: String,
    ) -> Run {
        let spec = &redrive.spec;
        let made = redrive.metadata.creation_timestamp.as_ref();
        let wanted = Wanted {
            made: made.map(wall).unwrap_or_default(),
            by: uid.clone(),
            pool: spec.pool_name.clone(),
            reasons: spec.reasons.clone(),
            before: spec.finished_before.as_ref().map(wall),
            after: spec.finished_after.as_ref().map(wall),
        };
        Run {
            at: ObjectRef::from_obj(redrive),
            namespace: redrive.namespace().unwrap_or_default(),
            selector: Selector::try_from(spec.selector.clone()).ok(),
            wanted,
            counts: status::counts(redrive),
            cursor: redrive.status.as_ref().and_then(|s| s.cursor.clone()),
            began: Instant::now(),
            pace: Pace::new(spec.per_second.unwrap_or(PER_SECOND).into()),
            per_second: spec.per_second,
            reported: None,
            told: None,
            config,
            known,
            uid,
        }
    }

    /// Until it is over, or this replica cannot go on.
    pub(super) async fn work(mut self) -> Result<()> {
        let Some(selector) = self.selector.clone() else {
            return self.refuse().await;
        };
        let (client, store) = (self.config.client.clone(), self.config.store.clone());
        let cursor = self.cursor.clone();
        let mut source = Source::new(client, store, &self.namespace, &selector, cursor.as_deref());
        loop {
            let current = self.known.get(&self.at);
            let Some(redrive) = current.filter(|r| r.uid().as_deref() == Some(&self.uid)) else {
                return Ok(());
            };
            self.keep_pace(&redrive);
            let step = next(wishes(&redrive), self.counts, source.is_exhausted());
            self.report(&redrive, step).await?;
            match step {
                Next::Done | Next::Cancelled => return Ok(()),
                Next::Pause => tokio::time::sleep(PAUSE).await,
                Next::GoOn => {
                    let dry_run = redrive.spec.dry_run.unwrap_or(false);
                    match source.next().await? {
                        Some(Found::Job(job)) => self.take_job(&job, dry_run).await?,
                        Some(Found::Marker(key)) => {
                            self.take_marker(&key, &selector, dry_run).await?;
                            // Only now: whoever goes on from here must not pass it over.
                            self.cursor = Some(key);
                        }
                        None => {}
                    }
                }
            }
        }
    }

    /// Ends a request whose selection cannot be read.
    async fn refuse(&self) -> Result<()> {
        let Some(redrive) = self.known.get(&self.at) else {
            return Ok(());
        };
        let message = "spec.selector is no label selector: see `kubectl explain videojobredrive.spec.selector`, and make another";
        let status = status::unusable(&redrive, message, Time(Timestamp::now()));
        write_status(&self.config.client, &redrive, &status).await
    }

    /// Counts what became of one. False: nothing did, it is to be tried again.
    fn note(&mut self, outcome: Redrive) -> bool {
        let word = match outcome {
            Redrive::Done => Redriven::Done,
            Redrive::Skipped | Redrive::Gone => Redriven::Skipped,
            Redrive::Refused => Redriven::Refused,
            Redrive::NotLeader => return false,
        };
        self.config.upkeep.redriven(word);
        self.counts.note(outcome)
    }

    /// Waits for its turn.
    async fn turn(&mut self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tokio::time::sleep(self.pace.turn(Mono(now))).await;
    }

    async fn take_job(&mut self, job: &VideoJob, dry_run: bool) -> Result<()> {
        let status = job.status.clone().unwrap_or_default();
        let annotations = job.metadata.annotations.as_ref();
        let made_for = annotations.and_then(|all| all.get(names::ANNOTATION_REDRIVEN_BY));
        let named = job.spec.pool_ref.as_ref().map(|pool| pool.name.as_str());
        let why = find(&status.conditions, SUCCEEDED).map(|c| c.reason.as_str());
        let letter = Letter {
            pool: status.pool_name.as_deref().or(named),
            reason: why.unwrap_or_default(),
            finished: status.finish_time.as_ref().map(wall),
            redriven_by: status
                .redriven_by
                .as_deref()
                .or(made_for.map(String::as_str)),
        };
        if !self.wanted.takes(&letter) {
            return Ok(());
        }
        self.counts.matched = self.counts.matched.saturating_add(1);
        if dry_run {
            return Ok(());
        }
        self.turn().await;
        let (reply, answer) = oneshot::channel();
        let request = RedriveRequest {
            job_uid: job.uid().unwrap_or_default(),
            by: self.uid.clone(),
            reply,
        };
        let sent = self.config.requests.send(request).await.is_ok();
        let outcome = if sent { answer.await.ok() } else { None };
        match outcome {
            Some(outcome) if self.note(outcome) => Ok(()),
            Some(_) | None => Err(AuditError::Unusable("this replica leads no more".into())),
        }
    }

    /// A dead letter that may have no VideoJob any more.
    async fn take_marker(&mut self, key: &str, selector: &Selector, dry_run: bool) -> Result<()> {
        let record_key = key.replacen(DEAD, keys::RECORDS, 1);
        let object = self.config.store.get_document(&record_key).await?;
        let record = object.map(|object| decode::<Record>(&object.bytes));
        let Some(Ok(record)) = record else {
            return Ok(());
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
        self.counts.matched = self.counts.matched.saturating_add(1);
        if dry_run {
            return Ok(());
        }
        self.turn().await;
        let is_declared = upload_of(&job).is_none();
        let outcome = self.make_again(&jobs, job, &record, redrives).await?;
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

    /// The pace may be changed under way.
    fn keep_pace(&mut self, redrive: &VideoJobRedrive) {
        let wanted = redrive.spec.per_second;
        if wanted != self.per_second {
            self.pace = Pace::new(wanted.unwrap_or(PER_SECOND).into());
            self.per_second = wanted;
        }
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
        if let Ok(id) = record.id.parse::<UploadId>()
            && !self.reactivate(id, &job, record, redrives).await?
        {
            return Ok(Redrive::Skipped);
        }
        let params = PostParams {
            field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
            ..PostParams::default()
        };
        let name = job.name_any();
        match call(
            || format!("create videojob {name}"),
            jobs.create(&params, &job),
        )
        .await
        {
            Ok(Some(_)) => Ok(Redrive::Done),
            Ok(None) => Ok(Redrive::Refused),
            Err(AuditError::Api { source, .. }) => match *source {
                kube::Error::Api(status) if status.code == 409 => Ok(Redrive::Skipped),
                kube::Error::Api(status) if (400..429).contains(&status.code) => {
                    tracing::warn!(job = name, %status, "a dead letter cannot be brought back");
                    Ok(Redrive::Refused)
                }
                error => Err(AuditError::Api {
                    action: format!("create videojob {name}"),
                    source: Box::new(error),
                }),
            },
            Err(error) => Err(error),
        }
    }

    /// False: a later life has begun.
    async fn reactivate(
        &self,
        id: UploadId,
        job: &VideoJob,
        record: &Record,
        redrives: u32,
    ) -> Result<bool> {
        let key = keys::active(&id);
        let unusable =
            |error: &dyn std::fmt::Display| AuditError::Unusable(format!("{key}: {error}"));
        let condition = match self.config.store.get_document(&key).await? {
            None => Condition::IfAbsent,
            Some(object) => {
                let active: Active = decode(&object.bytes).map_err(|error| unusable(&error))?;
                if active.redrives > i64::from(redrives) {
                    return Ok(false);
                }
                Condition::IfMatch(object.etag)
            }
        };
        let active = revive::decision(id, record, revive::manifest(job), redrives);
        let body = encode(&active).map_err(|error| unusable(&error))?;
        let put = self
            .config
            .store
            .cas(&key, body.into(), PutOptions::json(condition));
        match put.await? {
            CasOutcome::Won { .. } => Ok(true),
            CasOutcome::Lost(_) | CasOutcome::Gone => Ok(false),
        }
    }

    /// Writes the status, when something changed and it is time or its end.
    async fn report(&mut self, redrive: &VideoJobRedrive, step: Next) -> Result<()> {
        let now = Time(Timestamp::now());
        let status = status::build(redrive, self.counts, self.cursor.as_deref(), step, now);
        let changes = |known: &VideoJobRedriveStatus| {
            let states = |s: &VideoJobRedriveStatus| {
                let all = s.conditions.iter();
                all.map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()))
                    .collect::<Vec<_>>()
            };
            states(known) != states(&status)
                || known.observed_generation != status.observed_generation
        };
        let last = self.told.as_ref().or(redrive.status.as_ref());
        let urgent = last.is_none_or(changes);
        let counted = last.is_none_or(|known| {
            (known.matched, known.redriven, known.skipped, known.failed)
                != (
                    status.matched,
                    status.redriven,
                    status.skipped,
                    status.failed,
                )
        });
        let due = self.reported.is_none_or(|at| at.elapsed() >= REPORT);
        if !(urgent || (counted && due)) {
            return Ok(());
        }
        write_status(&self.config.client, redrive, &status).await?;
        self.reported = Some(Instant::now());
        self.told = Some(status);
        Ok(())
    }
}

fn wishes(redrive: &VideoJobRedrive) -> Wishes {
    let spec = &redrive.spec;
    Wishes {
        dry_run: spec.dry_run.unwrap_or(false),
        suspend: spec.suspend.unwrap_or(false),
        cancel: spec.cancel_requested.unwrap_or(false),
        max_jobs: spec.max_jobs.and_then(|max| u32::try_from(max).ok()),
    }
}
