//! Events for people: only of declared jobs, only on the unhappy path, after the write they describe. Losing one loses nothing.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kinora_crds::conditions::{SUCCEEDED, find};
use kinora_crds::{VideoJob, names};
use kinora_engine::action::Cause;
use kinora_engine::outcome::Class;
use kinora_engine::{Phase, Reason};
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};
use tokio::time::timeout;

use super::Actor;

/// Posting one takes no longer.
const LIMIT: Duration = Duration::from_secs(3);
/// Bytes that the API server takes of a note.
const MAX_NOTE: usize = 1024;

/// What a stored write is worth telling: type and reason of the Event.
pub(crate) fn worth_telling(
    cause: Cause,
    phase: Phase,
    reason: Reason,
) -> Option<(&'static str, &'static str)> {
    match cause {
        Cause::Ended(Class::Succeeded) if phase == Phase::Succeeded => None,
        Cause::Ended(_) | Cause::SourceGone if phase == Phase::DeadLettered => {
            Some(("Warning", "DeadLettered"))
        }
        Cause::Ended(Class::Interrupted) | Cause::Reclaimed(Class::Interrupted) => {
            Some(("Warning", "Interrupted"))
        }
        Cause::Ended(_) | Cause::SourceGone if reason == Reason::SourceUnavailable => {
            Some(("Warning", "SourceUnavailable"))
        }
        Cause::Ended(Class::Lost | Class::Released) | Cause::Reclaimed(_) => None,
        Cause::Ended(_) => Some(("Warning", "AttemptFailed")),
        Cause::Cancelled => Some(("Normal", "JobCancelled")),
        Cause::Expired => Some(("Warning", "DeadlineExceeded")),
        Cause::Redriven => Some(("Normal", "Redriven")),
        Cause::Blocked if reason == Reason::PoolNotFound => Some(("Warning", "PoolNotFound")),
        Cause::Blocked
        | Cause::SourceGone
        | Cause::Observed
        | Cause::Suspension
        | Cause::Placed
        | Cause::Progress(_)
        | Cause::Claimed => None,
    }
}

impl Actor {
    /// Posts the Event of a stored write. Too many at once are dropped.
    pub(crate) fn tell(&self, job: &VideoJob, cause: Cause, phase: Phase, reason: Reason) {
        if job.is_upload() {
            return;
        }
        let Some((type_, why)) = worth_telling(cause, phase, reason) else {
            return;
        };
        let Ok(permit) = self.events.clone().try_acquire_owned() else {
            return;
        };
        let event = event(job, type_, why);
        let namespace = job.namespace().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        tokio::spawn(async move {
            let params = PostParams::default();
            match timeout(LIMIT, api.create(&params, &event)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an Event was not posted"),
                Err(_) => tracing::debug!("an Event was not posted in time"),
            }
            drop(permit);
        });
    }
}

fn event(job: &VideoJob, type_: &str, reason: &str) -> Event {
    let conditions = job.status.as_ref().map(|s| s.conditions.as_slice());
    let message = find(conditions.unwrap_or_default(), SUCCEEDED).map(|c| c.message.as_str());
    let message = message.filter(|m| !m.is_empty()).unwrap_or(reason);
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", job.name_any())),
            namespace: job.namespace(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(format!("{}/operator", names::GROUP)),
        reporting_instance: Some(names::MANAGER_OPERATOR.to_owned()),
        action: Some("Process".to_owned()),
        reason: Some(reason.to_owned()),
        type_: Some(type_.to_owned()),
        note: Some(kinora_crds::conditions::cut(message, MAX_NOTE).to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(VideoJob::api_version(&()).into_owned()),
            kind: Some(VideoJob::kind(&()).into_owned()),
            name: Some(job.name_any()),
            namespace: job.namespace(),
            uid: job.uid(),
            resource_version: job.resource_version(),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::success_is_silent(
        Cause::Ended(Class::Succeeded),
        Phase::Succeeded,
        Reason::Completed,
        None
    )]
    #[case::a_claim_is_silent(Cause::Claimed, Phase::Running, Reason::Processing, None)]
    #[case::a_loss_is_silent(Cause::Ended(Class::Lost), Phase::Queued, Reason::Queued, None)]
    #[case::a_failure(
        Cause::Ended(Class::Failed),
        Phase::Backoff,
        Reason::Backoff,
        Some("AttemptFailed")
    )]
    #[case::the_last_failure(
        Cause::Ended(Class::Failed),
        Phase::DeadLettered,
        Reason::FailuresExhausted,
        Some("DeadLettered")
    )]
    #[case::a_missing_source(
        Cause::Ended(Class::Failed),
        Phase::Backoff,
        Reason::SourceUnavailable,
        Some("SourceUnavailable")
    )]
    #[case::an_interruption(
        Cause::Reclaimed(Class::Interrupted),
        Phase::Running,
        Reason::Processing,
        Some("Interrupted")
    )]
    #[case::a_pool_that_came_back(Cause::Blocked, Phase::Queued, Reason::Queued, None)]
    #[case::no_pool(
        Cause::Blocked,
        Phase::Queued,
        Reason::PoolNotFound,
        Some("PoolNotFound")
    )]
    fn only_the_unhappy_path_is_told(
        #[case] cause: Cause,
        #[case] phase: Phase,
        #[case] reason: Reason,
        #[case] want: Option<&str>,
    ) {
        let told = worth_telling(cause, phase, reason);
        assert_eq!(told.map(|(_, reason)| reason), want);
    }
}
