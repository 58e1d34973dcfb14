//! Dead letters that cannot be brought back, not yet or never, and requests that wait for their turn.

use kinora_operator::ports::RedriveRequest;
use kinora_operator::redrive::run;
use kinora_storage::keys;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::redrive::{LONG_AGO, condition, dead_job, request, request_in, scene, status};
use crate::{mint, path, until};

const FULL: &str = "videojobs.kinora.dev \"vj-a-1\" is forbidden: exceeded quota: videos";

/// Or the audit would make it some day, though its author reads that it failed.
#[tokio::test]
async fn nothing_of_a_dead_letter_that_the_server_refuses_stays_behind() {
    let scene = scene().await;
    let filed = keys::active(&scene.ids["filed"]);
    scene
        .api
        .no_creates(Some((422, "spec.source: Invalid value")));
    request(&scene.api, "all", &json!({"reasons": ["Poison"]}));
    let task = tokio::spawn(run(scene.config.clone()));
    let ended = scene.finished("all").await;
    assert_eq!(
        (&ended["redriven"], &ended["failed"]),
        (&json!(2), &json!(1)),
        "{ended}"
    );
    assert!(!scene.site.has(&filed).await);
    task.abort();
}

#[tokio::test]
async fn a_namespace_that_is_full_is_waited_for() {
    let scene = scene().await;
    scene.api.no_creates(Some((403, FULL)));
    request(&scene.api, "all", &json!({"reasons": ["Poison"]}));
    let task = tokio::spawn(run(scene.config.clone()));
    let jobs_are_done = || scene.done.lock().unwrap().len() == 2;
    until("the others are brought back", jobs_are_done).await;
    let counted = || status(&scene.api, "all")["redriven"] == 2;
    until("it breaks off", counted).await;
    // Nothing of what was put off stays behind: its author may end the request now.
    let filed = keys::active(&scene.ids["filed"]);
    while scene.site.has(&filed).await {
        tokio::task::yield_now().await;
    }
    let tries = scene.api.refused_creates();
    until("it is tried again", || scene.api.refused_creates() > tries).await;
    assert_eq!(scene.api.refused_creates(), tries + 1, "after a rest");
    scene.api.no_creates(None);
    let ended = scene.finished("all").await;
    assert_eq!(
        (&ended["matched"], &ended["redriven"], &ended["failed"]),
        (&json!(3), &json!(3), &Value::Null),
        "{ended}"
    );
    task.abort();
}

/// An API server asks a quota before it looks whether the name is taken.
#[tokio::test]
async fn a_job_that_another_request_made_meanwhile_keeps_its_entry() {
    let scene = scene().await;
    scene.api.no_creates(Some((403, FULL)));
    scene.api.another_makes_them();
    request(&scene.api, "all", &json!({"reasons": ["Poison"]}));
    let task = tokio::spawn(run(scene.config.clone()));
    let ended = scene.finished("all").await;
    assert_eq!(
        (&ended["redriven"], &ended["skipped"]),
        (&json!(2), &json!(1)),
        "{ended}"
    );
    assert!(scene.site.has(&keys::active(&scene.ids["filed"])).await);
    task.abort();
}

/// It wrote the entry, and is about to make the job.
#[tokio::test]
async fn the_entry_of_another_request_is_put_back() {
    let scene = scene().await;
    let id = &scene.ids["filed"];
    scene.site.decide(id, "accepted", 1).await;
    scene.api.no_creates(Some((403, FULL)));
    request(&scene.api, "all", &json!({"reasons": ["Poison"]}));
    let task = tokio::spawn(run(scene.config.clone()));
    until("it is refused", || scene.api.refused_creates() > 0).await;
    let by = || async {
        let entry = scene.site.json(&keys::active(id)).await;
        entry["job"]["metadata"]["annotations"]["kinora.dev/redriven-by"].clone()
    };
    while by().await != Value::Null {
        tokio::task::yield_now().await;
    }
    task.abort();
}

#[tokio::test]
async fn the_requests_of_one_namespace_leave_room_for_another() {
    let mut scene = scene().await;
    let (requests, mut asked) = mpsc::channel::<RedriveRequest>(100);
    scene.config.requests = requests;
    for n in 0..20 {
        request(
            &scene.api,
            &format!("r{n}"),
            &json!({"reasons": ["Rejected"]}),
        );
    }
    let task = tokio::spawn(run(scene.config.clone()));
    let mut waiting = Vec::new();
    while waiting.len() < 4 {
        waiting.push(asked.recv().await.unwrap());
    }
    let theirs = mint();
    let mut job = dead_job(&theirs, "Rejected", LONG_AGO);
    job["metadata"]["namespace"] = json!("other");
    let at = path(&theirs).replace("/videos/", "/other/");
    scene.api.put(&at, job);
    request_in(
        &scene.api,
        "other",
        "theirs",
        &json!({"reasons": ["Rejected"]}),
    );
    let next = asked.recv().await.unwrap();
    assert_eq!(
        next.job_uid,
        format!("uid-{theirs}"),
        "not a fifth of the first"
    );
    // A fifth one that its author ends needs no place to be told so.
    let ended = json!({"reasons": ["Rejected"], "cancelRequested": true});
    request(&scene.api, "fifth", &ended);
    let ended = scene.finished("fifth").await;
    assert_eq!(condition(&ended, "Succeeded").unwrap(), "False/Cancelled");
    task.abort();
}
