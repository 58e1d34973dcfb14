//! How often the store is asked for one upload: what an upload costs, counted.

use std::time::{Duration, Instant};

use kinora_fake_s3::{Behaviour, Op};
use kinora_storage::{UploadId, keys};
use kinora_uploader::janitor::Garbage;

use crate::Stage;
use crate::harness::{STREAM, video};
use crate::phone::Phone;

/// Calls on the way to the answer, without what the janitor does later for many at once.
fn on_the_way(stage: &Stage) -> Vec<(Op, String)> {
    let calls = stage.fake.journal().calls().into_iter();
    calls
        .filter(|call| call.op != Op::DeleteMany)
        .map(|call| (call.op, call.key))
        .collect()
}

#[tokio::test]
async fn a_small_file_in_one_request_costs_four_calls() {
    let stage = Stage::new(Behaviour::aws()).await;
    for file in [video(1 << 20), video(300_000)] {
        stage.fake.journal().clear();
        Phone::new(&stage).post(&file).await;
        let calls = on_the_way(&stage);
        assert_eq!(calls.len(), 4, "{calls:#?}");
        assert!(calls.iter().all(|(op, _)| *op == Op::Put), "{calls:#?}");
    }
}

#[tokio::test]
async fn a_create_and_a_patch_at_one_replica_cost_eight_writes_and_two_shared_deletes() {
    let stage = Stage::new(Behaviour::aws()).await;
    let (file, replica) = (video(1 << 20), &stage.replicas[0]);
    let id = stage.world.create(replica, file.len()).await;
    let answer = stage.world.patch(replica, &id, 0, &file).await;
    assert_eq!(answer.status(), 204);
    let id: UploadId = id.parse().unwrap();
    let state = keys::state(&id);
    let slice = keys::tail(&id, 0, 1, 0, file.len() as u64);
    let index = keys::user_index(&keys::owner_hash("apikey", "phone"), &id);
    let left = [keys::active(&id), index, keys::video(&id)];
    let [active, index, whole] = left.clone();
    let pending = keys::pending(&id);
    // Created, open, the bytes, finishing; the outbox entry, the video, the decision, the index.
    let want = [
        &state, &state, &slice, &state, &pending, &whole, &active, &index,
    ];
    let want = want.map(|key| (Op::Put, key.clone()));
    assert_eq!(on_the_way(&stage), want);

    // Then, with those of all that end meanwhile: entry and slice, and at last the state.
    let journal = stage.fake.journal();
    let deadline = Instant::now() + Duration::from_secs(20);
    while journal.count(Op::DeleteMany) < 2 || stage.fake.object(&state).is_some() {
        assert!(Instant::now() < deadline, "{:#?}", stage.fake.keys(""));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(journal.len(), 10, "{:#?}", journal.calls());
    assert_eq!(stage.fake.keys(""), left);
}

#[tokio::test]
async fn a_create_with_all_bytes_costs_no_more_than_a_plain_one() {
    let stage = Stage::new(Behaviour::aws()).await;
    let file = video(1 << 20);
    let request = stage
        .world
        .tus(&stage.replicas[0], "POST", "/v1/uploads")
        .header("Upload-Length", file.len())
        .header("Content-Type", STREAM);
    let answer = request.body(file).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let calls = on_the_way(&stage);
    assert_eq!(calls.len(), 4, "{calls:#?}");
}

#[tokio::test]
async fn what_many_uploads_leave_goes_in_one_call_each_for_entries_and_states() {
    let stage = Stage::new(Behaviour::aws()).await;
    for n in 0..200 {
        stage.replicas[0].app.janitor.leave(Garbage {
            first: vec![format!("pending/{n}"), format!("up/{n}/tail")],
            last: vec![format!("up/{n}/state")],
        });
    }
    let journal = stage.fake.journal();
    let deadline = Instant::now() + Duration::from_secs(20);
    while journal.count(Op::DeleteMany) < 2 {
        assert!(Instant::now() < deadline, "nothing is deleted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(journal.len(), 2, "two calls for 200 uploads");
}
