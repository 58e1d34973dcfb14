//! A VideoJob as the engine sees it.

use std::time::Duration;

use jiff::Timestamp;
use kinora_crds::conditions::{RECONCILING, SUCCEEDED, SUSPENDED, find};
use kinora_crds::{Time, VideoJob, VideoJobStatus, names};
use kinora_engine::{Job, Phase, Rv, Spec, Status, Wall};

use super::names::{Names, uid_of};
use super::words::{phase_of, reason_of};

/// A job created this much later than its outbox entry was written may have come and gone before.
const LATE: Duration = Duration::from_secs(60);

/// What of the configuration bears on facts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// No upload job goes earlier after its end.
    pub(crate) upload_ttl_floor: Duration,
}

pub(super) fn wall(time: &Time) -> Wall {
    Wall(time.0.as_millisecond())
}

pub(super) fn time(wall: Wall) -> Time {
    Time(Timestamp::from_millisecond(wall.0).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The facts of a job; `None` when it cannot be ours to handle (no uid, a state of a newer operator).
pub(crate) fn facts(job: &VideoJob, names: &mut Names, terms: Terms) -> Option<Job> {
    let meta = &job.metadata;
    let phase = phase_of(job.state())?;
    Some(Job {
        uid: uid_of(meta.uid.as_deref()?),
        rv: Rv(meta.resource_version.as_deref()?.parse().ok()?),
        generation: meta.generation.unwrap_or(0),
        spec: spec(job, names, terms),
        status: status(job, phase, names),
    })
}

fn seconds(value: Option<i64>) -> Option<Duration> {
    value.map(|s| Duration::from_secs(u64::try_from(s).unwrap_or(0)))
}

fn annotation<'a>(job: &'a VideoJob, name: &str) -> Option<&'a str> {
    let annotations = job.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

fn spec(job: &VideoJob, names: &mut Names, terms: Terms) -> Spec {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let created = job
        .metadata
        .creation_timestamp
        .as_ref()
        .map(wall)
        .unwrap_or_default();
    let outbox = annotation(job, names::ANNOTATION_OUTBOX_TIME)
        .and_then(|text| text.parse::<Timestamp>().ok())
        .map(|at| Wall(at.as_millisecond()));
    let is_upload = job.is_upload();
    let ttl = seconds(job.spec.ttl_seconds_after_finished);
    Spec {
        namespace: names.intern(namespace),
        pool: job.spec.pool_ref.as_ref().map(|r| names.intern(&r.name)),
        tenant: names.intern(job.spec.tenant.as_deref().unwrap_or(namespace)),
        priority: job.spec.priority.unwrap_or(0),
        max_failures: job.spec.max_failures.and_then(|n| u32::try_from(n).ok()),
        start_deadline: seconds(job.spec.start_deadline_seconds),
        active_deadline: seconds(job.spec.active_deadline_seconds),
        ttl: ttl.map(|ttl| {
            if is_upload {
                ttl.max(terms.upload_ttl_floor)
            } else {
                ttl
            }
        }),
        suspend: job.spec.suspend.unwrap_or(false),
        cancel: job.spec.cancel_requested.unwrap_or(false),
        declared: !is_upload,
        late: is_upload && outbox.is_some_and(|outbox| created - outbox > LATE),
        own_source: job.spec.source.key.starts_with("videos/"),
        created,
    }
}

fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

fn status(job: &VideoJob, phase: Phase, names: &mut Names) -> Status {
    let nothing = VideoJobStatus::default();
    let stored = job.status.as_ref().unwrap_or(&nothing);
    let succeeded = find(&stored.conditions, SUCCEEDED);
    let mode = find(&stored.conditions, SUSPENDED)
        .filter(|c| c.status == "True")
        .or_else(|| find(&stored.conditions, RECONCILING));
    let worker = stored.worker.as_ref().filter(|w| !w.pod_uid.is_empty());
    Status {
        observed: stored.observed_generation.unwrap_or(-1),
        phase,
        reason: reason_of(succeeded.map(|c| c.reason.as_str()), phase),
        attempt: count(stored.attempt),
        worker: worker.map(|w| uid_of(&w.pod_uid)),
        pool: stored.pool_name.as_deref().map(|name| names.intern(name)),
        failures: count(stored.failures),
        interruptions: count(stored.interruptions),
        redrives: job.redrives(),
        rejections: count(stored.rejections),
        uncharged: count(stored.uncharged),
        next_attempt: stored.next_attempt_time.as_ref().map(wall),
        started: stored.start_time.as_ref().map(wall),
        finished: stored.finish_time.as_ref().map(wall),
        active: seconds(Some(stored.active_seconds)).unwrap_or_default(),
        ghosts: stored.ghosts.iter().map(wall).collect(),
        since: succeeded.map(|c| wall(&c.last_transition_time)),
        mode_since: mode.map(|c| wall(&c.last_transition_time)),
        redriven_by: stored
            .redriven_by
            .as_deref()
            .or_else(|| annotation(job, names::ANNOTATION_REDRIVEN_BY))
            .map(uid_of),
    }
}
