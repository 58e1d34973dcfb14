//! The S3 store of uploader and operator: client, key layout, documents, conditional writes, self-test, presigning.
//!
//! `keys`, `id`, `documents`, `checksum` and `parts` are pure. [`Store`] is the only thing here that talks to the network.
//! Retries happen here, and only for calls that are idempotent and unconditional; a conditional write is tried once,
//! and whoever called reads back after an unclear answer ([`Store::cas`] does that).

pub mod args;
mod batch;
pub mod checksum;
mod client;
mod clock;
mod credentials;
pub mod documents;
pub mod error;
pub mod id;
pub mod keys;
mod multipart;
pub mod observe;
pub mod parts;
mod payload;
mod presign;
mod read;
mod resolve;
mod retry;
pub mod selftest;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod trust;
pub mod types;
pub mod versions;
mod write;

pub use args::StoreArgs;
pub use error::{StoreError, StoreErrorKind};
pub use id::{Cell, Day, IdError, UploadId};
pub use payload::Payload;
pub use resolve::Lookup;
pub use selftest::{SelfTestError, SelfTestReport};
pub use store::Store;
pub use types::{
    CasOutcome, CompleteOutcome, Condition, Entry, Head, Metadata, MultipartId, Object, Page, Part,
    PartRef, PresignedPut, PutOptions, PutOutcome,
};
