//! A status as a merge patch: the fields that changed, the conditions whole, the resourceVersion as the fence.

use kinora_crds::conditions::{
    Conditions, FINISHED, RECONCILING, STALLED, SUCCEEDED, SUSPENDED, Status as Truth,
};
use kinora_crds::{Condition, Output, WorkerRef};
use kinora_engine::action::Cause;
use kinora_engine::outcome::Class;
use kinora_engine::{Phase, Reason, Rv, Status, Wall};
use serde_json::{Map, Value, json};

use super::facts::time;
use super::names::{Names, uid_text};
use super::words::{class_word, phase_word, reason_word};

/// What a status holds that the engine does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    /// Of the worker a claim is for.
    pub(crate) worker: Option<WorkerRef>,
    /// Of the accepted attempt.
    pub(crate) outputs: Vec<Output>,
    /// How an attempt ended that was no success.
    pub(crate) failure: Option<FailureText>,
    /// What the service does, as it said last; empty if it did not.
    pub(crate) step: String,
}

/// Texts of `lastFailure`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailureText {
    /// The service's code, or our word.
    pub(crate) reason: String,
    /// What the service said.
    pub(crate) message: String,
}

/// The merge patch that turns `before` into `after`.
pub(crate) fn status_patch(
    rv: Rv,
    before: &Status,
    after: &Status,
    cause: Cause,
    extras: &Extras,
    now: Wall,
    names: &Names,
) -> Value {
    let mut fields = Map::new();
    fields.insert("observedGeneration".into(), json!(after.observed));
    fields.insert("state".into(), json!(phase_word(after.phase)));
    counters(&mut fields, before, after);
    times(&mut fields, before, after);
    if before.pool != after.pool {
        let pool = after.pool.map(|pool| names.text(pool).to_string());
        fields.insert("poolName".into(), json!(pool));
    }
    if before.worker != after.worker || before.attempt != after.attempt {
        let held = after.worker.is_some() || after.phase == Phase::Running;
        let named = extras.worker.as_ref().filter(|_| held);
        let worker = named.map(|worker| {
            let known = |text: &'_ String| Some(text.clone()).filter(|text| !text.is_empty());
            // Without a uid: the pod of the attempt has not reported yet.
            json!({
                "podName": worker.pod_name,
                "podUID": known(&worker.pod_uid),
                "nodeName": known(&worker.node_name),
            })
        });
        fields.insert("worker".into(), json!(worker));
    }
    match cause {
        Cause::Progress(percent) => {
            let step = Some(&extras.step).filter(|step| !step.is_empty());
            fields.insert("progress".into(), json!({"percent": percent, "step": step}));
        }
        // That of an earlier attempt says nothing about this one.
        Cause::Claimed | Cause::Reclaimed(_) if before.attempt > 0 => {
            fields.insert("progress".into(), Value::Null);
        }
        _ => {}
    }
    if !extras.outputs.is_empty() {
        fields.insert("outputs".into(), json!(extras.outputs));
    }
    if before.redriven_by != after.redriven_by {
        let by = after.redriven_by.map(uid_text);
        fields.insert("redrivenBy".into(), json!(by));
    }
    let message = failure(&mut fields, cause, extras, now);
    let conditions = conditions(after, message.as_deref().unwrap_or_default(), now);
    fields.insert("conditions".into(), json!(conditions));
    json!({"metadata": {"resourceVersion": rv.0.to_string()}, "status": fields})
}

fn counters(fields: &mut Map<String, Value>, before: &Status, after: &Status) {
    let mut set = |name: &str, old: u64, new: u64| {
        if old != new {
            let value = if new == 0 { Value::Null } else { json!(new) };
            fields.insert(name.into(), value);
        }
    };
    set("attempt", before.attempt.into(), after.attempt.into());
    set("failures", before.failures.into(), after.failures.into());
    set(
        "interruptions",
        before.interruptions.into(),
        after.interruptions.into(),
    );
    set(
        "rejections",
        before.rejections.into(),
        after.rejections.into(),
    );
    set("uncharged", before.uncharged.into(), after.uncharged.into());
    set(
        "activeSeconds",
        before.active.as_secs(),
        after.active.as_secs(),
    );
    let claimed = before.attempt != after.attempt;
    if after.redrives != before.redrives || (claimed && after.redrives > 0) {
        // It may come from the annotation of a re-created job.
        fields.insert("redrives".into(), json!(after.redrives));
    }
}

fn times(fields: &mut Map<String, Value>, before: &Status, after: &Status) {
    let mut set = |name: &str, old: Option<Wall>, new: Option<Wall>| {
        if old != new {
            fields.insert(name.into(), json!(new.map(time)));
        }
    };
    set("nextAttemptTime", before.next_attempt, after.next_attempt);
    set("startTime", before.started, after.started);
    set("finishTime", before.finished, after.finished);
    if before.ghosts != after.ghosts {
        let ghosts: Vec<_> = after.ghosts.iter().copied().map(time).collect();
        let value = if ghosts.is_empty() {
            Value::Null
        } else {
            json!(ghosts)
        };
        fields.insert("ghosts".into(), value);
    }
    let ends = before.phase == Phase::Running && after.phase.is_final();
    if let (true, Some(started), Some(finished)) = (ends, after.started, after.finished) {
        fields.insert(
            "durationSeconds".into(),
            json!((finished - started).as_secs()),
        );
    }
    if before.finished.is_some() && after.finished.is_none() {
        fields.insert("durationSeconds".into(), Value::Null);
    }
}

/// Writes `lastFailure` where an attempt ended without success, and gives the message for the conditions.
fn failure(
    fields: &mut Map<String, Value>,
    cause: Cause,
    extras: &Extras,
    now: Wall,
) -> Option<String> {
    let class = match cause {
        Cause::Ended(Class::Succeeded) => return None,
        Cause::Ended(class) | Cause::Reclaimed(class) => class,
        Cause::Observed
        | Cause::Blocked
        | Cause::Suspension
        | Cause::Claimed
        | Cause::Placed
        | Cause::Progress(_)
        | Cause::Cancelled
        | Cause::Expired
        | Cause::SourceGone
        | Cause::Redriven => return None,
    };
    let text = extras.failure.clone().unwrap_or_default();
    let reason = if text.reason.is_empty() {
        class_word(class)
    } else {
        &text.reason
    };
    // A merge patch keeps what it does not name: an old message must be taken away.
    let said = Some(&text.message).filter(|message| !message.is_empty());
    fields.insert(
        "lastFailure".into(),
        json!({
            "class": class_word(class),
            "reason": reason,
            "message": said,
            "time": time(now.floor_second()),
        }),
    );
    let said = if text.message.is_empty() {
        reason
    } else {
        &text.message
    };
    Some(format!("{}: {said}", class_word(class)))
}

fn plain_message(reason: Reason) -> &'static str {
    match reason {
        Reason::PoolNotFound => "the pool does not exist; the job waits for it",
        Reason::SourceUnavailable => "the source was not found; it is looked for again",
        Reason::DeadlineExceeded => "a deadline of the spec is past",
        Reason::InvalidSource => "the source is gone for good, or its key may not be used here",
        Reason::Queued
        | Reason::Processing
        | Reason::Backoff
        | Reason::Suspended
        | Reason::Completed
        | Reason::FailuresExhausted
        | Reason::Rejected
        | Reason::Poison
        | Reason::Cancelled => "",
    }
}

/// The whole set, as the table of the API says. Transition times are the engine's: it knows which status flipped.
fn conditions(status: &Status, message: &str, now: Wall) -> Vec<Condition> {
    let reason = reason_word(status.reason);
    let message = if message.is_empty() {
        plain_message(status.reason)
    } else {
        message
    };
    let truth = match status.phase {
        Phase::Succeeded => Truth::True,
        Phase::DeadLettered | Phase::Cancelled => Truth::False,
        Phase::Queued | Phase::Running | Phase::Backoff | Phase::Suspended => Truth::Unknown,
    };
    let since = time(status.since.unwrap_or(now));
    let mode_since = time(status.mode_since.or(status.since).unwrap_or(now));
    let is_final = status.phase.is_final();
    let generation = Some(status.observed);
    let mut lasting = Conditions::new(generation, since)
        .with(SUCCEEDED, truth, reason, message)
        .with(FINISHED, is_final, reason, "");
    if status.phase == Phase::DeadLettered {
        lasting = lasting.with(STALLED, true, reason, message);
    }
    let mut mode = Conditions::new(generation, mode_since);
    if status.phase == Phase::Suspended {
        mode = mode.with(SUSPENDED, true, reason, "");
    } else if !is_final {
        mode = mode.with(RECONCILING, true, reason, "");
    }
    let mut all = lasting.carry(&[]);
    all.extend(mode.carry(&[]));
    all
}
