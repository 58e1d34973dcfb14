//! The server on a store that fails on command: each fault at each store call of an upload, a client that tries
//! again, two replicas; and the faults that need a scene of their own. covers: F1–F5, F11, F12, F14, T1, T23

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

mod calls;
mod each;
#[allow(dead_code, reason = "shared with the tests of the server")]
#[path = "../server/harness.rs"]
mod harness;
mod large;
mod memory;
mod oracle;
mod phone;
mod repeats;
mod rollout;
mod scenes;

use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
use kinora_storage::StoreArgs;
use kinora_uploader::sweep::Ages;

use harness::{Replica, World};

/// A world of its own for one run: a fake store, two replicas, a map in Kubernetes' place.
pub(crate) struct Stage {
    pub(crate) fake: FakeS3,
    pub(crate) world: World,
    pub(crate) replicas: Vec<Replica>,
}

impl Stage {
    pub(crate) async fn new(behaviour: Behaviour) -> Self {
        Self::patient(behaviour, 30).await
    }

    /// With another limit for answers of the store, for faults that let the replicas wait.
    pub(crate) async fn patient(behaviour: Behaviour, timeout_seconds: u64) -> Self {
        let fake = FakeS3::start(behaviour).unwrap();
        let mut args = StoreArgs::new(fake.endpoint(), BUCKET, fake.credentials_dir());
        args.store_timeout_seconds = timeout_seconds;
        let world = World::on("f", args).await;
        let replicas = vec![world.replica().await, world.replica().await];
        fake.journal().clear();
        Self {
            fake,
            world,
            replicas,
        }
    }

    /// Moves the store's clock, and lets the replicas see it.
    pub(crate) async fn later(&self, by: std::time::Duration) {
        self.fake.clock().advance(by);
        let seen = self.world.store.head("control/absent").await;
        assert_eq!(seen.unwrap(), None);
    }
}

/// The usual ages, by whatever clock a test has set.
pub(crate) fn ages() -> Ages {
    Ages {
        max_skew_seconds: u64::MAX,
        ..Ages::default()
    }
}
