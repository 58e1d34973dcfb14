//! Erasing in a bucket whose lock keeps versions: all is hidden, what may go goes, and the rest is told. covers: F55

use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
use kinora_storage::{StoreArgs, UploadId, keys};
use kinora_uploader::erase::{ErasePolicy, Happened};
use kinora_uploader::sweep::sweep_erasures;

use crate::erasing::{ERASER, all_is_gone, audit_lines, erase, erasers, erasure, succeed};
use crate::harness::{Replica, World, problem_of};

/// A video at its end in a bucket with versions, and what erasing it hides beside the video.
struct Stage {
    fake: FakeS3,
    world: World,
    replica: Replica,
    id: UploadId,
    others: [String; 2],
}

impl Stage {
    async fn new(cell: &str) -> Self {
        let fake = FakeS3::start(Behaviour::versioned()).unwrap();
        let args = StoreArgs::new(fake.endpoint(), BUCKET, fake.credentials_dir());
        let world = World::on(cell, args).await;
        let (world, replica) = erasers(world, ErasePolicy::Allow).await;
        let id: UploadId = world
            .upload(&replica, "owner.secret")
            .await
            .parse()
            .unwrap();
        world.gone(&keys::pending(&id)).await;
        let output = succeed(&world, &id).await;
        let index = keys::user_index(&keys::owner_hash("apikey", "owner"), &id);
        let others = [output, index];
        for key in &others {
            assert!(world.exists(key).await, "{key}");
        }
        Self {
            fake,
            world,
            replica,
            id,
            others,
        }
    }

    async fn erase(&self) -> reqwest::Response {
        erase(&self.world, &self.replica, ERASER, self.id.as_str()).await
    }

    async fn all_is_gone(&self) {
        let [output, index] = &self.others;
        all_is_gone(&self.world, &self.id, &[output, index]).await;
    }

    async fn audited(&self) -> Vec<(Happened, Option<u64>)> {
        let lines = audit_lines(&self.world, self.id.as_str()).await;
        let told = lines.iter().map(|line| (line.happened, line.locked));
        told.collect()
    }

    /// Ids of the versions of all keys that begin so, without their numbers.
    fn versions(&self, prefix: &str) -> Vec<String> {
        let versions = self.fake.versions(prefix).into_iter();
        let kind = |id: String| id.split('-').next().unwrap_or_default().to_owned();
        versions.map(|(_, id)| kind(id)).collect()
    }
}

#[tokio::test]
async fn a_locked_version_is_left_hidden_and_the_rest_is_erased() {
    let stage = Stage::new("k1").await;
    let video = keys::video(&stage.id);
    stage.fake.lock(&video);

    let done = erasure(stage.erase().await).await;
    assert_eq!(done, (200, "erased".into()));
    stage.all_is_gone().await;
    assert_eq!(stage.versions(&video), ["marker", "version"]);
    for prefix in ["outputs/", "up/", "users/", "pending/", "active/", "dead/"] {
        assert_eq!(stage.versions(prefix), [""; 0], "{prefix}");
    }
    assert_eq!(stage.versions("records/"), ["version"], "the tombstone");
    let told = [(Happened::Requested, None), (Happened::Erased, Some(1))];
    assert_eq!(stage.audited().await, told);

    let before = stage.fake.versions("");
    let again = erasure(stage.erase().await).await;
    assert_eq!(again, (200, "erased".into()));
    assert_eq!(
        sweep_erasures(&stage.replica.app, 3_600_000).await.erased,
        0
    );
    assert_eq!(stage.fake.versions(""), before, "it is through");

    let locked = stage.fake.versions(&video);
    assert_eq!(sweep_erasures(&stage.replica.app, 0).await.forgotten, 1);
    stage.all_is_gone().await;
    assert_eq!(stage.fake.versions(&video), locked, "hidden as before");
    assert_eq!(stage.versions("erase/"), [""; 0], "no wish is left");
    assert_eq!(stage.audited().await, told);
}

/// With a default retention of the bucket, all versions are locked.
#[tokio::test]
async fn a_bucket_that_locks_everything_shows_nothing_of_what_was_erased() {
    let stage = Stage::new("k2").await;
    stage.fake.lock("");
    let done = erasure(stage.erase().await).await;
    assert_eq!(done, (200, "erased".into()));
    stage.all_is_gone().await;
    assert_eq!(stage.versions(&stage.others[0]), ["marker", "version"]);
    stage.fake.lock("");
    assert_eq!(sweep_erasures(&stage.replica.app, 0).await.forgotten, 1);
    stage.all_is_gone().await;
    assert_eq!(sweep_erasures(&stage.replica.app, 0).await.forgotten, 0);
}

/// A store says the same of a right that is missing as of a lock.
#[tokio::test]
async fn without_the_right_to_remove_versions_all_is_hidden_and_nothing_is_called_erased() {
    let stage = Stage::new("k3").await;
    stage.fake.may_remove_versions(false);
    for _ in 0..2 {
        let refused = problem_of(stage.erase().await).await;
        assert_eq!(refused.0, 503, "{refused:?}");
    }
    assert_eq!(sweep_erasures(&stage.replica.app, 0).await.waiting, 1);
    stage.all_is_gone().await;
    assert_eq!(stage.audited().await, [(Happened::Requested, None)]);

    stage.fake.may_remove_versions(true);
    let done = erasure(stage.erase().await).await;
    assert_eq!(done, (200, "erased".into()));
    for prefix in ["videos/", "outputs/", "users/"] {
        assert_eq!(stage.fake.versions(prefix), [], "{prefix}");
    }
    let told = [(Happened::Requested, None), (Happened::Erased, None)];
    assert_eq!(stage.audited().await, told);
}
