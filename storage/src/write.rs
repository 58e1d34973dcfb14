//! Writing: conditional writes, compare-and-swap, deletes.

use std::collections::HashMap;

use bytes::Bytes;

use crate::checksum::to_base64;
use crate::error::{StoreError, StoreErrorKind};
use crate::observe::StoreCall;
use crate::payload::Payload;
use crate::read::{MAX_DOCUMENT, absent_is_none};
use crate::store::Store;
use crate::types::{CasOutcome, Condition, Metadata, Object, PutOptions, PutOutcome};

/// Above this many bytes a payload is not hashed for its signature: the signed CRC header protects it.
const SIGN_PAYLOAD_BELOW: usize = 64 << 10;

impl Store {
    /// Writes an object under a condition; the store verifies the bytes against their CRC64NVME.
    ///
    /// Without a condition the call is repeated after unclear answers, with one it never is: after `Lost` and after an
    /// error with [`StoreError::is_unknown_outcome`] read the object and compare, or use [`Store::cas`].
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names.
    pub async fn put(
        &self,
        key: &str,
        body: Bytes,
        options: PutOptions,
    ) -> Result<PutOutcome, StoreError> {
        self.put_payload(key, body.into(), options).await
    }

    /// As [`Store::put`], of bytes in pieces.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn put_payload(
        &self,
        key: &str,
        body: Payload,
        options: PutOptions,
    ) -> Result<PutOutcome, StoreError> {
        let PutOptions {
            condition,
            content_type,
            metadata,
            checksum,
        } = options;
        let action = StoreCall::Put.on(format!("put {key}"));
        let checksum = checksum.unwrap_or_else(|| to_base64(body.crc64()));
        let unhashed = self.is_tls() || body.len() > SIGN_PAYLOAD_BELOW;
        let call = || async {
            let mut request = self.client().put_object().bucket(self.bucket()).key(key);
            request = request.body(body.stream()).checksum_crc64_nvme(&checksum);
            request = request
                .set_content_type(content_type.clone())
                .set_metadata(hashed(&metadata));
            request = match &condition {
                Condition::None => request,
                Condition::IfAbsent => request.if_none_match("*"),
                Condition::IfMatch(etag) => request.if_match(etag),
            };
            let mut request = request.customize();
            if unhashed {
                request = request.disable_payload_signing();
            }
            request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))
        };
        let answer = if condition == Condition::None {
            self.retrying(&action, self.long(), call).await
        } else {
            self.once(&action, self.long(), call()).await
        };
        match answer {
            Ok(done) => Ok(PutOutcome::Written {
                etag: done.e_tag().unwrap_or_default().to_owned(),
            }),
            Err(error) if is_lost(&condition, error.kind) => Ok(PutOutcome::Lost),
            Err(error) => Err(error),
        }
    }

    /// Compare-and-swap that settles unclear answers: after 412, 409, a timeout or a 5xx the object is read, and our
    /// own bytes there count as won. So the body must be unique to this write (a nonce), or be such that whoever wrote
    /// the same bytes did the same (a decision).
    ///
    /// # Errors
    /// With [`StoreError::is_unknown_outcome`] if reading back did not settle it: the write may still land. Read the
    /// object again before deciding anything; swapping again against the same ETag is safe. `TooLarge` if another's
    /// object is there that is larger than a document and than ours.
    pub async fn cas(
        &self,
        key: &str,
        body: Bytes,
        options: PutOptions,
    ) -> Result<CasOutcome, StoreError> {
        let condition = options.condition.clone();
        let unclear = match self.put(key, body.clone(), options).await {
            Ok(PutOutcome::Written { etag }) => return Ok(CasOutcome::Won { etag }),
            Ok(PutOutcome::Lost) => None,
            Err(error) if error.is_unknown_outcome() => Some(error),
            Err(error) => return Err(error),
        };
        let stored = self
            .get_bounded(key, MAX_DOCUMENT.max(body.len() as u64))
            .await?;
        settle(stored, &body, &condition, unclear)
    }

    /// Removes an object; one that is not there is success.
    ///
    /// # Errors
    /// What [`StoreErrorKind`] names.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let action = StoreCall::Delete.on(format!("delete {key}"));
        let call = || async {
            let request = self.client().delete_object().bucket(self.bucket()).key(key);
            request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))
        };
        absent_is_none(self.retrying(&action, self.short(), call).await).map(|_| ())
    }

    /// Removes many objects, 1,000 a call; those that are not there are success.
    ///
    /// # Errors
    /// The first failure; keys of earlier calls are gone then, and repeating all is safe.
    pub async fn delete_many(&self, keys: &[String]) -> Result<(), StoreError> {
        let all: Vec<_> = keys.iter().map(|key| (Some(key.as_str()), None)).collect();
        self.delete_all(&all, "objects").await
    }
}

/// Decides a compare-and-swap from what the store holds now; `unclear` is the error of a write without an answer.
fn settle(
    stored: Option<Object>,
    ours: &Bytes,
    condition: &Condition,
    unclear: Option<StoreError>,
) -> Result<CasOutcome, StoreError> {
    match (stored, unclear) {
        (Some(stored), _) if stored.bytes == *ours => Ok(CasOutcome::Won { etag: stored.etag }),
        // The write has not landed, but it may yet: nothing was lost.
        (Some(stored), Some(error)) if *condition == Condition::IfMatch(stored.etag.clone()) => {
            Err(error)
        }
        (None, Some(error)) if *condition == Condition::IfAbsent => Err(error),
        (Some(stored), _) => Ok(CasOutcome::Lost(stored)),
        (None, _) => Ok(CasOutcome::Gone),
    }
}

/// Whether an answer means that the condition did not hold.
fn is_lost(condition: &Condition, kind: StoreErrorKind) -> bool {
    match condition {
        Condition::None => false,
        Condition::IfAbsent => kind == StoreErrorKind::Conflict,
        // AWS answers 404 where the object is gone, others 412.
        Condition::IfMatch(_) => {
            matches!(kind, StoreErrorKind::Conflict | StoreErrorKind::NotFound)
        }
    }
}

/// The SDK wants a hash map, and nothing rather than an empty one.
pub(crate) fn hashed(metadata: &Metadata) -> Option<HashMap<String, String>> {
    (!metadata.is_empty()).then(|| {
        metadata
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bytes: &'static str, etag: &str) -> Option<Object> {
        let last_modified = jiff::Timestamp::UNIX_EPOCH;
        Some(Object {
            bytes: Bytes::from(bytes),
            etag: etag.into(),
            last_modified,
            metadata: Metadata::new(),
        })
    }

    #[test]
    fn an_unclear_swap_is_settled_by_what_is_stored() {
        let swap = Condition::IfMatch("old".into());
        let unclear = || Some(StoreError::new(StoreErrorKind::Timeout, "put", ""));
        let table = [
            (
                "refused, but an earlier attempt of ours is there",
                object("ours", "new"),
                &swap,
                None,
                "won",
            ),
            (
                "timed out and landed",
                object("ours", "new"),
                &swap,
                unclear(),
                "won",
            ),
            (
                "timed out and has not landed yet",
                object("former", "old"),
                &swap,
                unclear(),
                "unknown",
            ),
            (
                "timed out and somebody else was first",
                object("theirs", "other"),
                &swap,
                unclear(),
                "lost",
            ),
            (
                "refused by another's write",
                object("theirs", "other"),
                &swap,
                None,
                "lost",
            ),
            ("refused because it is gone", None, &swap, None, "gone"),
            ("timed out, and it is gone", None, &swap, unclear(), "gone"),
            (
                "a create timed out and has not landed yet",
                None,
                &Condition::IfAbsent,
                unclear(),
                "unknown",
            ),
            (
                "a create refused by another's",
                object("theirs", "x"),
                &Condition::IfAbsent,
                None,
                "lost",
            ),
            (
                "a create refused by one deleted since",
                None,
                &Condition::IfAbsent,
                None,
                "gone",
            ),
        ];
        for (name, stored, condition, error, want) in table {
            let got = match settle(stored, &Bytes::from("ours"), condition, error) {
                Ok(CasOutcome::Won { etag }) => {
                    if etag == "new" {
                        "won"
                    } else {
                        "another etag"
                    }
                }
                Ok(CasOutcome::Lost(_)) => "lost",
                Ok(CasOutcome::Gone) => "gone",
                Err(error) if error.is_unknown_outcome() => "unknown",
                Err(_) => "error",
            };
            assert_eq!(got, want, "{name}");
        }
    }
}
