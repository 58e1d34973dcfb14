//! `idem/<hh>/<hash>`: the id that a key stands for, and of which create.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use kinora_storage::documents::{Idempotency, VERSION, decode, encode};
use kinora_storage::selftest::MAX_SKEW_SECONDS;
use kinora_storage::{CasOutcome, Condition, PutOptions, UploadId};
use sha2::{Digest, Sha256};

use super::super::draft::Draft;
use super::super::problem::{Kind, Problem};
use super::super::protocol::Protocol;
use super::KEPT_MS;
use crate::app::App;
use crate::sweep::is_off;

const OFF: &str = "the store's clock is off";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Tus,
    Draft(Draft),
    Plain,
}

impl Speaks {
    /// As the create itself will take it.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(match Protocol::of_create(headers)? {
            Protocol::Tus => Self::Tus,
            Protocol::Draft(draft) => Self::Draft(draft),
            Protocol::Plain => Self::Plain,
        })
    }
}

/// The entry of one key.
pub(super) struct Entry<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) at: String,
    pub(super) hash: String,
}

pub(super) enum Claim {
    /// The entry is this request's.
    Ours(UploadId),
    /// It is an earlier one's.
    Theirs(UploadId, String),
    /// It is past its time: to be swapped for a new one.
    Stale(String),
}

impl Entry<'_> {
    pub(super) async fn claim(&self, condition: Condition) -> Result<Claim, Problem> {
        let store = &self.app.store;
        let object = match (self.mint(), &condition) {
            (Ok(id), _) => match self.put(&id, condition).await? {
                CasOutcome::Won { .. } => return Ok(Claim::Ours(id)),
                CasOutcome::Lost(object) => object,
                CasOutcome::Gone => {
                    return Err(Problem::try_again("an idempotency entry came and went"));
                }
            },
            // What an earlier try made is answered all the same.
            (Err(why), Condition::IfAbsent) => {
                let found = store.get_document(&self.at).await?;
                found.ok_or_else(|| Problem::try_again(why))?
            }
            (Err(why), _) => return Err(Problem::try_again(why)),
        };
        let age = store.now().as_millisecond() - object.last_modified.as_millisecond();
        if age >= KEPT_MS {
            // By a clock that is off a young entry looks old, and its create would be done twice.
            if is_off(store.now(), MAX_SKEW_SECONDS) {
                return Err(Problem::try_again(OFF));
            }
            return Ok(Claim::Stale(object.etag));
        }
        let first = decode::<Idempotency>(&object.bytes);
        let first = first.map_err(|error| Problem::try_again(&error.to_string()))?;
        if first.request_hash != self.hash {
            let detail =
                "This key was used within 7 days for a create with other headers. Use a new key.";
            return Err(Problem::new(Kind::IdempotencyMismatch, detail).field("Idempotency-Key"));
        }
        Ok(Claim::Theirs(first.id, object.etag))
    }

    /// An id, unless this replica is to mint none.
    pub(super) fn mint(&self) -> Result<UploadId, &'static str> {
        self.app.ready.check(&self.app.store)?;
        let id = self.app.mint();
        // Another answer of the store may have come in between.
        let at = i64::try_from(id.unix_ms()).ok();
        let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let is_off = at.is_none_or(|at| is_off(at, MAX_SKEW_SECONDS));
        if is_off { Err(OFF) } else { Ok(id) }
    }

    async fn put(&self, id: &UploadId, condition: Condition) -> Result<CasOutcome, Problem> {
        let document = Idempotency {
            v: VERSION,
            id: id.clone(),
            request_hash: self.hash.clone(),
            extra: serde_json::Map::new(),
        };
        let body = encode(&document).map_err(|error| Problem::try_again(&error.to_string()))?;
        let options = PutOptions::json(condition);
        let store = &self.app.store;
        Ok(store.cas(&self.at, body.into(), options).await?)
    }
}

/// What must be the same in a repeated create: the headers that describe the file. The bytes are compared by the
/// upload itself, as long as it lasts.
pub(super) fn hash(headers: &HeaderMap, speaks: Speaks) -> String {
    let mut hash = Sha256::new();
    hash.update(match speaks {
        Speaks::Tus => b"tus  ",
        Speaks::Draft(_) => b"draft",
        Speaks::Plain => b"plain",
    });
    // What a resumable create brings along may differ from try to try.
    let of_body = (speaks == Speaks::Plain).then_some(["content-length", "content-type"]);
    let all = [
        "upload-length",
        "upload-defer-length",
        "upload-metadata",
        "kinora-profile",
        "content-disposition",
        "repr-digest",
    ];
    for name in all.into_iter().chain(of_body.into_iter().flatten()) {
        let value = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        hash.update((value.len() as u64).to_be_bytes());
        hash.update(value);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn a_repeat_speaks_what_the_create_speaks() {
        for (headers, want) in [
            (&[("tus-resumable", "1.0.0")][..], "tus"),
            (&[("upload-complete", "?1")], "draft"),
            // Of version 3, a flag that is left out says that nothing follows.
            (&[("upload-draft-interop-version", "3")], "draft"),
            (
                &[
                    ("upload-draft-interop-version", "7"),
                    ("upload-complete", "?1"),
                ],
                "plain",
            ),
            (&[], "plain"),
        ] {
            let pairs = headers.iter().map(|(name, value)| {
                let value = HeaderValue::from_static(value);
                (HeaderName::from_static(name), value)
            });
            let got = match Speaks::of(&HeaderMap::from_iter(pairs)) {
                Ok(Speaks::Tus) => "tus",
                Ok(Speaks::Draft(_)) => "draft",
                Ok(Speaks::Plain) => "plain",
                Err(_) => "nothing",
            };
            assert_eq!(got, want, "{headers:?}");
        }
    }

    #[test]
    fn a_hash_tells_creates_apart_and_not_their_tries() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                let value = HeaderValue::from_static(value);
                (HeaderName::from_static(name), value)
            });
            let headers = HeaderMap::from_iter(pairs);
            let speaks = if headers.contains_key("tus-resumable") {
                Speaks::Tus
            } else {
                Speaks::Plain
            };
            hash(&headers, speaks)
        };
        let tus = ("tus-resumable", "1.0.0");
        let one = of(&[tus, ("upload-length", "9")]);
        assert_eq!(
            one,
            of(&[tus, ("upload-length", "9"), ("content-length", "3")])
        );
        assert_ne!(one, of(&[tus, ("upload-length", "8")]));
        assert_ne!(one, of(&[("upload-length", "9")]), "another protocol");
        assert_ne!(
            of(&[("content-length", "9")]),
            of(&[("content-length", "8")])
        );
        assert_ne!(
            of(&[tus, ("upload-metadata", "a"), ("kinora-profile", "")]),
            of(&[tus, ("upload-metadata", ""), ("kinora-profile", "a")])
        );
    }
}
