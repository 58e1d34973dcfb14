//! Watches VideoJobs and hands every change to the core. Keeps no object.
//!
//! An object that is no VideoJob as this version knows them is set aside: a watch that failed on it would start over for ever
//! and hide all others.

use std::collections::HashSet;

use futures::StreamExt;
use kinora_crds::VideoJob;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::watches::{patient, watch};

/// What the watch says.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Listed, added or changed.
    Job(Box<VideoJob>),
    /// It cannot be read; what was known of it stays. The uid.
    Unreadable(String),
    /// Deleted; the uid.
    Deleted(String),
    /// A listing is complete: a job whose uid is not among these is gone.
    Listed(HashSet<String>),
}

type Guarded = DeserializeGuard<VideoJob>;

/// Watches until `stop`, or until nobody listens. The watcher itself backs off and lists again.
pub(crate) async fn watch_jobs(
    client: Client,
    namespace: Option<String>,
    out: mpsc::Sender<Seen>,
    stop: CancellationToken,
) {
    let api: Api<Guarded> = match &namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let mut events = std::pin::pin!(patient(watch(api, Config::default())));
    let mut listed = HashSet::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = stop.cancelled() => return,
        };
        let seen = match event {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(error = %error, "watch of videojobs failed, it starts again");
                continue;
            }
            Some(Ok(event)) => seen(event, &mut listed),
        };
        if let Some(seen) = seen
            && out.send(seen).await.is_err()
        {
            return;
        }
    }
}

fn seen(event: Event<Guarded>, listed: &mut HashSet<String>) -> Option<Seen> {
    match event {
        Event::Init => {
            listed.clear();
            None
        }
        Event::InitApply(job) => {
            listed.extend(job.uid());
            Some(read(job))
        }
        Event::InitDone => Some(Seen::Listed(std::mem::take(listed))),
        Event::Apply(job) => Some(read(job)),
        Event::Delete(job) => job.uid().map(Seen::Deleted),
    }
}

fn read(job: Guarded) -> Seen {
    match job.0 {
        Ok(job) => Seen::Job(Box::new(job)),
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            let uid = invalid.metadata.uid.as_deref().unwrap_or_default();
            tracing::error!(job = %name, uid = %uid, error = %invalid.error, "a videojob cannot be read, it is set aside");
            Seen::Unreadable(uid.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn listed(spec: &Value) -> Event<Guarded> {
        let object = json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "metadata": {"name": "a", "uid": "u-1"}, "spec": spec,
        });
        Event::InitApply(serde_json::from_value(object).unwrap())
    }

    /// covers: F31
    #[test]
    fn an_object_that_cannot_be_read_is_there_all_the_same() {
        let table = [
            ("readable", json!({"source": {"key": "videos/x"}}), true),
            ("no source", json!({}), false),
            ("another type", json!({"source": {"key": 7}}), false),
            (
                "no number",
                json!({"source": {"key": "x"}, "priority": "high"}),
                false,
            ),
        ];
        for (name, spec, want_read) in table {
            let mut uids = HashSet::new();
            let first = seen(listed(&spec), &mut uids);
            assert_eq!(matches!(first, Some(Seen::Job(_))), want_read, "{name}");
            let Some(Seen::Listed(uids)) = seen(Event::InitDone, &mut uids) else {
                panic!("{name}: a list");
            };
            assert!(uids.contains("u-1"), "{name}: what is listed is not gone");
        }
    }
}
