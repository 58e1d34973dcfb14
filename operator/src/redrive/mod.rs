//! Works through VideoJobRedrives while this replica leads: which dead letters are meant is decided in the engine, here they are
//! listed, handed to the core one by one at the asked pace, and counted.
//!
//! First the VideoJobs there are, then the `dead/` markers of those that live in their records only.

mod markers;
mod run;
mod source;
mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use kinora_crds::conditions::{self, FINISHED, SUSPENDED};
use kinora_crds::{VideoJobRedrive, VideoJobRedriveStatus, names};
use kinora_storage::Store;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::{reflector, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::audit::{AuditError, call};
use crate::metrics::Upkeep;
use crate::ports::{Leadership, RedriveRequest};
use crate::watches;

/// How often the set of requests is looked at without a change.
const LOOK: Duration = Duration::from_secs(5);

/// So many requests are worked on at a time, and so many of one namespace: the others wait for their turn.
const AT_ONCE: usize = 32;
const AT_ONCE_OF_A_NAMESPACE: usize = 4;

/// A request whose run is over is not begun again sooner than this: whatever ended it would end it again.
const REST: Duration = Duration::from_secs(5);

/// A request that is worked on, or was until now.
struct Work {
    namespace: String,
    task: JoinHandle<()>,
    over: Option<Instant>,
}

impl Work {
    fn is_under_way(&self) -> bool {
        !self.task.is_finished()
    }

    fn is_rested(&mut self) -> bool {
        let is_over = self.task.is_finished();
        is_over && self.over.get_or_insert_with(Instant::now).elapsed() >= REST
    }
}

/// What redrives need.
#[derive(Clone)]
pub struct RedriveConfig {
    /// Client of the API server.
    pub client: Client,
    /// The store.
    pub store: Store,
    /// The core.
    pub requests: mpsc::Sender<RedriveRequest>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// What became of dead letters is counted here.
    pub upkeep: Upkeep,
}

/// The requests as the watch shows them.
type Known = reflector::Store<VideoJobRedrive>;

/// Runs until the process ends.
pub async fn run(config: RedriveConfig) {
    let api: Api<VideoJobRedrive> = Api::all(config.client.clone());
    let (known, writer) = reflector::store();
    let (changed_in, mut changed) = watch::channel(());
    let events = reflector(
        writer,
        watches::patient(watches::watch_few(api, watcher::Config::default())),
    );
    tokio::spawn(async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if let Err(error) = event {
                tracing::warn!(%error, "watch of videojobredrives failed, it starts again");
            }
            if changed_in.send(()).is_err() {
                return;
            }
        }
    });
    let mut leadership = config.leadership.clone();
    let mut working: HashMap<String, Work> = HashMap::new();
    loop {
        if *leadership.borrow_and_update() == Leadership::Leader {
            working.retain(|_, work| !work.is_rested());
            for redrive in known.state() {
                tend(&config, &known, &redrive, &mut working).await;
            }
        } else {
            working.drain().for_each(|(_, work)| work.task.abort());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Ok(()) = changed.changed() => {}
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// One request: worked on, left alone, or deleted after its time.
async fn tend(
    config: &RedriveConfig,
    known: &Known,
    redrive: &Arc<VideoJobRedrive>,
    working: &mut HashMap<String, Work>,
) {
    let Some(uid) = redrive.uid() else {
        return;
    };
    if is_finished(redrive) {
        if let Some(status) = status::observed(redrive)
            && let Err(error) = write_status(&config.client, redrive, None, &status).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                redrive = redrive.name_any(),
                "a change of a finished redrive is not noted yet"
            );
        }
        if is_expired(redrive, Timestamp::now())
            && let Err(error) = delete(&config.client, redrive, &uid).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                redrive = redrive.name_any(),
                "a finished redrive stays"
            );
        }
        return;
    }
    let namespace = redrive.namespace().unwrap_or_default();
    let under_way = || working.values().filter(|work| work.is_under_way());
    let of_namespace = under_way().filter(|work| work.namespace == namespace);
    let is_full = under_way().count() >= AT_ONCE || of_namespace.count() >= AT_ONCE_OF_A_NAMESPACE;
    // Whoever is held or ended only has to be told so.
    let has_work = !is_held(redrive);
    if working.contains_key(&uid) || (is_full && has_work) || is_paused(redrive) {
        return;
    }
    let run = run::Run::new(config.clone(), known.clone(), redrive, uid.clone());
    let name = redrive.name_any();
    let task = tokio::spawn(async move {
        if let Err(error) = run.work().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                redrive = name,
                "a redrive broke off, it goes on where it was"
            );
        }
    });
    let over = None;
    working.insert(
        uid,
        Work {
            namespace,
            task,
            over,
        },
    );
}

fn is_finished(redrive: &VideoJobRedrive) -> bool {
    let status = redrive.status.as_ref();
    status.is_some_and(|status| conditions::is_true(&status.conditions, FINISHED))
}

/// Its author holds it, or ended it.
fn is_held(redrive: &VideoJobRedrive) -> bool {
    let spec = &redrive.spec;
    spec.suspend.unwrap_or(false) || spec.cancel_requested.unwrap_or(false)
}

/// Its author holds it, and its status says so.
fn is_paused(redrive: &VideoJobRedrive) -> bool {
    let status = redrive.status.as_ref();
    let spec = &redrive.spec;
    spec.suspend.unwrap_or(false)
        && !spec.cancel_requested.unwrap_or(false)
        && status.is_some_and(|status| {
            status.observed_generation == redrive.metadata.generation
                && conditions::is_true(&status.conditions, SUSPENDED)
        })
}

fn is_expired(redrive: &VideoJobRedrive, now: Timestamp) -> bool {
    let status = redrive.status.as_ref();
    let ended = status.and_then(|status| conditions::find(&status.conditions, FINISHED));
    let ttl = redrive.spec.ttl_seconds_after_finished;
    ended.zip(ttl).is_some_and(|(ended, ttl)| {
        let since = now.duration_since(ended.last_transition_time.0);
        since.as_secs() >= ttl
    })
}

async fn delete(client: &Client, redrive: &VideoJobRedrive, uid: &str) -> Result<(), AuditError> {
    let namespace = redrive.namespace().unwrap_or_default();
    let api: Api<VideoJobRedrive> = Api::namespaced(client.clone(), &namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: redrive.resource_version(),
        }),
        ..DeleteParams::default()
    };
    let name = redrive.name_any();
    let deleted = call(
        || format!("delete videojobredrive {name}"),
        api.delete(&name, &params),
    );
    deleted.await.map(|_| ())
}

/// Stores a status, and gives the version that it is in. Whoever wrote last may have seen a later `version` than the watch has
/// shown; over anything else than that very object in that version nothing is written: it may be another request of that name.
async fn write_status(
    client: &Client,
    redrive: &VideoJobRedrive,
    version: Option<u64>,
    status: &VideoJobRedriveStatus,
) -> Result<Option<u64>, AuditError> {
    let namespace = redrive.namespace().unwrap_or_default();
    let api: Api<VideoJobRedrive> = Api::namespaced(client.clone(), &namespace);
    let params = PatchParams {
        field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
        ..PatchParams::default()
    };
    let name = redrive.name_any();
    let Some(version) = version.max(version_of(redrive)) else {
        let problem = format!("videojobredrive {name} has no resourceVersion");
        return Err(AuditError::Unusable(problem));
    };
    let metadata = json!({"uid": redrive.uid(), "resourceVersion": version.to_string()});
    let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
    let write = api.patch_status(&name, &params, &patch);
    let written = call(|| format!("write status of videojobredrive {name}"), write).await?;
    Ok(written.as_ref().and_then(version_of))
}

fn version_of(redrive: &VideoJobRedrive) -> Option<u64> {
    redrive.metadata.resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_request_goes_after_its_time_and_one_without_a_time_stays() {
        let made = |ttl: Option<i64>, finished: &str| -> VideoJobRedrive {
            serde_json::from_value(json!({
                "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJobRedrive", "metadata": {"name": "r"},
                "spec": {"selector": {}, "ttlSecondsAfterFinished": ttl},
                "status": {"conditions": [{"type": "Finished", "status": finished, "reason": "Completed", "message": "",
                                           "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .unwrap()
        };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (early, late) = (at("2026-01-01T00:00:59Z"), at("2026-01-01T00:01:00Z"));
        let table = [
            ("its time has come", made(Some(60), "True"), late, true),
            ("not yet", made(Some(60), "True"), early, false),
            ("no time was set", made(None, "True"), late, false),
        ];
        for (name, redrive, now, want) in table {
            assert!(is_finished(&redrive), "{name}");
            assert_eq!(is_expired(&redrive, now), want, "{name}");
        }
        assert!(!is_finished(&made(Some(0), "False")));
    }
}
