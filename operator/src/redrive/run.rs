//! One VideoJobRedrive, from its first dead letter to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kinora_crds::conditions::{SUCCEEDED, find};
use kinora_crds::{Time, VideoJob, VideoJobRedrive, VideoJobRedriveStatus, names};
use kinora_engine::pace::Pace;
use kinora_engine::redrive::{Counts, Letter, Next, Wanted, Wishes, next};
use kinora_engine::{Mono, Wall};
use kube::api::ListParams;
use kube::core::Selector;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::sync::oneshot;

use super::source::{Found, JOBS_PAGE, Source, list};
use super::{Known, RedriveConfig, status, write_status};
use crate::audit::AuditError;
use crate::metrics::Redriven;
use crate::ports::{Redrive, RedriveRequest};

/// Jobs a second when the request names no pace.
const PER_SECOND: i32 = 10;
/// Counts are written at most this often.
const REPORT: Duration = Duration::from_secs(5);
/// What its author wants is looked at this often while a job waits.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) type Result<T> = std::result::Result<T, AuditError>;

/// See the module.
pub(super) struct Run {
    pub(super) config: RedriveConfig,
    known: Known,
    at: ObjectRef<VideoJobRedrive>,
    pub(super) uid: String,
    pub(super) namespace: String,
    selector: Option<Selector>,
    pub(super) wanted: Wanted,
    pub(super) counts: Counts,
    cursor: Option<String>,
    began: Instant,
    pace: Pace,
    per_second: Option<i32>,
    reported: Option<Instant>,
    told: Option<VideoJobRedriveStatus>,
    /// The object after the last write.
    written: Option<u64>,
}

/// What the core said of one job.
enum Answered {
    Yes(Redrive),
    /// The author ended the request meanwhile.
    Ended,
    /// The core works for nobody any more.
    No,
}

/// The request that brought a job back last.
fn redriven_by(job: &VideoJob) -> Option<&String> {
    let status = job
        .status
        .as_ref()
        .and_then(|status| status.redriven_by.as_ref());
    let annotations = job.metadata.annotations.as_ref();
    status.or_else(|| annotations?.get(names::ANNOTATION_REDRIVEN_BY))
}

pub(super) fn wall(time: &Time) -> Wall {
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
            counts: Counts::default(),
            cursor: None,
            began: Instant::now(),
            pace: Pace::new(spec.per_second.unwrap_or(PER_SECOND).into()),
            per_second: spec.per_second,
            reported: None,
            told: None,
            written: None,
            config,
            known,
            uid,
        }
    }

    /// Until it is over, or this replica cannot go on.
    pub(super) async fn work(mut self) -> Result<()> {
        let Some(redrive) = self.current() else {
            return Ok(());
        };
        let Some(selector) = self.selector.clone() else {
            return self.refuse(&redrive).await;
        };
        self.resume(&redrive).await?;
        let ended = self.go_on(&selector).await;
        if ended.is_err()
            && let Some(redrive) = self.current()
        {
            // Best effort: whoever goes on counts from what is stored.
            self.reported = None;
            let _ = self.report(&redrive, Next::GoOn).await;
        }
        ended
    }

    /// The request as it is now; `None`: it is gone.
    fn current(&self) -> Option<Arc<VideoJobRedrive>> {
        let current = self.known.get(&self.at);
        current.filter(|redrive| redrive.uid().as_deref() == Some(&self.uid))
    }

    /// Where it was, if another run broke off. Jobs are looked through from the start, and so counted from there; a dry run
    /// begins altogether anew.
    async fn resume(&mut self, redrive: &VideoJobRedrive) -> Result<()> {
        let stored = status::counts(redrive);
        let cursor = redrive.status.as_ref().and_then(|s| s.cursor.clone());
        if redrive.spec.dry_run.unwrap_or(false) {
            return Ok(());
        }
        if cursor.is_some() {
            (self.counts, self.cursor) = (stored, cursor);
        }
        let mut redriven = stored.redriven;
        let begun = find(
            &redrive.status.clone().unwrap_or_default().conditions,
            SUCCEEDED,
        )
        .is_some();
        if begun && redrive.spec.max_jobs.is_some() {
            redriven = redriven.max(self.brought_back().await?);
        }
        self.counts.matched = self.counts.matched.max(redriven);
        self.counts.redriven = redriven;
        Ok(())
    }

    /// How many jobs say that this request brought them back: the last ones may not be counted in its status.
    async fn brought_back(&self) -> Result<u32> {
        let jobs: Api<VideoJob> = Api::namespaced(self.config.client.clone(), &self.namespace);
        let mut params = ListParams::default().limit(JOBS_PAGE);
        let mut count = 0u32;
        loop {
            let page = list(&jobs, &params).await?;
            let Some(page) = page else {
                return Ok(count);
            };
            let ours = page
                .items
                .iter()
                .filter(|job| redriven_by(job) == Some(&self.uid));
            count = count.saturating_add(u32::try_from(ours.count()).unwrap_or(u32::MAX));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(count),
            }
        }
    }

    async fn go_on(&mut self, selector: &Selector) -> Result<()> {
        let (client, store) = (self.config.client.clone(), self.config.store.clone());
        let cursor = self.cursor.clone();
        let mut source = Source::new(client, store, &self.namespace, selector, cursor.as_deref());
        loop {
            let Some(redrive) = self.current() else {
                return Ok(());
            };
            self.keep_pace(&redrive);
            let step = next(wishes(&redrive), self.counts, source.is_exhausted());
            self.report(&redrive, step).await?;
            match step {
                // Whoever is held takes nobody's place; it goes on as one that broke off.
                Next::Done | Next::Cancelled | Next::Pause => return Ok(()),
                Next::GoOn => {
                    let dry_run = redrive.spec.dry_run.unwrap_or(false);
                    match source.next().await? {
                        Some(Found::Job(job)) => self.take_job(&job, dry_run).await?,
                        Some(Found::Marker(key)) => {
                            self.take_marker(&key, selector, dry_run).await?;
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
    async fn refuse(&self, redrive: &VideoJobRedrive) -> Result<()> {
        let message = "spec.selector is no label selector: see `kubectl explain videojobredrive.spec.selector`, and make another";
        let status = status::unusable(redrive, message, Time(Timestamp::now()));
        write_status(&self.config.client, redrive, None, &status)
            .await
            .map(|_| ())
    }

    /// Counts what became of one. False: nothing did, it is to be tried again.
    pub(super) fn note(&mut self, outcome: Redrive) -> bool {
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
    pub(super) async fn turn(&mut self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tokio::time::sleep(self.pace.turn(Mono(now))).await;
    }

    async fn take_job(&mut self, job: &VideoJob, dry_run: bool) -> Result<()> {
        let status = job.status.clone().unwrap_or_default();
        let named = job.spec.pool_ref.as_ref().map(|pool| pool.name.as_str());
        let why = find(&status.conditions, SUCCEEDED).map(|c| c.reason.as_str());
        let letter = Letter {
            pool: status.pool_name.as_deref().or(named),
            reason: why.unwrap_or_default(),
            finished: status.finish_time.as_ref().map(wall),
            redriven_by: redriven_by(job).map(String::as_str),
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
        let outcome = if sent {
            self.answered(answer).await?
        } else {
            Answered::No
        };
        match outcome {
            Answered::Yes(outcome) if self.note(outcome) => Ok(()),
            Answered::Ended => Ok(()),
            Answered::Yes(_) | Answered::No => {
                Err(AuditError::Unusable("this replica leads no more".into()))
            }
        }
    }

    /// The core answers once the job's record is stored, which may take as long as the store is away: meanwhile its author is
    /// listened to.
    async fn answered(&mut self, mut answer: oneshot::Receiver<Redrive>) -> Result<Answered> {
        loop {
            tokio::select! {
                answer = &mut answer => {
                    return Ok(answer.map_or(Answered::No, Answered::Yes));
                }
                () = tokio::time::sleep(PAUSE) => {}
            }
            let Some(redrive) = self.current() else {
                return Ok(Answered::Ended);
            };
            match next(wishes(&redrive), self.counts, false) {
                // What becomes of this one is not waited for.
                Next::Cancelled => return Ok(Answered::Ended),
                step @ (Next::Pause | Next::GoOn) => self.report(&redrive, step).await?,
                Next::Done => {}
            }
        }
    }

    /// The pace may be changed under way.
    fn keep_pace(&mut self, redrive: &VideoJobRedrive) {
        let wanted = redrive.spec.per_second;
        if wanted != self.per_second {
            self.pace = Pace::new(wanted.unwrap_or(PER_SECOND).into());
            self.per_second = wanted;
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
        let client = &self.config.client;
        let written = write_status(client, redrive, self.written, &status).await?;
        self.written = self.written.max(written);
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
