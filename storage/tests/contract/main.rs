//! What the rest of the system takes for granted about a store, tried on a real SeaweedFS, and on canned answers for
//! what no stand-in shows. The server is found by KINORA_WEED or on PATH; without one these tests fail and say so.

// Helpers of tests are tests, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

mod canned;
mod conditions;
mod faults;
mod http;
mod multipart;
mod objects;
mod presign;
mod start;

use kinora_storage::testing::Weed;
use kinora_storage::{Cell, Store, UploadId};
use tokio::sync::OnceCell;

/// One server for all tests of this program; it ends with the program.
pub(crate) async fn weed() -> &'static Weed {
    static WEED: OnceCell<Weed> = OnceCell::const_new();
    WEED.get_or_init(|| async {
        Weed::start()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    })
    .await
}

/// A client of this test's own: connections belong to a runtime.
pub(crate) async fn store() -> Store {
    weed().await.store().unwrap()
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
