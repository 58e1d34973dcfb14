//! More deletions at once than are remembered. covers: F33, I1

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kinora_engine::Mono;
use kinora_engine::deletions::MAX_WAITING;
use kinora_operator::audit::judge::{Judge, Waiting};
use kinora_operator::metrics::Metrics;
use kinora_operator::ports::ForeignDeletion;
use tokio::sync::{Notify, mpsc};

use crate::api::Api;
use crate::audit::{HOUR, sweep};
use crate::{PATIENCE, Site, mint, path, until};

#[tokio::test]
async fn a_deletion_that_is_one_too_many_to_remember_is_a_loss_that_the_audit_mends() {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let metrics = Metrics::default();
    let waiting = Waiting::default();
    let losses = Arc::new(Notify::new());
    let passed = Arc::new(AtomicU64::new(0));
    let clock = passed.clone();
    let judge = Judge {
        client: client.clone(),
        store: site.store.clone(),
        waiting: waiting.clone(),
        clock: Arc::new(move || Mono(clock.load(Ordering::Relaxed))),
        upkeep: metrics.upkeep(),
        losses: losses.clone(),
    };
    let (deletions, judged) = mpsc::channel(1);
    let judging = tokio::spawn(judge.run(judged, site.leads.subscribe()));
    let ids: Vec<_> = (0..=MAX_WAITING).map(|_| mint()).collect();
    for id in &ids {
        let deletion = ForeignDeletion {
            namespace: "videos".into(),
            name: format!("vj-{id}"),
            uid: format!("uid-{id}"),
            created_ms: 0,
            attempts: 1,
            redrives: 0,
        };
        deletions.send(deletion).await.unwrap();
    }
    until("all seen", || deletions.capacity() == 1).await;
    let waits = |n: usize| waiting.has(&format!("vj-{}", ids[n]));
    assert!(waits(MAX_WAITING - 1) && !waits(MAX_WAITING));
    let told = tokio::time::timeout(PATIENCE, losses.notified());
    told.await.unwrap();

    passed.store(61_000, Ordering::Relaxed);
    until("judged", || !waits(0)).await;
    let last = &ids[MAX_WAITING];
    site.decide(last, "accepted", 0).await;
    let mut audit = sweep(&site, client, 0, HOUR);
    audit.waiting = waiting.clone();
    assert_eq!(audit.pass().await.unwrap().created, 1);
    assert!(api.object(&path(last)).is_some());
    let all = format!(
        "kinora_deletions_judged_total{{verdict=\"loss\"}} {}\n",
        ids.len()
    );
    assert!(metrics.encode().unwrap().contains(&all));
    drop(deletions);
    judging.await.unwrap();
}
