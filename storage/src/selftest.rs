//! The start-up self-test: does this store keep the promises that safety rests on?
//! It works below `control/selftest/<random>/` and removes what it wrote.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;

use crate::checksum::{crc64_base64, to_base64};
use crate::error::{StoreError, StoreErrorKind};
use crate::keys::SELF_TEST;
use crate::store::Store;
use crate::types::{Condition, Metadata, MultipartId, Object, Part, PutOptions, PutOutcome};

/// Writers of one race.
const RACERS: usize = 16;
/// Races of creates: cheap, and a store that is not atomic may be lucky once.
const CREATE_RACES: usize = 3;
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
    /// As [`Store::abort`].
    async fn abort(&self, key: &str, id: &MultipartId) -> Result<(), StoreError>;
    /// As [`Store::store_time`].
    fn skew_seconds(&self) -> Option<i64>;
}

/// A promise that a store may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Of 16 concurrent creates one succeeds.
    AtomicCreate,
    /// Of 16 concurrent swaps against one ETag one succeeds.
    AtomicSwap,
    /// A swap against an object that is not there writes nothing.
    SwapNeedsObject,
    /// Bytes that do not match their CRC64NVME are refused.
    VerifiesChecksums,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtomicCreate => "one winner among concurrent writes with If-None-Match",
            Self::AtomicSwap => "one winner among concurrent writes with If-Match",
            Self::SwapNeedsObject => "If-Match refused where there is no object",
            Self::VerifiesChecksums => "a wrong CRC64NVME refused",
        })
    }
}

/// What the test found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfTestReport {
    /// Promises that the store breaks.
    pub missing: Vec<Capability>,
    /// Whether ListParts gives checksums; where not, a crash may cost the full-object checksum (`crc: parts-only`).
    pub lists_part_checksums: bool,
    /// Store minus local clock in seconds, where the store says.
    pub skew_seconds: Option<i64>,
}

/// Why the store must not be used, or could not be tested.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// A call failed.
    #[error("self-test of the store: {0}")]
    Store(#[from] StoreError),
    /// It took too long.
    #[error("self-test of the store: not done within {} s: the store is too slow, or stuck", LIMIT.as_secs())]
    TooSlow,
    /// Several replicas would overwrite each other's state.
    #[error(
        "the store lacks: {}. With it only one replica is safe: run one, with --single-replica, or use a store with \
         atomic conditional writes (AWS S3, SeaweedFS 4.48)", list(.missing)
    )]
    NotAtomic {
        /// What is missing.
        missing: Vec<Capability>,
    },
    /// An acknowledged byte could be another than the one that was sent.
    #[error(
        "the store lacks: {}. Use a store that verifies x-amz-checksum-crc64nvme",
        Capability::VerifiesChecksums
    )]
    NoChecksums,
    /// Ids, signatures and retention rest on clocks that agree.
    #[error(
        "the local clock and the store's differ by {skew_seconds} s, more than {MAX_SKEW_SECONDS}: synchronise the clock"
    )]
    ClockSkew {
        /// Store minus local.
        skew_seconds: i64,
    },
}

fn list(missing: &[Capability]) -> String {
    missing
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl SelfTestReport {
    /// Whether several writers are safe.
    #[must_use]
    pub fn is_atomic(&self) -> bool {
        self.missing
            .iter()
            .all(|missing| *missing == Capability::VerifiesChecksums)
    }

    /// Whether a process may run on this store: always with atomic writes, otherwise only as the single replica.
    ///
    /// # Errors
    /// Names what is missing and what to do.
    pub fn require(&self, single_replica: bool) -> Result<(), SelfTestError> {
        if self.missing.contains(&Capability::VerifiesChecksums) {
            return Err(SelfTestError::NoChecksums);
        }
        if !single_replica && !self.is_atomic() {
            return Err(SelfTestError::NotAtomic {
                missing: self.missing.clone(),
            });
        }
        match self.skew_seconds {
            Some(skew_seconds) if skew_seconds.unsigned_abs() > MAX_SKEW_SECONDS => {
                Err(SelfTestError::ClockSkew { skew_seconds })
            }
            _ => Ok(()),
        }
    }
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

async fn probe(store: &impl Probe, prefix: &str) -> Result<SelfTestReport, SelfTestError> {
    let mut missing = Vec::new();
    for race in 0..CREATE_RACES {
        if !one_winner(
            store,
            &format!("{prefix}create-{race}"),
            &Condition::IfAbsent,
        )
        .await?
        {
            missing.push(Capability::AtomicCreate);
            break;
        }
    }
    if !swap_has_one_winner(store, &format!("{prefix}swap")).await? {
        missing.push(Capability::AtomicSwap);
    }
    if !swap_needs_object(store, &format!("{prefix}missing")).await? {
        missing.push(Capability::SwapNeedsObject);
    }
    let parts = probe_parts(store, &format!("{prefix}part")).await?;
    if !parts.refuses_wrong_crc || !refuses_wrong_crc(store, &format!("{prefix}wrong-crc")).await? {
        missing.push(Capability::VerifiesChecksums);
    }
    Ok(SelfTestReport {
        missing,
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
}

async fn probe_parts(store: &impl Probe, key: &str) -> Result<Parts, StoreError> {
    let id = store.create_multipart(key).await?;
    let found = try_parts(store, key, &id).await;
    store.abort(key, &id).await?;
    found
}

async fn try_parts(store: &impl Probe, key: &str, id: &MultipartId) -> Result<Parts, StoreError> {
    let body = Bytes::from_static(b"part");
    store
        .upload_part(key, id, body.clone(), &crc64_base64(&body))
        .await?;
    let listed = store.list_parts(key, id).await?.unwrap_or_default();
    let lists_checksums = listed.iter().any(|part| part.crc64nvme.is_some());
    let refuses_wrong_crc = refused(
        store
            .upload_part(key, id, body, &wrong_crc())
            .await
            .map(|_| ()),
    )?;
    Ok(Parts {
        refuses_wrong_crc,
        lists_checksums,
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
    async fn abort(&self, key: &str, id: &MultipartId) -> Result<(), StoreError> {
        Self::abort(self, key, id).await
    }
    fn skew_seconds(&self) -> Option<i64> {
        self.store_time()
    }
}

#[cfg(test)]
#[path = "selftest_tests.rs"]
mod tests;
