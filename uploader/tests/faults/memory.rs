//! Bodies that have less memory than they could use.

use kinora_fake_s3::{Behaviour, Op};
use kinora_storage::keys;

use crate::Stage;
use crate::harness::video;

const PART: usize = 8 << 20;

/// One part fills the memory, so the body waits for its own part to be stored: it is not closed meanwhile.
/// covers: F6
#[tokio::test]
async fn a_body_that_waits_for_memory_goes_on_when_its_own_part_is_stored() {
    let mut stage = Stage::new(Behaviour::aws()).await;
    stage.world.args.body_memory_bytes = PART as u64 + (1 << 20);
    let replica = stage.world.replica().await;
    let file = video(3 * PART);
    let id = stage.world.create(&replica, file.len()).await;
    let answer = stage.world.patch(&replica, &id, 0, &file).await;
    assert_eq!(answer.status(), 204);
    let id = id.parse().unwrap();
    let stored = stage.fake.object(&keys::video(&id));
    assert!(stored.is_some_and(|bytes| bytes == file));
    let calls = stage.fake.journal().calls();
    let puts = calls.iter().filter(|call| call.op == Op::Put);
    let of_upload = puts.filter(|call| call.key.starts_with(&keys::upload_prefix(&id)));
    // Created, open, its multipart upload named, finishing; and no slice.
    let states = vec![keys::state(&id); 4];
    assert_eq!(
        of_upload.map(|call| call.key.clone()).collect::<Vec<_>>(),
        states
    );
}
