//! A control plane that was wiped, restored, or whose objects were deleted. covers: F25, F33, I1

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kinora_engine::Mono;
use kinora_operator::audit::judge::{Judge, Waiting, clock};
use kinora_operator::audit::sweep::{Admits, Report, Sweep};
use kinora_operator::core::Admission;
use kinora_operator::metrics::Upkeep;
use kinora_operator::ports::{ForeignDeletion, Leadership};
use kinora_storage::{UploadId, keys};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::api::Api;
use crate::{PATIENCE, Site, job, mint, now, path, uid_of};

pub(crate) fn sweep(site: &Site, client: kube::Client, live: u64, ahead: Duration) -> Sweep {
    let (_, admission) = watch::channel(Some(Admission { live }));
    Sweep {
        client,
        store: site.store.clone(),
        jobs_namespace: "videos".into(),
        leadership: site.leads.subscribe(),
        admits: Admits::new(admission, 1000),
        waiting: Waiting::default(),
        redrives: site.core.clone(),
        ahead,
        upkeep: Upkeep::default(),
    }
}

fn judge(site: &Site, client: kube::Client) -> Judge {
    Judge {
        client,
        store: site.store.clone(),
        waiting: Waiting::default(),
        clock: clock(),
        upkeep: Upkeep::default(),
        losses: Arc::default(),
    }
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_wiped_control_plane_gets_every_open_video_back_once_and_no_other() {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let lost: Vec<UploadId> = (0..20).map(|_| mint()).collect();
    for id in &lost {
        site.decide(id, "accepted", 0).await;
    }
    let (ended, redriven, waiting, rejected, alive) = (mint(), mint(), mint(), mint(), mint());
    site.decide(&ended, "accepted", 0).await;
    site.record(&ended, 0, false, &now()).await;
    site.decide(&redriven, "accepted", 2).await;
    site.record(&redriven, 1, true, &now()).await;
    site.decide(&waiting, "accepted", 0).await;
    site.put(&keys::pending(&waiting), &json!({})).await;
    site.decide(&rejected, "rejected", 0).await;
    site.decide(&alive, "accepted", 0).await;
    api.put(&path(&alive), job(&alive));
    site.put("active/zz/strange", &json!({})).await;

    let young = sweep(&site, client.clone(), 0, Duration::ZERO)
        .pass()
        .await
        .unwrap();
    assert_eq!(young.created, 0, "somebody may be at work on them");

    let audit = sweep(&site, client, 0, HOUR);
    let want = Report {
        entries: 25,
        created: 21,
        removed: 1,
        redriven: 0,
        unusable: 0,
    };
    assert_eq!(audit.pass().await.unwrap(), want);
    let made: BTreeSet<String> = api
        .created()
        .iter()
        .map(|job| job["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let wanted = lost.iter().chain([&redriven]).map(|id| format!("vj-{id}"));
    assert_eq!(made, wanted.collect());
    let again = api.object(&path(&redriven)).unwrap();
    assert_eq!(again["metadata"]["annotations"]["kinora.dev/redrives"], "2");
    assert!(
        again["metadata"]["annotations"]["kinora.dev/outbox-time"].is_string(),
        "so that its record is read before its first claim"
    );
    assert!(!site.has(&keys::active(&ended)).await);
    assert!(site.has(&keys::active(&rejected)).await);
    // A second pass finds everything in order.
    assert_eq!(audit.pass().await.unwrap().created, 0);
}

/// A leader wrote the entry of the next life and was gone before the control plane knew; so was the request.
#[tokio::test]
async fn a_redrive_that_was_begun_and_not_finished_is_finished_by_the_audit() {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let (begun, archived, cleaning, alive) = (mint(), mint(), mint(), mint());
    let stored = |id: &UploadId, state: &str, redrives: u32| {
        let mut job = job(id);
        job["metadata"]["uid"] = json!(uid_of(id));
        job["status"] = json!({"state": state, "redrives": redrives});
        api.put(&path(id), job);
    };
    for (id, state, job_redrives, entry) in [
        (&begun, "DeadLettered", 1, Some(2)),
        (&archived, "DeadLettered", 0, None),
        (&cleaning, "DeadLettered", 1, Some(1)),
        (&alive, "Running", 1, Some(2)),
    ] {
        stored(id, state, job_redrives);
        if let Some(redrives) = entry {
            site.decide(id, "accepted", redrives).await;
        }
    }
    let young = sweep(&site, client.clone(), 0, Duration::ZERO);
    assert_eq!(young.pass().await.unwrap().redriven, 0);
    assert!(site.asked().is_empty(), "somebody may be at work on it");

    let report = sweep(&site, client, 0, HOUR).pass().await.unwrap();
    assert_eq!((report.redriven, report.created, report.removed), (1, 0, 0));
    assert_eq!(site.asked(), [uid_of(&begun)]);
}

#[tokio::test]
async fn the_audit_makes_nothing_while_the_queue_is_full_or_another_replica_leads() {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let id = mint();
    site.decide(&id, "accepted", 0).await;
    let full = sweep(&site, client.clone(), 1000, HOUR);
    let pass = tokio::spawn(async move { full.pass().await });
    site.leads.send_replace(Leadership::Standby {
        leader_address: None,
    });
    assert!(pass.await.unwrap().is_err());
    assert!(api.created().is_empty());
    assert!(sweep(&site, client, 0, HOUR).pass().await.is_err());
    assert!(api.created().is_empty());
}

#[tokio::test]
async fn a_deleted_job_is_a_cancel_only_in_a_namespace_that_stays() {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let judge = judge(&site, client);
    let deletion = |id: &UploadId| ForeignDeletion {
        namespace: "videos".into(),
        name: format!("vj-{id}"),
        uid: format!("uid-{id}"),
        created_ms: 0,
        attempts: 2,
        redrives: 0,
    };
    let (by_hand, redriven, back, ended) = (mint(), mint(), mint(), mint());
    for (id, redrives) in [(&by_hand, 0), (&redriven, 1), (&back, 0), (&ended, 0)] {
        site.decide(id, "accepted", redrives).await;
    }
    api.put(&path(&back), job(&back));
    site.record(&ended, 0, false, &now()).await;
    assert!(judge.cancelled(&deletion(&by_hand)).await.unwrap());
    let record = site.json(&keys::record_for_upload(&by_hand)).await;
    assert_eq!(record["state"], "cancelled");
    assert_eq!(record["attempts"], 2);
    assert_eq!(record["job"]["uid"], format!("uid-{by_hand}"));
    assert_eq!(record["indexKey"], format!("users/o/{by_hand}"));
    assert!(!site.has(&keys::active(&by_hand)).await);
    let others = [
        ("its redrive was asked for meanwhile", &redriven),
        ("it was made again", &back),
        ("it had ended", &ended),
    ];
    for (name, id) in others {
        assert!(!judge.cancelled(&deletion(id)).await.unwrap(), "{name}");
    }
    assert_eq!(
        site.json(&keys::record_for_upload(&ended)).await["state"],
        "succeeded"
    );

    let taken = mint();
    site.decide(&taken, "accepted", 0).await;
    let namespace = "/api/v1/namespaces/videos";
    api.put(
        namespace,
        json!({"metadata": {"name": "videos", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    assert!(!judge.cancelled(&deletion(&taken)).await.unwrap());
    api.put(namespace, json!({"metadata": {"name": "videos"}}));
    api.remove("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/videojobs.kinora.dev");
    assert!(!judge.cancelled(&deletion(&taken)).await.unwrap());
    // Applied again before anybody asked: it is not the one that the job went with.
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/videojobs.kinora.dev";
    let names = json!({"kind": "VideoJob", "plural": "videojobs"});
    api.put(
        definition,
        json!({"metadata": {"name": "videojobs.kinora.dev", "creationTimestamp": "2026-01-01T00:00:00Z"},
               "spec": {"group": "kinora.dev", "names": names, "scope": "Namespaced", "versions": []}}),
    );
    assert!(!judge.cancelled(&deletion(&taken)).await.unwrap());
    let later = ForeignDeletion {
        created_ms: i64::MAX,
        ..deletion(&by_hand)
    };
    assert!(
        !judge.cancelled(&later).await.unwrap(),
        "it was recorded already"
    );
    assert!(site.has(&keys::active(&taken)).await);
    assert!(!site.has(&keys::record_for_upload(&taken)).await);
}

/// Each request would read it, as long as the record is kept.
#[tokio::test]
async fn a_redriven_dead_letter_that_is_deleted_leaves_no_marker_behind() {
    let site = Site::new().await;
    let (_api, client) = Api::start().await;
    let judge = judge(&site, client);
    let id = mint();
    let marker = keys::dead(id.day(), id.as_str());
    site.record(&id, 0, true, &now()).await;
    site.put(&marker, &json!({})).await;
    site.decide(&id, "accepted", 1).await;
    let deletion = ForeignDeletion {
        namespace: "videos".into(),
        name: format!("vj-{id}"),
        uid: uid_of(&id),
        created_ms: 0,
        attempts: 1,
        redrives: 1,
    };
    assert!(judge.cancelled(&deletion).await.unwrap());
    let record = site.json(&keys::record_for_upload(&id)).await;
    assert_eq!(record["state"], "cancelled");
    assert!(!site.has(&marker).await);
    assert!(!site.has(&keys::active(&id)).await);
}

#[tokio::test]
async fn a_deletion_is_recorded_after_its_minute_and_until_then_nobody_makes_the_job_again() {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let id = mint();
    site.decide(&id, "accepted", 0).await;
    let waiting = Waiting::default();
    let passed = Arc::new(AtomicU64::new(0));
    let clock = passed.clone();
    let judge = Judge {
        client: client.clone(),
        store: site.store.clone(),
        waiting: waiting.clone(),
        clock: Arc::new(move || Mono(clock.load(Ordering::Relaxed))),
        upkeep: Upkeep::default(),
        losses: Arc::default(),
    };
    let mut audit = sweep(&site, client, 0, HOUR);
    audit.waiting = waiting.clone();
    let (deletions, judged) = mpsc::channel(1);
    let judging = tokio::spawn(judge.run(judged, site.leads.subscribe()));
    let deletion = ForeignDeletion {
        namespace: "videos".into(),
        name: format!("vj-{id}"),
        uid: "uid-1".into(),
        created_ms: 0,
        attempts: 1,
        redrives: 0,
    };
    deletions.send(deletion).await.unwrap();
    crate::until("waiting for its verdict", || {
        waiting.has(&format!("vj-{id}"))
    })
    .await;
    assert_eq!(audit.pass().await.unwrap().created, 0);
    assert!(!site.has(&keys::record_for_upload(&id)).await, "too early");

    passed.store(60_000, Ordering::Relaxed);
    let recorded = tokio::time::timeout(PATIENCE, async {
        while site.has(&keys::active(&id)).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    recorded.await.unwrap();
    let record = site.json(&keys::record_for_upload(&id)).await;
    assert_eq!(record["state"], "cancelled");
    assert_eq!(audit.pass().await.unwrap().created, 0);
    assert!(api.created().is_empty());
    drop(deletions);
    judging.await.unwrap();
}
