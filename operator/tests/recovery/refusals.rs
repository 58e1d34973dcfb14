//! Entries whose job cannot be made again, between others. covers: I1

use kinora_operator::audit::AuditError;
use kinora_storage::{UploadId, keys};
use serde_json::{Value, json};

use crate::api::{Api, Fault};
use crate::audit::{HOUR, sweep};
use crate::{Site, job, mint};

/// The decision on an upload, with this job in it.
async fn decide(site: &Site, id: &UploadId, job: &Value) {
    site.decide(id, "accepted", 0).await;
    let mut active = site.json(&keys::active(id)).await;
    active["job"] = job.clone();
    site.put(&keys::active(id), &active).await;
}

fn made_in(namespace: &str, id: &UploadId) -> Value {
    let mut job = job(id);
    job["metadata"]["namespace"] = json!(namespace);
    job
}

#[tokio::test]
async fn a_job_that_is_refused_is_passed_over_and_a_cluster_that_takes_none_ends_the_pass() {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let table = [
        ("a newer schema", "videos", 422, true),
        ("somebody's webhook", "videos", 400, true),
        ("larger than allowed", "videos", 413, true),
        ("an old namespace that is gone", "old", 404, true),
        ("an old namespace that takes nothing", "old", 403, true),
        ("no namespace yet", "videos", 404, false),
        ("no rights, or no quota", "videos", 403, false),
        ("overloaded", "old", 429, false),
        ("etcd is full", "old", 500, false),
        ("away", "videos", 503, false),
    ];
    for (name, namespace, code, goes_on) in table {
        let ids = [mint(), mint()];
        for id in &ids {
            decide(&site, id, &made_in(namespace, id)).await;
        }
        let before = api.created().len();
        api.fault(Fault::Refuse(code));
        let report = sweep(&site, client.clone(), 0, HOUR).pass().await;
        let got = report.map(|report| (report.created, report.unusable)).ok();
        assert_eq!(got, goes_on.then_some((1, 1)), "{name}");
        let made = api.created().len() - before;
        assert_eq!(made, usize::from(goes_on), "{name}");
        for id in &ids {
            assert!(site.has(&keys::active(id)).await, "{name}");
            site.store.delete(&keys::active(id)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_entry_that_holds_no_job_is_passed_over() -> Result<(), AuditError> {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let ids: Vec<UploadId> = (0..8).map(|_| mint()).collect();
    for id in &ids[1..] {
        decide(&site, id, &job(id)).await;
    }
    decide(&site, &ids[0], &json!({"kind": "VideoJob"})).await;
    let report = sweep(&site, client, 0, HOUR).pass().await?;
    assert_eq!((report.created, report.unusable), (7, 1));
    assert_eq!(api.created().len(), 7);
    assert!(site.has(&keys::active(&ids[0])).await);
    Ok(())
}
