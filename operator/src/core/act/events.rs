//! Posts Events for people: of declared jobs only, after the write they describe. Losing one loses nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kinora_crds::events::EventReason;
use kinora_crds::{VideoJob, names};
use kinora_engine::action::Cause;
use kinora_engine::{Phase, Reason};
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::super::tally::count;
use super::Actor;
use super::jobs::status_code;
use super::telling::{controller, name_of, note, worth_telling};
use crate::core::allowance::Allowance;

/// Posting one takes no longer.
const LIMIT: Duration = Duration::from_secs(3);
/// How many are posted at once.
const AT_ONCE: usize = 8;
/// How many a second on average, and how many may come together: an outage must not bury the API server in notes about it.
const RATE: f64 = 5.0;
const BURST: f64 = 50.0;

/// What bounds the posting of Events. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Events {
    at_once: Arc<Semaphore>,
    allowance: Arc<Mutex<Allowance>>,
}

impl Events {
    pub(super) fn new() -> Events {
        Events {
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            allowance: Arc::new(Mutex::new(Allowance::new(RATE, BURST, Instant::now()))),
        }
    }

    fn may_post(&self) -> bool {
        let mut allowance = self
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        allowance.take_if_any(Instant::now())
    }
}

impl Actor {
    /// Posts the Event of a stored write. Too many are dropped, and counted.
    pub(crate) fn tell(&self, job: &VideoJob, cause: Cause, phase: Phase, reason: Reason) {
        if job.is_upload() {
            return;
        }
        let Some(reason) = worth_telling(cause, phase, reason) else {
            return;
        };
        let counters = self.counters.clone();
        let permit = self.events.at_once.clone().try_acquire_owned();
        let (Ok(permit), true) = (permit, self.events.may_post()) else {
            return count(&counters.events_dropped);
        };
        let event = event(job, reason);
        let namespace = job.namespace().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        tokio::spawn(async move {
            let params = PostParams::default();
            match timeout(LIMIT, api.create(&params, &event)).await {
                Ok(Ok(_)) => count(&counters.events_posted),
                // This very transition was told before.
                Ok(Err(error)) if status_code(&error) == Some(409) => {}
                Ok(Err(error)) => {
                    count(&counters.events_failed);
                    tracing::debug!(%error, "an Event was not posted");
                }
                Err(_) => {
                    count(&counters.events_failed);
                    tracing::debug!("an Event was not posted in time");
                }
            }
            drop(permit);
        });
    }
}

fn event(job: &VideoJob, reason: EventReason) -> Event {
    let name = name_of(job);
    Event {
        metadata: ObjectMeta {
            generate_name: name.is_none().then(|| format!("{}-", job.name_any())),
            name,
            namespace: job.namespace(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(controller()),
        reporting_instance: Some(names::MANAGER_OPERATOR.to_owned()),
        action: Some("Process".to_owned()),
        reason: Some(reason.word().to_owned()),
        type_: Some(reason.kind().to_owned()),
        note: Some(note(job, reason)),
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
