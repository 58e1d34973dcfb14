//! Half of all status writes meet a 409: what they were to do is decided again, from what is stored. covers: F17

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use kinora_protocol::dispatch as wire;
use serde_json::json;
use wire::to_worker::Message;

use super::api::Fault;
use super::stage::{self, Stage, Worker, worker_hello};
use super::succeeded;

const JOBS: usize = 40;

fn name(n: usize) -> String {
    format!("vj-c-{n}")
}

/// So many jobs that stay after their end, a worker of eight slots, and this for every other write of each.
async fn contended(fault: Fault) -> (Stage, Worker) {
    let stage = Stage::leading().await;
    stage.api.fault_every_other(fault);
    let hello = wire::Hello {
        slots: 8,
        ..worker_hello()
    };
    let worker = stage.connect(hello, "good").await.unwrap();
    for n in 0..JOBS {
        let uid = format!("6b1f3c52-7a39-4f0f-9d3e-2f2f6d0{n:05}");
        let mut job = stage::upload_job(&name(n), &uid, &json!({"state": "Queued"}));
        job["spec"]["ttlSecondsAfterFinished"] = json!(3600);
        stage.api.put(job);
    }
    (stage, worker)
}

async fn all_are(stage: &Stage, state: &str) {
    let is = |n| stage.api.object(&name(n)).unwrap()["status"]["state"] == state;
    stage.until(state, |_| (0..JOBS).all(is)).await;
}

#[tokio::test]
async fn each_job_is_leased_once_and_ends_once_however_many_writes_conflict() {
    for fault in [Fault::Refuse, Fault::Overtake] {
        let (stage, mut worker) = contended(fault).await;
        let mut leased = BTreeSet::new();
        for _ in 0..2 * JOBS {
            match worker.next().await {
                Message::Lease(lease) => {
                    assert_eq!(lease.attempt.as_ref().unwrap().attempt, 1);
                    assert!(leased.insert(lease.name.clone()), "{} twice", lease.name);
                    worker.say(succeeded(lease.attempt)).await;
                }
                Message::Ack(ack) => assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(leased.len(), JOBS);
        all_are(&stage, "Succeeded").await;
        for n in 0..JOBS {
            let object = stage.api.object(&name(n)).unwrap();
            assert_eq!(object["status"]["attempt"], 1, "{object}");
            assert!(object["status"].get("failures").is_none(), "{object}");
        }
        assert_eq!(
            stage.counters.succeeded.load(Ordering::Relaxed),
            JOBS as u64
        );
        // A claim and an end of each, and both once more.
        assert_eq!(stage.api.patches().len(), 4 * JOBS, "{fault:?}");
    }
}

#[tokio::test]
async fn a_claim_that_conflicts_with_a_cancel_is_not_written_again() {
    let (stage, _worker) = contended(Fault::Cancel).await;
    all_are(&stage, "Cancelled").await;
    for n in 0..JOBS {
        let object = stage.api.object(&name(n)).unwrap();
        assert!(object["status"]["attempt"].is_null(), "{object}");
    }
    // The claim that conflicted, and what was decided then.
    assert_eq!(stage.api.patches().len(), 2 * JOBS);
}
