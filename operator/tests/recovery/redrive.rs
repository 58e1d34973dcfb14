//! VideoJobRedrive over the in-memory API server and a real store. covers: I4

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kinora_operator::metrics::Upkeep;
use kinora_operator::ports::{Leadership, Redrive, RedriveRequest};
use kinora_operator::redrive::{RedriveConfig, run};
use kinora_storage::{Day, UploadId, keys};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api::Api;
use crate::{Site, job, mint, path, until};

pub(crate) const REDRIVES: &str = "/apis/kinora.dev/v1alpha1/namespaces/videos/videojobredrives";
pub(crate) const LONG_AGO: &str = "2026-01-01T00:00:00Z";

/// A dead letter that still is a VideoJob.
pub(crate) fn dead_job(id: &UploadId, reason: &str, finished: &str) -> Value {
    let mut dead = job(id);
    dead["metadata"]["uid"] = json!(format!("uid-{id}"));
    dead["status"] = json!({
        "state": "DeadLettered", "attempt": 3, "finishTime": finished, "poolName": "default",
        "conditions": [{"type": "Succeeded", "status": "False", "reason": reason, "message": "",
                        "lastTransitionTime": finished}],
    });
    dead
}

pub(crate) fn request(api: &Api, name: &str, spec: &Value) {
    request_in(api, "videos", name, spec);
}

pub(crate) fn request_in(api: &Api, namespace: &str, name: &str, spec: &Value) {
    let mut object = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJobRedrive",
        "metadata": {"name": name, "namespace": namespace, "uid": format!("r-{name}"), "generation": 1,
                     "creationTimestamp": "2026-06-01T00:00:00Z"},
        "spec": {"selector": {}, "perSecond": 1000},
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    let at = REDRIVES.replace("/videos/", &format!("/{namespace}/"));
    api.put(&format!("{at}/{name}"), object);
}

pub(crate) fn status(api: &Api, name: &str) -> Value {
    api.object(&format!("{REDRIVES}/{name}")).unwrap()["status"].clone()
}

pub(crate) fn condition(status: &Value, type_: &str) -> Option<String> {
    let all = status["conditions"].as_array()?;
    let found = all.iter().find(|c| c["type"] == type_)?;
    Some(format!(
        "{}/{}",
        found["status"].as_str()?,
        found["reason"].as_str()?
    ))
}

/// The core, as far as redrives see it: brings a job back once.
fn core(api: &Api) -> (mpsc::Sender<RedriveRequest>, Arc<Mutex<Vec<String>>>) {
    let (requests, mut asked) = mpsc::channel::<RedriveRequest>(10);
    let done: Arc<Mutex<Vec<String>>> = Arc::default();
    let (seen, api) = (done.clone(), api.clone());
    tokio::spawn(async move {
        while let Some(request) = asked.recv().await {
            let mut done = seen.lock().unwrap();
            let outcome = if done.contains(&request.job_uid) {
                Redrive::Skipped
            } else {
                Redrive::Done
            };
            let id = request.job_uid.trim_start_matches("uid-");
            let at = format!("{}/vj-{id}", crate::JOBS);
            if let Some(mut job) = api.object(&at) {
                job["status"] = json!({"state": "Queued", "redrives": 1, "redrivenBy": request.by});
                api.put(&at, job);
            }
            done.push(request.job_uid);
            let _ = request.reply.send(outcome);
        }
    });
    (requests, done)
}

pub(crate) struct Scene {
    pub(crate) site: Site,
    pub(crate) api: Api,
    pub(crate) done: Arc<Mutex<Vec<String>>>,
    pub(crate) config: RedriveConfig,
    pub(crate) ids: BTreeMap<&'static str, UploadId>,
}

/// Two poisons and a rejection as VideoJobs, one that died after the request, and a poison that lives in its record only.
pub(crate) async fn scene() -> Scene {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let ids: BTreeMap<&str, UploadId> = ["poison", "poison too", "rejected", "young", "filed"]
        .map(|name| (name, mint()))
        .into();
    let put = |name: &str, reason: &str, finished: &str| {
        let id = &ids[name];
        api.put(&path(id), dead_job(id, reason, finished));
    };
    put("poison", "Poison", LONG_AGO);
    put("poison too", "Poison", LONG_AGO);
    put("rejected", "Rejected", LONG_AGO);
    put("young", "Poison", "2026-07-01T00:00:00Z");
    let filed = &ids["filed"];
    site.record(filed, 0, true, LONG_AGO).await;
    site.put(&keys::dead(filed.day(), filed.as_str()), &json!({}))
        .await;
    // Its job is there and was taken as one.
    let both = &ids["poison"];
    site.record(both, 0, true, LONG_AGO).await;
    site.put(&keys::dead(both.day(), both.as_str()), &json!({}))
        .await;
    let (requests, done) = core(&api);
    let config = RedriveConfig {
        client,
        store: site.store.clone(),
        requests,
        leadership: site.leads.subscribe(),
        upkeep: Upkeep::default(),
    };
    Scene {
        site,
        api,
        done,
        config,
        ids,
    }
}

impl Scene {
    pub(crate) async fn finished(&self, name: &str) -> Value {
        let finished = || {
            condition(&status(&self.api, name), "Finished").is_some_and(|c| c.starts_with("True"))
        };
        until("finished", finished).await;
        status(&self.api, name)
    }
}

#[tokio::test]
async fn a_redrive_brings_back_what_was_dead_as_jobs_and_as_records_and_counts_it() {
    let scene = scene().await;
    // The pool that took them, though none of them named one.
    let wanted = json!({"reasons": ["Poison"], "poolName": "default"});
    request(&scene.api, "all", &wanted);
    let task = tokio::spawn(run(scene.config.clone()));
    let status = scene.finished("all").await;
    assert_eq!(condition(&status, "Succeeded").unwrap(), "True/Completed");
    assert_eq!(
        (&status["matched"], &status["redriven"]),
        (&json!(3), &json!(3)),
        "{status}"
    );
    let mut done = scene.done.lock().unwrap().clone();
    done.sort();
    let mut want = ["poison", "poison too"].map(|name| format!("uid-{}", scene.ids[name]));
    want.sort();
    assert_eq!(done, want);
    let filed = &scene.ids["filed"];
    let made = scene.api.object(&path(filed)).unwrap();
    let annotations = &made["metadata"]["annotations"];
    assert_eq!(annotations["kinora.dev/redrives"], "1");
    assert_eq!(annotations["kinora.dev/redriven-by"], "r-all");
    assert_eq!(made["status"]["attempt"], Value::Null, "a new life");
    let active = scene.site.json(&keys::active(filed)).await;
    assert_eq!(
        (&active["redrives"], &active["profile"]),
        (&json!(1), &json!("clips"))
    );
    task.abort();

    // Another leader finds it finished; another request finds nothing dead but what died later.
    let task = tokio::spawn(run(scene.config.clone()));
    request(&scene.api, "again", &json!({"reasons": ["Poison"]}));
    let again = scene.finished("again").await;
    assert_eq!(again["redriven"], Value::Null, "{again}");
    assert_eq!(scene.done.lock().unwrap().len(), 2);
    task.abort();
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let scene = scene().await;
    request(&scene.api, "dry", &json!({"dryRun": true}));
    let task = tokio::spawn(run(scene.config.clone()));
    let status = scene.finished("dry").await;
    assert_eq!(status["matched"], 4);
    assert_eq!(status["redriven"], Value::Null);
    assert!(scene.done.lock().unwrap().is_empty());
    assert!(scene.api.created().is_empty());
    assert!(!scene.site.has(&keys::active(&scene.ids["filed"])).await);
    task.abort();
}

#[tokio::test]
async fn a_redrive_can_be_paused_limited_and_ended() {
    let scene = scene().await;
    request(&scene.api, "held", &json!({"suspend": true}));
    let task = tokio::spawn(run(scene.config.clone()));
    let paused = || condition(&status(&scene.api, "held"), "Suspended").is_some();
    until("paused", paused).await;
    assert!(scene.done.lock().unwrap().is_empty());
    request(
        &scene.api,
        "held",
        &json!({"suspend": true, "cancelRequested": true}),
    );
    let ended = scene.finished("held").await;
    assert_eq!(condition(&ended, "Succeeded").unwrap(), "False/Cancelled");
    request(&scene.api, "one", &json!({"maxJobs": 1}));
    assert_eq!(scene.finished("one").await["redriven"], 1);
    assert_eq!(scene.done.lock().unwrap().len(), 1);
    task.abort();
}

#[tokio::test]
async fn a_standby_touches_nothing() {
    let scene = scene().await;
    scene.site.leads.send_replace(Leadership::Standby {
        leader_address: None,
    });
    request(&scene.api, "all", &json!({}));
    let task = tokio::spawn(run(scene.config.clone()));
    // Time enough for a leader, who then does it.
    tokio::task::yield_now().await;
    assert_eq!(status(&scene.api, "all"), Value::Null);
    scene.site.leads.send_replace(Leadership::Leader);
    assert_eq!(scene.finished("all").await["redriven"], 4);
    task.abort();
}

fn clip(name: &str, profile: &str) -> Value {
    json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
        "metadata": {"name": name, "namespace": "videos", "labels": {"kind": "clip"}},
        "spec": {"source": {"key": "imports/videos/clip"}, "profile": profile, "ttlSecondsAfterFinished": 0},
    })
}

/// A dead letter that somebody declared, and that lives in its record only; gives its marker.
async fn declared(site: &Site, uid: &str, job: &Value) -> String {
    let day: Day = "2026-01-01".parse().unwrap();
    let record = json!({
        "v": 1, "id": uid, "tenant": "videos", "state": "failed", "deadLettered": true, "reason": "Poison",
        "key": "imports/videos/clip", "redrives": 0, "times": {"finished": LONG_AGO}, "videoJob": job,
    });
    site.put(&keys::record_for_declared(uid, day), &record)
        .await;
    let marker = keys::dead(day, uid);
    site.put(&marker, &json!({})).await;
    marker
}

#[tokio::test]
async fn a_declared_dead_letter_is_used_up_by_the_request_that_brings_it_back() {
    let scene = scene().await;
    let marker = declared(&scene.site, "uid-clip", &clip("clip", "fast")).await;
    let only = json!({"selector": {"matchLabels": {"kind": "clip"}}});
    let mut dry = only.clone();
    dry["dryRun"] = json!(true);
    let task = tokio::spawn(run(scene.config.clone()));
    request(&scene.api, "dry", &dry);
    scene.finished("dry").await;
    assert!(scene.site.has(&marker).await);
    request(&scene.api, "first", &only);
    assert_eq!(scene.finished("first").await["redriven"], 1);
    assert!(!scene.site.has(&marker).await);
    // Its next life, under another uid, succeeds and goes.
    scene.api.remove(&format!("{}/clip", crate::JOBS));
    request(&scene.api, "second", &only);
    assert_eq!(
        scene.finished("second").await["matched"],
        Value::Null,
        "nothing is dead"
    );
    assert_eq!(scene.api.created().len(), 1);
    task.abort();
}

/// The job was made, and then the answer was lost, or the leader.
#[tokio::test]
async fn a_marker_whose_job_this_request_made_goes_and_any_other_stays() {
    let scene = scene().await;
    let table = [
        ("made-by-this-request", "r-all", "fast", "1", false),
        ("made-by-another", "r-other", "fast", "1", true),
        ("of-another-dead-letter", "r-all", "slow", "1", true),
        ("of-another-life", "r-all", "fast", "2", true),
    ];
    let mut markers = Vec::new();
    for (name, by, profile, redrives, _) in table {
        let uid = format!("uid-{name}");
        markers.push(declared(&scene.site, &uid, &clip(name, "fast")).await);
        let mut found = clip(name, profile);
        found["metadata"]["annotations"] =
            json!({"kinora.dev/redriven-by": by, "kinora.dev/redrives": redrives});
        scene.api.put(&format!("{}/{name}", crate::JOBS), found);
    }
    request(&scene.api, "all", &json!({"reasons": ["Poison"]}));
    let task = tokio::spawn(run(scene.config.clone()));
    assert_eq!(scene.finished("all").await["redriven"], 3, "the uploads");
    for ((name, .., stays), marker) in table.iter().zip(&markers) {
        assert_eq!(scene.site.has(marker).await, *stays, "{name}");
    }
    task.abort();
}

/// A version of another release, or damage: it is counted, and those behind it are not kept waiting.
#[tokio::test]
async fn a_dead_letter_whose_entry_cannot_be_read_keeps_nobody_from_the_others() {
    let scene = scene().await;
    let newer = mint();
    scene.site.record(&newer, 0, true, LONG_AGO).await;
    let marker = keys::dead(newer.day(), newer.as_str());
    scene.site.put(&marker, &json!({})).await;
    scene
        .site
        .put(&keys::active(&newer), &json!({"v": 2}))
        .await;
    request(&scene.api, "all", &json!({"reasons": ["Poison"]}));
    let task = tokio::spawn(run(scene.config.clone()));
    let ended = scene.finished("all").await;
    assert_eq!(
        (&ended["redriven"], &ended["failed"]),
        (&json!(3), &json!(1)),
        "{ended}"
    );
    let active = scene.site.json(&keys::active(&newer)).await;
    assert_eq!(active, json!({"v": 2}), "not ours to touch");
    task.abort();
}

/// The core answers when the job's record is stored, and the store may be away for long.
#[tokio::test]
async fn a_request_can_be_ended_while_one_of_its_jobs_waits_for_the_store() {
    let mut scene = scene().await;
    let (requests, mut asked) = mpsc::channel::<RedriveRequest>(10);
    scene.config.requests = requests;
    request(&scene.api, "all", &json!({"reasons": ["Rejected"]}));
    let task = tokio::spawn(run(scene.config.clone()));
    let waits = asked.recv().await.unwrap();
    request(
        &scene.api,
        "all",
        &json!({"reasons": ["Rejected"], "cancelRequested": true}),
    );
    let ended = scene.finished("all").await;
    assert_eq!(condition(&ended, "Succeeded").unwrap(), "False/Cancelled");
    drop(waits);
    task.abort();
}
