//! Watches VideoJobs with a streaming list and hands every change to the core. Keeps no object.

use std::collections::HashSet;

use futures::StreamExt;
use kinora_crds::VideoJob;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the watch says.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Listed, added or changed.
    Job(Box<VideoJob>),
    /// Deleted; the uid.
    Deleted(String),
    /// A listing is complete: a job whose uid is not among these is gone.
    Listed(HashSet<String>),
}

/// Watches until `stop`, or until nobody listens. The watcher itself backs off and lists again.
pub(crate) async fn watch_jobs(
    client: Client,
    namespace: Option<String>,
    out: mpsc::Sender<Seen>,
    stop: CancellationToken,
) {
    let api: Api<VideoJob> = match &namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let config = watcher::Config::default().streaming_lists();
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
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

fn seen(event: Event<VideoJob>, listed: &mut HashSet<String>) -> Option<Seen> {
    match event {
        Event::Init => {
            listed.clear();
            None
        }
        Event::InitApply(job) => {
            listed.extend(job.metadata.uid.clone());
            Some(Seen::Job(Box::new(job)))
        }
        Event::InitDone => Some(Seen::Listed(std::mem::take(listed))),
        Event::Apply(job) => Some(Seen::Job(Box::new(job))),
        Event::Delete(job) => job.metadata.uid.map(Seen::Deleted),
    }
}
