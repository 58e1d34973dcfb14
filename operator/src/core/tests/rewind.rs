//! Under a control plane that went back in time nothing is decided any more. covers: F25, I1

use serde_json::json;

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
