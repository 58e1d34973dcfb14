//! What goes once an end is recorded, and what stays.

use std::sync::Arc;

use kinora_operator::core::seams::{StoreWork, StoreWorkError};
use kinora_storage::keys;
use serde_json::json;

use crate::World;

#[tokio::test]
async fn after_the_record_the_decision_and_the_losers_outputs_go() {
    let world = World::new().await;
    world.decide(0).await;
    for attempt in [1, 2] {
        world
            .put(&world.output(attempt, "video"), &json!(attempt))
            .await;
    }
    let job = world.job("Succeeded", "Completed", 2, 0);
    let early = world.archive.finish_cleanup(job.clone()).await;
    assert!(
        matches!(early, Err(StoreWorkError::Unavailable(_))),
        "{early:?}"
    );
    assert!(world.has(&world.output(1, "video")).await, "no record yet");
    let record = world.archive.write_final_record(job.clone(), None);
    record.await.unwrap();
    for _ in 0..2 {
        world.archive.finish_cleanup(job.clone()).await.unwrap();
        assert!(!world.has(&keys::active(&world.id)).await);
        assert!(
            !world.has(&world.output(1, "video")).await,
            "the loser's output"
        );
        assert!(
            world.has(&world.output(2, "video")).await,
            "the accepted output"
        );
    }
    world.decide(1).await;
    world.archive.finish_cleanup(job).await.unwrap();
    assert!(
        world.has(&keys::active(&world.id)).await,
        "the entry of a later redrive stays"
    );
}

/// The job came back from a backup, or a leader that was away for long tells of it.
#[tokio::test]
async fn what_a_record_names_outlives_the_end_of_an_earlier_life() {
    let world = World::new().await;
    for attempt in [1, 5, 6] {
        world
            .put(&world.output(attempt, "video"), &json!(attempt))
            .await;
    }
    let named = |attempt: i64, redrives: i32| {
        let job = world.job("Succeeded", "Completed", 6, redrives);
        let mut job = job.as_ref().clone();
        let uri = format!("s3://kinora/{}", world.output(attempt, "video"));
        let output = kinora_crds::Output {
            name: "video".to_owned(),
            uri,
            ..kinora_crds::Output::default()
        };
        job.status.get_or_insert_default().outputs = vec![output];
        Arc::new(job)
    };
    let archive = &world.archive;
    let record = archive.write_final_record(named(6, 1), None);
    record.await.unwrap();
    let earlier = world.job("DeadLettered", "Poison", 5, 0);
    archive.finish_cleanup(earlier).await.unwrap();
    for attempt in [1, 5, 6] {
        assert!(world.has(&world.output(attempt, "video")).await);
    }

    // The record of the same life tells of another attempt than the job does.
    let again = World::new().await;
    for attempt in [1, 2, 3] {
        again
            .put(&again.output(attempt, "video"), &json!(attempt))
            .await;
    }
    let mut record = world.record().await;
    record["id"] = json!(again.id);
    record["redrives"] = json!(0);
    record["outputs"][0]["uri"] = json!(again.output(1, "video"));
    again
        .put(&keys::record_for_upload(&again.id), &record)
        .await;
    let second = again.job("Succeeded", "Completed", 2, 0);
    again.archive.finish_cleanup(second).await.unwrap();
    assert!(again.has(&again.output(1, "video")).await, "the record's");
    assert!(again.has(&again.output(2, "video")).await, "the job's");
    assert!(!again.has(&again.output(3, "video")).await);
}
