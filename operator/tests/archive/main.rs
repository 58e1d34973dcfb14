//! The archive on a real SeaweedFS: URLs, outputs, the final record over a job's lives, and what goes afterwards.
//! The server is found by KINORA_WEED or on PATH; without one these tests fail and say so.

// Helpers of tests are tests, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

mod clean;

use std::sync::Arc;
use std::time::Duration;

use kinora_crds::VideoJob;
use kinora_operator::archive::Archive;
use kinora_operator::archive::keys::KeyPolicy;
use kinora_operator::core::seams::{
    AttemptOf, LeaseRequest, SourceState, StoreWork, StoreWorkError,
};
use kinora_storage::testing::Weed;
use kinora_storage::{Cell, PutOptions, Store, UploadId, keys};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const POD: &str = "0a1b2c3d-0000-0000-0000-000000000000";

async fn weed() -> &'static Weed {
    static WEED: OnceCell<Weed> = OnceCell::const_new();
    WEED.get_or_init(|| async {
        Weed::start()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    })
    .await
}

/// An upload of its own, with the store it is in.
struct World {
    id: UploadId,
    /// Of its job: all tests have one bucket, and their outputs are filed by it.
    uid: String,
    store: Store,
    archive: Archive,
}

impl World {
    async fn new() -> Self {
        let store = weed().await.store().unwrap();
        let policy = KeyPolicy {
            jobs_namespace: "videos".to_owned(),
            ..KeyPolicy::default()
        };
        Self {
            id: UploadId::mint(&Cell::default()),
            uid: format!(
                "7d1f0e6c-3f7a-4b0c-9d53-{:012x}",
                rand::random::<u64>() >> 16
            ),
            archive: Archive::new(store.clone(), policy),
            store,
        }
    }

    /// The upload's job in this state.
    fn job(&self, state: &str, reason: &str, attempt: i32, redrives: i32) -> Arc<VideoJob> {
        let job = json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
            "metadata": {
                "name": format!("vj-{}", self.id), "namespace": "videos", "uid": self.uid,
                "creationTimestamp": "2026-03-04T00:00:00Z", "labels": {"kinora.dev/origin": "upload"},
            },
            "spec": {"source": {"key": keys::video(&self.id)}},
            "status": {
                "state": state, "attempt": attempt, "redrives": redrives,
                "worker": {"podName": "w", "podUID": POD, "nodeName": "n"},
                "conditions": [{"type": "Succeeded", "status": "False", "reason": reason, "message": "",
                                "lastTransitionTime": "2026-03-04T00:00:02Z"}],
            },
        });
        Arc::new(serde_json::from_value(job).unwrap())
    }

    async fn put(&self, key: &str, body: &Value) {
        let body = serde_json::to_vec(body).unwrap();
        self.store
            .put(key, body.into(), PutOptions::default())
            .await
            .unwrap();
    }

    async fn decide(&self, redrives: i64) {
        let active = json!({
            "v": 1, "id": self.id, "decision": "accepted", "redrives": redrives, "owner": {"iss": "apikey", "sub": "demo"},
            "tenant": "acme", "profile": "default", "key": keys::video(&self.id), "size": 10, "indexKey": "users/o/1",
            "job": {}, "times": {},
        });
        self.put(&keys::active(&self.id), &active).await;
    }

    async fn has(&self, key: &str) -> bool {
        self.store.head(key).await.unwrap().is_some()
    }

    async fn record(&self) -> Value {
        let object = self
            .store
            .get(&keys::record_for_upload(&self.id))
            .await
            .unwrap()
            .unwrap();
        serde_json::from_slice(&object.bytes).unwrap()
    }

    fn output(&self, attempt: i64, name: &str) -> String {
        format!(
            "{}{name}",
            keys::outputs_prefix(self.id.day(), &self.uid, attempt, POD)
        )
    }

    fn dead(&self) -> String {
        keys::dead(self.id.day(), self.id.as_str())
    }
}

fn attempt(job: &Arc<VideoJob>) -> AttemptOf {
    AttemptOf {
        job: job.clone(),
        attempt: 1,
        pod_uid: POD.to_owned(),
    }
}

fn lease(job: &Arc<VideoJob>, store_endpoint: Option<&str>) -> LeaseRequest {
    LeaseRequest {
        attempt: attempt(job),
        outputs: vec!["video".to_owned()],
        timeout: Duration::from_secs(600),
        store_endpoint: store_endpoint.map(str::to_owned),
    }
}

/// covers: S6, S16
#[tokio::test]
async fn a_lease_gets_urls_of_its_own_keys_and_a_foreign_key_gets_none() {
    let world = World::new().await;
    let job = world.job("Running", "Processing", 1, 0);
    let urls = world.archive.lease_urls(lease(&job, None)).await.unwrap();
    assert!(
        urls.source_url.contains(&keys::video(&world.id))
            && urls.source_url.contains("X-Amz-Expires=900")
    );
    assert!(urls.outputs[0].put_url.contains(&world.output(1, "video")));
    assert_eq!(
        urls.outputs[0]
            .headers
            .get("if-none-match")
            .map(String::as_str),
        Some("*")
    );
    let elsewhere = world
        .archive
        .lease_urls(lease(&job, Some("http://store.elsewhere:1")))
        .await
        .unwrap();
    assert!(
        elsewhere
            .source_url
            .starts_with("http://store.elsewhere:1/")
    );

    let mut foreign = job.as_ref().clone();
    foreign.spec.source.key = keys::video(&UploadId::mint(&Cell::default()));
    let refused = world
        .archive
        .lease_urls(lease(&Arc::new(foreign), None))
        .await;
    assert!(matches!(refused, Err(StoreWorkError::ForeignKey { .. })));
}

#[tokio::test]
async fn outputs_and_sources_are_found_or_missing() {
    let world = World::new().await;
    let job = world.job("Running", "Processing", 1, 0);
    let names = || vec!["video".to_owned(), "thumbnail".to_owned()];
    assert_eq!(
        world
            .archive
            .check_outputs(attempt(&job), names())
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        world.archive.source_state(job.clone()).await.unwrap(),
        SourceState::Missing
    );
    world.put(&world.output(1, "thumbnail"), &json!("x")).await;
    world.put(&keys::video(&world.id), &json!("x")).await;
    let found = world
        .archive
        .check_outputs(attempt(&job), names())
        .await
        .unwrap();
    assert_eq!(
        (found.len(), found[0].name.as_str(), found[0].size_bytes),
        (1, "thumbnail", 3)
    );
    assert_eq!(
        found[0].uri,
        format!("s3://kinora/{}", world.output(1, "thumbnail"))
    );
    assert_eq!(
        world.archive.source_state(job).await.unwrap(),
        SourceState::Present
    );
}

/// covers: F3, T5
#[tokio::test]
async fn a_record_outlives_repeats_and_gives_way_only_to_a_redrive() {
    let world = World::new().await;
    world.decide(0).await;
    let first = world.job("DeadLettered", "FailuresExhausted", 5, 0);
    assert_eq!(
        world.archive.final_record_for(first.clone()).await.unwrap(),
        None
    );
    world
        .archive
        .write_final_record(first.clone(), None)
        .await
        .unwrap();
    world
        .archive
        .write_final_record(first.clone(), None)
        .await
        .unwrap();
    let facts = world
        .archive
        .final_record_for(first.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((facts.state.as_str(), facts.redrives), ("failed", 0));
    assert!(world.has(&world.dead()).await, "a dead letter is marked");

    world
        .archive
        .write_final_record(world.job("Succeeded", "Completed", 6, 0), None)
        .await
        .unwrap();
    assert_eq!(
        world.record().await["state"],
        "failed",
        "one life has one end"
    );

    let result = Some(r#"{"labels": ["cat"]}"#.to_owned());
    world
        .archive
        .write_final_record(world.job("Succeeded", "Completed", 6, 1), result)
        .await
        .unwrap();
    let record = world.record().await;
    assert_eq!(
        (&record["state"], &record["redrives"], &record["tenant"]),
        (&json!("succeeded"), &json!(1), &json!("acme"))
    );
    assert_eq!(record["result"]["labels"][0], "cat");
    assert!(
        !world.has(&world.dead()).await,
        "the marker goes with the better end"
    );

    world.archive.write_final_record(first, None).await.unwrap();
    assert_eq!(
        world.record().await["state"],
        "succeeded",
        "a late writer changes nothing"
    );
}

/// Its status says nothing of its redrives yet.
#[tokio::test]
async fn a_job_that_was_made_again_and_cancelled_before_its_first_claim_ends_its_life_in_the_store()
{
    let world = World::new().await;
    let dead = world.job("DeadLettered", "Poison", 5, 0);
    world.archive.write_final_record(dead, None).await.unwrap();
    world.decide(1).await;
    let mut again = world.job("Cancelled", "Cancelled", 0, 0).as_ref().clone();
    let redrives = ("kinora.dev/redrives".to_owned(), "1".to_owned());
    again.metadata.annotations = Some([redrives].into());
    let again = Arc::new(again);
    let archive = &world.archive;
    archive
        .write_final_record(again.clone(), None)
        .await
        .unwrap();
    let record = world.record().await;
    assert_eq!(
        (&record["state"], &record["redrives"]),
        (&json!("cancelled"), &json!(1))
    );
    assert!(!world.has(&world.dead()).await, "nobody redrives it");
    archive.finish_cleanup(again).await.unwrap();
    assert!(!world.has(&keys::active(&world.id)).await);
}

#[tokio::test]
async fn a_record_of_a_newer_program_is_left_alone() {
    let world = World::new().await;
    let key = keys::record_for_upload(&world.id);
    world.put(&key, &json!({"v": 2, "anything": true})).await;
    let written = world
        .archive
        .write_final_record(world.job("Succeeded", "Completed", 1, 0), None)
        .await;
    assert!(
        matches!(written, Err(StoreWorkError::Unusable(_))),
        "{written:?}"
    );
    assert_eq!(world.record().await["v"], 2);
}

#[tokio::test]
async fn a_document_that_is_none_of_ours_by_its_size_is_left_alone() {
    let world = World::new().await;
    let job = world.job("DeadLettered", "Poison", 3, 0);
    let filler = "x".repeat(1 << 20);
    let key = keys::record_for_upload(&world.id);
    world.put(&key, &json!({"v": 1, "filler": filler})).await;
    for answer in [
        world.archive.final_record_for(job.clone()).await.map(drop),
        world.archive.write_final_record(job.clone(), None).await,
        world.archive.reactivate(job.clone(), 1).await,
    ] {
        assert!(
            matches!(answer, Err(StoreWorkError::Unusable(_))),
            "{answer:?}"
        );
    }
}

/// Whoever had it erased was told that nothing brings it back.
#[tokio::test]
async fn an_erased_video_is_not_brought_back() {
    let world = World::new().await;
    let job = world.job("DeadLettered", "Poison", 3, 0);
    world
        .archive
        .write_final_record(job.clone(), None)
        .await
        .unwrap();
    let key = keys::record_for_upload(&world.id);
    let mut tombstone = world.record().await;
    tombstone["redrives"] = json!(i64::from(u32::MAX));
    world.put(&key, &tombstone).await;
    let revived = world.archive.reactivate(job.clone(), 1).await;
    assert!(
        matches!(revived, Err(StoreWorkError::Unusable(_))),
        "{revived:?}"
    );
    assert!(!world.has(&keys::active(&world.id)).await);
}

#[tokio::test]
async fn a_life_that_was_refused_leaves_no_active_entry_and_no_other_is_taken_for_it() {
    let world = World::new().await;
    let job = world.job("DeadLettered", "Poison", 3, 0);
    let key = keys::active(&world.id);
    world
        .archive
        .write_final_record(job.clone(), None)
        .await
        .unwrap();
    for (redrives, stays) in [(2, true), (1, false), (1, false)] {
        world.archive.reactivate(job.clone(), 1).await.unwrap();
        let taken = world.archive.take_back(job.clone(), redrives).await;
        assert!(taken.is_ok(), "{taken:?}");
        assert_eq!(world.has(&key).await, stays);
    }
}
