//! The start-up self-test: does this store keep the promises that safety rests on?
//! It works below `control/selftest/<random>/` and removes what it wrote.

mod report;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use futures::join;

pub use self::report::{Capability, SelfTestError, SelfTestReport};
use crate::checksum::{crc64_base64, to_base64};
use crate::error::{StoreError, StoreErrorKind};
use crate::keys::SELF_TEST;
use crate::store::Store;
use crate::types::{
    CompleteOutcome, Condition, Metadata, MultipartId, Object, Part, PartRef, PutOptions,
    PutOutcome,
};

/// Writers of one race.
const RACERS: usize = 16;
/// Races of creates: cheap, and a store that is not atomic may be lucky once.
const CREATE_RACES: usize = 2;
/// The whole test; some stores let a contended If-Match wait for seconds.
const LIMIT: Duration = Duration::from_secs(90);
/// Beyond this difference of clocks no id may be minted and nothing may be signed.
pub const MAX_SKEW_SECONDS: u64 = 300;

/// What the test needs of a store; also the seam for stores that misbehave in tests.
#[async_trait]
pub trait Probe: Sync {
    /// As [`Store::put`].
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        options: PutOptions,
    ) -> Result<PutOutcome, StoreError>;
    /// As [`Store::get`].
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError>;
    /// As [`Store::delete_many`].
    async fn delete_many(&self, keys: &[String]) -> Result<(), StoreError>;
    /// As [`Store::create_multipart`].
    async fn create_multipart(&self, key: &str) -> Result<MultipartId, StoreError>;
    /// As [`Store::upload_part_with_crc`].
    async fn upload_part(
        &self,
        key: &str,
        id: &MultipartId,
        body: Bytes,
        crc: &str,
    ) -> Result<String, StoreError>;
    /// As [`Store::list_parts`].
    async fn list_parts(
        &self,
        key: &str,
        id: &MultipartId,
    ) -> Result<Option<Vec<Part>>, StoreError>;
    /// As [`Store::complete`]; whether it was done.
    async fn complete(
        &self,
        key: &str,
        id: &MultipartId,
        part: PartRef,
        crc: &str,
    ) -> Result<bool, StoreError>;
    /// As [`Store::abort`].
    async fn abort(&self, key: &str, id: &MultipartId) -> Result<(), StoreError>;
    /// As [`Store::store_time`].
    fn skew_seconds(&self) -> Option<i64>;
}

impl Store {
    /// Tests the store; what it lacks is in the report, for the caller to [`require`](SelfTestReport::require).
    /// Takes milliseconds to a few seconds.
    ///
    /// # Errors
    /// If a call failed, so that nothing can be said.
    pub async fn self_test(&self) -> Result<SelfTestReport, SelfTestError> {
        run(self).await
    }
}

/// The test on anything that can be probed.
///
/// # Errors
/// As [`Store::self_test`].
pub async fn run(store: &impl Probe) -> Result<SelfTestReport, SelfTestError> {
    let prefix = format!("{SELF_TEST}{:016x}/", rand::random::<u64>());
    let written: Vec<String> = names().map(|name| format!("{prefix}{name}")).collect();
    let tested = tokio::time::timeout(LIMIT, probe(store, &prefix)).await;
    // Also after a failure; what cannot be removed now is a few bytes that no one reads.
    if let Err(error) = store.delete_many(&written).await {
        tracing::warn!(%error, "the objects of the self-test could not be removed");
    }
    tested.map_err(|_| SelfTestError::TooSlow)?
}

/// Every key below the prefix that the test may write.
fn names() -> impl Iterator<Item = String> {
    let races = (0..CREATE_RACES).map(|race| format!("create-{race}"));
    races.chain(["swap", "missing", "wrong-crc", "part"].map(str::to_owned))
}

/// All probes run side by side: each race may take seconds where a store serialises writers by waiting.
/// None is dropped when another fails, so that each removes what it began.
async fn probe(store: &impl Probe, prefix: &str) -> Result<SelfTestReport, SelfTestError> {
    let key = |name: &str| format!("{prefix}{name}");
    let (swap, ghost, put, part) = (key("swap"), key("missing"), key("wrong-crc"), key("part"));
    let creates = (0..CREATE_RACES).map(|race| {
        let key = key(&format!("create-{race}"));
        async move { one_winner(store, &key, &Condition::IfAbsent).await }
    });
    let (creates, swaps, needs_object, put_refused, parts) = join!(
        try_join_all(creates),
        swap_has_one_winner(store, &swap),
        swap_needs_object(store, &ghost),
        refuses_wrong_crc(store, &put),
        probe_parts(store, &part),
    );
    let (creates, parts) = (creates?, parts?);
    let promises = [
        (Capability::AtomicCreate, creates.iter().all(|one| *one)),
        (Capability::AtomicSwap, swaps?),
        (Capability::SwapNeedsObject, needs_object?),
        (
            Capability::VerifiesChecksums,
            put_refused? && parts.refuses_wrong_crc,
        ),
        (Capability::CompletesParts, parts.completes),
    ];
    Ok(SelfTestReport {
        missing: promises
            .into_iter()
            .filter(|(_, kept)| !kept)
            .map(|(promise, _)| promise)
            .collect(),
        lists_part_checksums: parts.lists_checksums,
        skew_seconds: store.skew_seconds(),
    })
}

async fn swap_has_one_winner(store: &impl Probe, key: &str) -> Result<bool, StoreError> {
    match store
        .put(key, Bytes::from_static(b"before"), PutOptions::default())
        .await?
    {
        PutOutcome::Written { etag } => one_winner(store, key, &Condition::IfMatch(etag)).await,
        PutOutcome::Lost => Ok(false),
    }
}

/// Lets 16 writers race under one condition, each with its own bytes (equal bytes have equal ETags).
/// Exactly one must be told that it won, and its bytes must be what is stored.
async fn one_winner(
    store: &impl Probe,
    key: &str,
    condition: &Condition,
) -> Result<bool, StoreError> {
    let racers = (0..RACERS).map(|racer| async move {
        let body = body_of(racer);
        (
            racer,
            store
                .put(
                    key,
                    body,
                    PutOptions {
                        condition: condition.clone(),
                        ..PutOptions::default()
                    },
                )
                .await,
        )
    });
    let (mut winners, mut unclear) = (Vec::new(), None);
    for (racer, outcome) in join_all(racers).await {
        match outcome {
            Ok(PutOutcome::Written { .. }) => winners.push(racer),
            Ok(PutOutcome::Lost) => {}
            Err(error) if error.is_unknown_outcome() => unclear = Some(error),
            Err(error) => return Err(error),
        }
    }
    let stored = store.get(key).await?.map(|object| object.bytes);
    match (winners.as_slice(), unclear) {
        ([winner], _) => Ok(stored == Some(body_of(*winner))),
        // The winner's answer was lost: its bytes must be there, or nothing can be said.
        ([], Some(error)) => {
            let won = (0..RACERS).any(|racer| stored.as_ref() == Some(&body_of(racer)));
            if won { Ok(true) } else { Err(error) }
        }
        _ => Ok(false),
    }
}

fn body_of(racer: usize) -> Bytes {
    Bytes::from(format!("racer {racer}"))
}

async fn swap_needs_object(store: &impl Probe, key: &str) -> Result<bool, StoreError> {
    let condition = Condition::IfMatch("\"00000000000000000000000000000000\"".into());
    let options = PutOptions {
        condition,
        ..PutOptions::default()
    };
    let refused = store
        .put(key, Bytes::from_static(b"ghost"), options)
        .await?
        == PutOutcome::Lost;
    Ok(refused && store.get(key).await?.is_none())
}

async fn refuses_wrong_crc(store: &impl Probe, key: &str) -> Result<bool, StoreError> {
    // A condition, so that the refusal is not retried.
    let options = PutOptions {
        condition: Condition::IfAbsent,
        checksum: Some(wrong_crc()),
        ..PutOptions::default()
    };
    refused(
        store
            .put(key, Bytes::from_static(b"bytes"), options)
            .await
            .map(|_| ()),
    )
}

struct Parts {
    refuses_wrong_crc: bool,
    lists_checksums: bool,
    completes: bool,
}

async fn probe_parts(store: &impl Probe, key: &str) -> Result<Parts, StoreError> {
    let id = store.create_multipart(key).await?;
    let found = try_parts(store, key, &id).await;
    if !found.as_ref().is_ok_and(|found| found.completes) {
        store.abort(key, &id).await?;
    }
    found
}

async fn try_parts(store: &impl Probe, key: &str, id: &MultipartId) -> Result<Parts, StoreError> {
    let body = Bytes::from_static(b"part");
    let crc = crc64_base64(&body);
    let etag = store.upload_part(key, id, body.clone(), &crc).await?;
    let listed = store.list_parts(key, id).await?.unwrap_or_default();
    let lists_checksums = listed.iter().any(|part| part.crc64nvme.is_some());
    let refuses_wrong_crc = refused(
        store
            .upload_part(key, id, body, &wrong_crc())
            .await
            .map(|_| ()),
    )?;
    let part = PartRef { number: 1, etag };
    Ok(Parts {
        refuses_wrong_crc,
        lists_checksums,
        completes: store.complete(key, id, part, &crc).await?,
    })
}

/// No bytes that the test writes have this checksum.
fn wrong_crc() -> String {
    to_base64(0x0123_4567_89ab_cdef)
}

fn refused(outcome: Result<(), StoreError>) -> Result<bool, StoreError> {
    match outcome {
        Ok(()) => Ok(false),
        Err(error)
            if matches!(
                error.kind,
                StoreErrorKind::BadDigest | StoreErrorKind::Invalid
            ) =>
        {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Probe for Store {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        options: PutOptions,
    ) -> Result<PutOutcome, StoreError> {
        Self::put(self, key, body, options).await
    }
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        Self::get(self, key).await
    }
    async fn delete_many(&self, keys: &[String]) -> Result<(), StoreError> {
        Self::delete_many(self, keys).await
    }
    async fn create_multipart(&self, key: &str) -> Result<MultipartId, StoreError> {
        Self::create_multipart(self, key, &Metadata::new(), None).await
    }
    async fn upload_part(
        &self,
        key: &str,
        id: &MultipartId,
        body: Bytes,
        crc: &str,
    ) -> Result<String, StoreError> {
        self.upload_part_with_crc(key, id, 1, body, crc).await
    }
    async fn list_parts(
        &self,
        key: &str,
        id: &MultipartId,
    ) -> Result<Option<Vec<Part>>, StoreError> {
        Self::list_parts(self, key, id).await
    }
    async fn complete(
        &self,
        key: &str,
        id: &MultipartId,
        part: PartRef,
        crc: &str,
    ) -> Result<bool, StoreError> {
        let done = Self::complete(self, key, id, &[part], Some(crc)).await?;
        Ok(matches!(done, CompleteOutcome::Completed { .. }))
    }
    async fn abort(&self, key: &str, id: &MultipartId) -> Result<(), StoreError> {
        Self::abort(self, key, id).await
    }
    fn skew_seconds(&self) -> Option<i64> {
        self.store_time()
    }
}

#[cfg(test)]
mod tests;
