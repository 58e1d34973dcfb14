//! What the rest of the system takes for granted about a store, tried on a real SeaweedFS and on the fake S3 in the
//! manners of two stores, and on canned answers for what none of them shows. The server is found by KINORA_WEED or on PATH; without one these tests fail and say so.

// Helpers of tests are tests, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

mod canned;
mod conditions;
mod faults;
mod http;
mod multipart;
mod names;
mod objects;
mod presign;
mod start;
mod tls;
mod versions;

use std::sync::OnceLock;

use kinora_fake_s3::{Behaviour, FakeS3};
use kinora_storage::testing::Weed;
use kinora_storage::{Cell, Store, StoreArgs, UploadId};
use tokio::sync::OnceCell;

/// The store a test runs on. All keep the same promises; a test that needs to know on which it runs is a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// A real SeaweedFS.
    Weed,
    /// The fake one, in the manner of AWS S3.
    Aws,
    /// The fake one, in the manner of SeaweedFS.
    LikeWeed,
}

/// The SeaweedFS of all tests of this program; it ends with the program.
pub(crate) async fn weed() -> &'static Weed {
    static WEED: OnceCell<Weed> = OnceCell::const_new();
    let weed = WEED.get_or_init(|| async {
        Weed::start()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    });
    weed.await
}

/// One server of each kind for all tests of this program; they end with the program.
pub(crate) async fn args(on: On) -> StoreArgs {
    static AWS: OnceLock<FakeS3> = OnceLock::new();
    static LIKE_WEED: OnceLock<FakeS3> = OnceLock::new();
    let start = |behaviour| || FakeS3::start(behaviour).unwrap();
    let fake = match on {
        On::Weed => return weed().await.args(),
        On::Aws => AWS.get_or_init(start(Behaviour::aws())),
        On::LikeWeed => LIKE_WEED.get_or_init(start(Behaviour::seaweedfs())),
    };
    StoreArgs::new(
        fake.endpoint(),
        kinora_fake_s3::BUCKET,
        fake.credentials_dir(),
    )
}

/// A client of this test's own: connections belong to a runtime.
pub(crate) async fn store(on: On) -> Store {
    Store::new(&args(on).await).unwrap()
}

/// An id nobody else uses, so that tests share a bucket without meeting.
pub(crate) fn fresh() -> UploadId {
    UploadId::mint(&Cell::default())
}

/// Bytes without a pattern that a wrong offset could hide behind.
pub(crate) fn noise(len: usize, seed: u64) -> bytes::Bytes {
    let mut x = seed | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect::<Vec<_>>().into()
}
