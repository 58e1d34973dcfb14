//! The store goes away while a file is being stored.

use std::time::{Duration, Instant};

use kinora_fake_s3::{Fault, Op, Rule};

use crate::stage::{Stage, problem, secret, video};

/// covers: F14
#[tokio::test]
async fn a_whole_file_is_sent_away_as_soon_as_the_store_is_known_to_be_gone() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    // A store that takes calls and never answers: the call alone would wait for half a minute, and then be repeated.
    let silent = Rule::on(Op::Put, Fault::NoAnswer).key("pending/");
    stage.s3.faults().add(silent);
    let ask = || {
        let request = stage.http.post(format!("{}/v1/uploads", replica.base));
        request.bearer_auth(secret("phone")).body(video(5000))
    };
    let asked = tokio::spawn(ask().send());
    let puts = || {
        let calls = stage.s3.journal().calls();
        let pending = calls.iter().filter(|call| call.key.starts_with("pending/"));
        pending.count()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while puts() == 0 {
        assert!(Instant::now() < deadline, "nothing is stored");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What readiness sees of it.
    replica.app.ready.set_store(false);
    replica.app.ready.set_store(false);
    let answer = asked.await.unwrap().unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    let (status, kind, _) = problem(answer).await;
    assert_eq!((status, kind.as_str()), (503, "try-again"));
    assert_eq!(puts(), 1, "the call under way is not waited for");

    stage.s3.faults().clear();
    replica.app.ready.set_store(true);
    assert_eq!(ask().send().await.unwrap().status(), 201, "it is back");
}
