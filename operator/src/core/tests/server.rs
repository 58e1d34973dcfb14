//! API servers that lack something, or say nothing.

use std::sync::atomic::Ordering;

use futures::FutureExt;
use kinora_protocol::dispatch as wire;
use kube::api::ApiResource;
use serde_json::json;
use wire::to_worker::Message;

use super::api::Api;
use super::contract;
use super::stage::{self, Stage};
use super::succeeded;

#[tokio::test]
async fn without_streaming_lists_jobs_are_listed_and_watched() {
    let (api, client) = Api::start().await;
    api.list_in_pages();
    let listed = stage::upload_job("vj-a-1", stage::OTHER_POD, &json!({"state": "Queued"}));
    api.put(listed);
    let stage = Stage::leading_on((api, client), None, |_| {}).await;
    let mut worker = stage.worker().await;
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    assert_eq!(lease.name, "videos/vj-a-1");
    worker.say(succeeded(lease.attempt)).await;
    assert!(matches!(worker.next().await, Message::Ack(_)));
    stage.create("vj-a-2");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    assert_eq!(lease.name, "videos/vj-a-2");
}

/// covers: F18
#[tokio::test]
async fn while_no_read_is_answered_only_so_many_are_asked_however_many_wait() {
    let stage = Stage::leading().await;
    stage.api.fall_silent();
    for n in 0..300 {
        let uid = format!("5b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9{n:03}");
        let mut held = stage::upload_job(&format!("vj-b-{n}"), &uid, &json!({"state": "Queued"}));
        held["spec"]["suspend"] = json!(true);
        stage.api.put(held);
    }
    let retries = &stage.counters.read_retries;
    let wanted = &stage.counters.reads;
    let first_is_over = |_: &Stage| retries.load(Ordering::Relaxed) > 0;
    stage.until("answered", first_is_over).await;
    assert_eq!(wanted.load(Ordering::Relaxed), 300);
    assert!(
        (64..150).contains(&stage.api.reads()),
        "{}",
        stage.api.reads()
    );
}

/// Whether it was a cancel nobody can say: the audit makes it again. covers: F25
#[tokio::test]
async fn an_upload_that_a_new_listing_lacks_is_told_as_lost() {
    let stage = Stage::leading().await;
    let _worker = stage.worker().await;
    stage.create("vj-a-1");
    stage.until("claimed", |s| s.api.patches().len() == 1).await;
    assert!(stage.losses.notified().now_or_never().is_none());
    stage.api.remove_unseen("vj-a-1");
    stage.api.expire();
    let told = tokio::time::timeout(stage::PATIENCE, stage.losses.notified());
    told.await.unwrap();
}

#[tokio::test]
async fn the_fake_answers_as_the_api_server_does() {
    let (api, client) = Api::start().await;
    let status = json!({"state": "Queued"});
    api.put(stage::upload_job("vj-a-1", stage::OTHER_POD, &status));
    let resource = ApiResource::erase::<kinora_crds::VideoJob>(&());
    let jobs = kube::Api::namespaced_with(client, "videos", &resource);
    contract::holds(&jobs, "vj-a-1").await.unwrap();
}
