//! Under a control plane that went back in time nothing is decided any more. covers: F25, I1

use serde_json::json;

use super::api::Fault;
use super::stage::{Stage, worker_hello};

#[tokio::test]
async fn a_core_whose_past_is_gone_claims_nothing() {
    for went_back in [false, true] {
        let stage = Stage::leading_with(|pool| pool.suspended = true).await;
        let _worker = stage.worker().await;
        let spec = json!({"source": {"key": "imports/videos/x"}});
        stage.declare("vj-a-1", &spec);
        // Its first status says that it is known.
        stage
            .until("observed", |s| s.api.patches().len() == 1)
            .await;
        if went_back {
            stage.went_back.cancel();
        }
        stage.change_pool(|_| {}).await;
        if went_back {
            // Another stream is opened while a claim would be made.
            stage.connect(worker_hello(), "other").await.unwrap();
            assert_eq!(stage.api.patches().len(), 1);
        } else {
            stage.until("claimed", |s| s.api.patches().len() == 2).await;
        }
    }
}

/// Neither does what it decided while it found that out count.
#[tokio::test]
async fn a_core_that_reads_of_an_older_past_writes_nothing_more() {
    let stage = Stage::leading().await;
    let _worker = stage.worker().await;
    stage.api.fault(Fault::GoBack);
    stage.create("vj-a-1");
    let went_back = |s: &Stage| s.went_back.is_cancelled();
    stage.until("found older", went_back).await;
    // Another stream is opened while the claim would be made again.
    stage.connect(worker_hello(), "other").await.unwrap();
    assert_eq!(stage.api.patches().len(), 1);
}
