//! What is lost and comes back, what was dead and is redriven, what is old and goes: the shells over an API server in memory and
//! a real SeaweedFS, found by KINORA_WEED or on PATH.

// Helpers of tests are tests, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

mod api;
mod attempt_pods;
mod audit;
mod cleaner;
#[path = "../shared/contract.rs"]
mod contract;
mod deletions;
mod flood;
mod redrive;
mod redrive_refused;
mod redrive_resumed;
mod refusals;
mod rewinds;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kinora_operator::ports::{Leadership, Redrive, RedriveRequest};
use kinora_storage::testing::Weed;
use kinora_storage::{Cell, PutOptions, Store, UploadId, keys};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

pub(crate) const JOBS: &str = "/apis/kinora.dev/v1alpha1/namespaces/videos/videojobs";
const PATIENCE: Duration = Duration::from_secs(60);

/// A store of one's own, and a leader's leadership.
pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) leads: watch::Sender<Leadership>,
    /// A core that brings back whatever it is asked for.
    pub(crate) core: mpsc::Sender<RedriveRequest>,
    asked: Arc<Mutex<Vec<String>>>,
    _weed: Weed,
}

impl Site {
    pub(crate) async fn new() -> Site {
        let weed = Weed::start()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let (core, mut requests) = mpsc::channel::<RedriveRequest>(10);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = asked.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                notes.lock().unwrap().push(request.job_uid);
                let _ = request.reply.send(Redrive::Done);
            }
        });
        Site {
            store: weed.store().unwrap(),
            leads: watch::channel(Leadership::Leader).0,
            core,
            asked,
            _weed: weed,
        }
    }

    /// Uids of the jobs that the core was asked to bring back.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) async fn put(&self, key: &str, body: &Value) {
        let body = serde_json::to_vec(body).unwrap();
        let put = self.store.put(key, body.into(), PutOptions::default());
        put.await.unwrap();
    }

    pub(crate) async fn has(&self, key: &str) -> bool {
        self.store.head(key).await.unwrap().is_some()
    }

    pub(crate) async fn json(&self, key: &str) -> Value {
        let object = self.store.get(key).await.unwrap().unwrap();
        serde_json::from_slice(&object.bytes).unwrap()
    }

    /// The decision on an upload.
    pub(crate) async fn decide(&self, id: &UploadId, decision: &str, redrives: i64) {
        let active = json!({
            "v": 1, "id": id, "decision": decision, "redrives": redrives, "owner": {"iss": "apikey", "sub": "demo"},
            "tenant": "acme", "profile": "default", "key": keys::video(id), "size": 10, "indexKey": format!("users/o/{id}"),
            "job": job(id), "times": {},
        });
        self.put(&keys::active(id), &active).await;
    }

    /// Its final record.
    pub(crate) async fn record(&self, id: &UploadId, redrives: i64, dead: bool, finished: &str) {
        let record = json!({
            "v": 1, "id": id, "tenant": "acme", "state": if dead { "failed" } else { "succeeded" }, "deadLettered": dead,
            "reason": if dead { "Poison" } else { "Completed" }, "key": keys::video(id), "size": 10, "redrives": redrives,
            "owner": {"iss": "apikey", "sub": "demo"}, "indexKey": format!("users/o/{id}"),
            "job": {"namespace": "videos", "name": format!("vj-{id}"), "uid": format!("uid-{id}")},
            "times": {"finished": finished}, "profile": "clips", "poolName": "default", "videoJob": job(id),
        });
        self.put(&keys::record_for_upload(id), &record).await;
    }
}

/// The VideoJob of an upload, as its decision carries it.
pub(crate) fn job(id: &UploadId) -> Value {
    json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
        "metadata": {"name": format!("vj-{id}"), "namespace": "videos", "labels": {"kinora.dev/origin": "upload"},
                     "annotations": {"kinora.dev/upload-id": id}},
        "spec": {"source": {"key": keys::video(id)}, "tenant": "acme", "ttlSecondsAfterFinished": 900},
    })
}

pub(crate) fn path(id: &UploadId) -> String {
    format!("{JOBS}/vj-{id}")
}

/// A uid that no other job has.
pub(crate) fn uid_of(id: &UploadId) -> String {
    format!("uid-{id}")
}

pub(crate) fn mint() -> UploadId {
    UploadId::mint(&Cell::default())
}

pub(crate) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Waits for something that shows.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
