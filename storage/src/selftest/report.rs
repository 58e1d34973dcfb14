//! What the self-test found, and what follows from it. Pure.

use std::fmt;

use super::{LIMIT, MAX_SKEW_SECONDS};
use crate::error::StoreError;

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
    /// A multipart upload with the checksum of its object can be completed.
    CompletesParts,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtomicCreate => "one winner among concurrent writes with If-None-Match",
            Self::AtomicSwap => "one winner among concurrent writes with If-Match",
            Self::SwapNeedsObject => "If-Match refused where there is no object",
            Self::VerifiesChecksums => "a wrong CRC64NVME refused",
            Self::CompletesParts => "a multipart upload with a CRC64NVME of its object completed",
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
        "the store lacks: {}. With it only one replica is safe, and none beside it during a rollout: run one, with \
         --single-replica (in the chart uploader.singleReplica), or use a store with atomic conditional writes (AWS S3, \
         SeaweedFS 4.48)", list(.missing)
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
    /// No video of more than one part would ever be whole.
    #[error(
        "the store lacks: {}. Use a store that knows checksums of type FULL_OBJECT",
        Capability::CompletesParts
    )]
    NoParts,
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
        self.missing.iter().all(|missing| {
            matches!(
                missing,
                Capability::VerifiesChecksums | Capability::CompletesParts
            )
        })
    }

    /// Whether a process may run on this store: always with atomic writes, otherwise only as the single replica.
    ///
    /// # Errors
    /// Names what is missing and what to do.
    pub fn require(&self, single_replica: bool) -> Result<(), SelfTestError> {
        if self.missing.contains(&Capability::VerifiesChecksums) {
            return Err(SelfTestError::NoChecksums);
        }
        if self.missing.contains(&Capability::CompletesParts) {
            return Err(SelfTestError::NoParts);
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
