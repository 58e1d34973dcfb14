//! A VideoJobRedrive that broke off: another run goes on, and counts right.

use kinora_operator::ports::{Redrive, RedriveRequest};
use kinora_operator::redrive::run;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api::Api;
use crate::redrive::{LONG_AGO, REDRIVES, condition, dead_job, request, scene, status};
use crate::{mint, path, until};

/// As a run left it that broke off.
fn begun(api: &Api, name: &str, counts: &Value) {
    let at = format!("{REDRIVES}/{name}");
    let mut object = api.object(&at).unwrap();
    object["status"] = counts.clone();
    object["status"]["observedGeneration"] = json!(1);
    object["status"]["conditions"] = json!([
        {"type": "Succeeded", "status": "Unknown", "reason": "Processing", "message": "", "lastTransitionTime": LONG_AGO},
        {"type": "Finished", "status": "False", "reason": "Processing", "message": "", "lastTransitionTime": LONG_AGO},
    ]);
    api.put(&at, object);
}

#[tokio::test]
async fn a_dry_run_that_broke_off_counts_everything_once() {
    let scene = scene().await;
    request(&scene.api, "dry", &json!({"dryRun": true}));
    begun(&scene.api, "dry", &json!({"matched": 3}));
    let task = tokio::spawn(run(scene.config.clone()));
    assert_eq!(scene.finished("dry").await["matched"], 4);
    task.abort();
}

#[tokio::test]
async fn a_limited_request_that_broke_off_brings_back_no_more_than_it_may() {
    let scene = scene().await;
    request(
        &scene.api,
        "three",
        &json!({"maxJobs": 3, "reasons": ["Poison"]}),
    );
    // Two that no status counts yet.
    for name in ["poison", "poison too"] {
        let at = path(&scene.ids[name]);
        let mut job = scene.api.object(&at).unwrap();
        job["status"] = json!({"state": "Queued", "redrives": 1, "redrivenBy": "r-three"});
        scene.api.put(&at, job);
    }
    let extra = mint();
    scene
        .api
        .put(&path(&extra), dead_job(&extra, "Poison", LONG_AGO));
    begun(&scene.api, "three", &json!({}));
    let task = tokio::spawn(run(scene.config.clone()));
    let ended = scene.finished("three").await;
    assert_eq!(
        (&ended["redriven"], &ended["matched"]),
        (&json!(3), &json!(3)),
        "{ended}"
    );
    assert_eq!(*scene.done.lock().unwrap(), [format!("uid-{extra}")]);
    assert!(scene.api.created().is_empty());
    task.abort();
}

/// It was deleted and applied again, and the watch is behind.
#[tokio::test]
async fn what_became_of_a_request_is_not_told_of_the_next_one_of_its_name() {
    let mut scene = scene().await;
    let (requests, mut asked) = mpsc::channel::<RedriveRequest>(1);
    scene.config.requests = requests;
    request(&scene.api, "all", &json!({"reasons": ["Poison"]}));
    let at = format!("{REDRIVES}/all");
    let mut next = scene.api.object(&at).unwrap();
    next["metadata"]["uid"] = json!("r-next");
    let task = tokio::spawn(run(scene.config.clone()));
    let first = asked.recv().await.unwrap();
    scene.api.put_unseen(&at, next.clone());
    let answering = tokio::spawn(async move {
        let _ = first.reply.send(Redrive::Done);
        while let Some(request) = asked.recv().await {
            let _ = request.reply.send(Redrive::Done);
        }
    });
    until("refused", || {
        assert_eq!(status(&scene.api, "all"), Value::Null);
        scene.api.conflicts() > 0
    })
    .await;
    scene.api.put(&at, next);
    let ended = scene.finished("all").await;
    assert_eq!(condition(&ended, "Succeeded").unwrap(), "True/Completed");
    assert!(ended["matched"].as_u64() >= Some(2), "{ended}");
    task.abort();
    answering.abort();
}
