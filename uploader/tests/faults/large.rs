//! Parts that are larger than most videos, as profiles of very large ones have them.

use kinora_fake_s3::Behaviour;
use kinora_storage::{PutOptions, UploadId, keys};
use kinora_upload_engine::{Owner, Phase, Slice, State, crc};
use kinora_uploader::drive::blank_state;

use crate::Stage;
use crate::harness::{offset_of, video};

const MIB: usize = 1 << 20;
const LENGTH: usize = 66 * MIB;

/// An upload of the file whose first `held` bytes are one slice of a part of 96 MiB.
async fn held(stage: &Stage, file: &[u8], held: usize) -> (UploadId, State) {
    let id = stage.replicas[0].app.mint();
    let (length, to) = (Some(file.len() as u64), held as u64);
    let mut doc = blank_state(&id, "acme", "default", length, 96 << 20);
    doc.owner = Owner {
        iss: "apikey".into(),
        sub: "phone".into(),
    };
    (doc.epoch, doc.offset, doc.sniffed) = (1, to, true);
    doc.crc = Some(crc::of(&file[..held]));
    let slice = Slice {
        part: 0,
        epoch: 1,
        from: 0,
        to,
    };
    put(stage, &keys::tail(&id, 0, 1, 0, to), file[..held].to_vec()).await;
    doc.tail.push(slice);
    (id, doc)
}

async fn put(stage: &Stage, key: &str, bytes: Vec<u8>) {
    let put = stage
        .world
        .store
        .put(key, bytes.into(), PutOptions::default());
    put.await.unwrap();
}

async fn is_whole(stage: &Stage, id: &UploadId, file: &[u8]) {
    let stored = stage.fake.object(&keys::video(id));
    assert!(stored.is_some_and(|bytes| bytes == file));
    assert!(stage.world.jobs.job(id.as_str()).is_some());
}

#[tokio::test]
async fn a_slice_above_64_mib_is_read_back_for_the_rest_of_its_part() {
    let stage = Stage::new(Behaviour::aws()).await;
    let file = video(LENGTH);
    let (id, doc) = held(&stage, &file, 65 * MIB).await;
    put(&stage, &keys::state(&id), doc.to_bytes().unwrap()).await;
    let (replica, rest) = (&stage.replicas[0], &file[65 * MIB..]);
    let answer = stage.world.patch(replica, id.as_str(), 65 * MIB, rest);
    assert_eq!(answer.await.status(), 204);
    is_whole(&stage, &id, &file).await;
}

#[tokio::test]
async fn an_upload_that_crashed_whole_with_a_slice_above_64_mib_is_finished() {
    let stage = Stage::new(Behaviour::aws()).await;
    let file = video(LENGTH);
    let (id, mut doc) = held(&stage, &file, LENGTH).await;
    doc.phase = Phase::Finishing;
    put(&stage, &keys::state(&id), doc.to_bytes().unwrap()).await;
    let answer = stage.world.head(&stage.replicas[1], id.as_str()).await;
    assert_eq!(
        (answer.status().as_u16(), offset_of(&answer)),
        (200, Some(LENGTH))
    );
    is_whole(&stage, &id, &file).await;
}
