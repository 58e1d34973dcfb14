//! One VideoJob that nobody can do anything about, beside others.

use std::sync::atomic::Ordering;

use kinora_protocol::dispatch as wire;
use serde_json::json;
use wire::to_worker::Message;

use super::stage::{Stage, Worker};

const BAD: &str = "3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a98";
const ALSO_BAD: &str = "3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a97";
const SOUND: &str = "3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a99";

/// A sound job comes after the bad one, and its lease first.
async fn the_sound_one_is_leased(stage: &Stage, worker: &mut Worker) {
    let status = json!({"observedGeneration": -1, "state": "Queued"});
    stage.put_as("vj-a-2", SOUND, &status);
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    assert_eq!(lease.name, "videos/vj-a-2");
}

/// covers: F27
#[tokio::test]
async fn a_job_whose_writes_a_policy_refuses_is_counted_and_holds_nobody_up() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.api.refuse("vj-a-1");
    stage.create("vj-a-1");
    let refused = |s: &Stage| s.counters.refused_writes.load(Ordering::Relaxed);
    stage.until("refused", |s| refused(s) == 1).await;
    the_sound_one_is_leased(&stage, &mut worker).await;
    assert_eq!(refused(&stage), 1, "it is not tried again at once");
    assert_eq!(stage.api.patches().len(), 2);
}

/// covers: F31
#[tokio::test]
async fn an_object_that_is_no_videojob_is_set_aside_until_it_is_mended_or_gone() {
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    let unreadable = |name: &str, uid: &str| {
        stage.api.put(json!({
            "apiVersion": "kinora.dev/v1alpha1",
            "kind": "VideoJob",
            "metadata": {"name": name, "namespace": "videos", "uid": uid},
            "spec": {"source": "not an object"},
        }));
    };
    let aside = async |want: i64| {
        let now = |s: &Stage| s.counters.unreadable_jobs.load(Ordering::Relaxed);
        stage
            .until(&format!("{want} set aside"), |s| now(s) == want)
            .await;
    };
    unreadable("vj-a-1", BAD);
    unreadable("vj-a-3", ALSO_BAD);
    the_sound_one_is_leased(&stage, &mut worker).await;
    aside(2).await;
    unreadable("vj-a-1", BAD);
    stage.api.remove("vj-a-3");
    aside(1).await;
    let mended = json!({"observedGeneration": -1, "state": "Succeeded"});
    stage.put_as("vj-a-1", BAD, &mended);
    aside(0).await;
}

#[tokio::test]
async fn a_job_without_a_pool_is_counted_until_there_is_one() {
    let stage = Stage::leading().await;
    let without = |s: &Stage| s.counters.jobs_without_pool.load(Ordering::Relaxed);
    stage.delete_pool().await;
    stage.create("vj-a-1");
    stage.until("counted", |s| without(s) == 1).await;
    stage.change_pool(|_| {}).await;
    stage.until("the pool is there", |s| without(s) == 0).await;
}
