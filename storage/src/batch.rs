//! Deletes in batches: objects, or single versions of them.

use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};

use crate::error::{StoreError, StoreErrorKind, by_answer};
use crate::observe::{Action, StoreCall};
use crate::store::Store;

/// Keys in one call of DeleteObjects.
const BATCH: usize = 1000;

/// A key, and the version that is meant; without one the object itself.
pub(crate) type Named<'a> = (Option<&'a str>, Option<&'a str>);

impl Store {
    /// Removes all of them, 1,000 a call; those that are not there are success. `what` they are is for errors.
    ///
    /// # Errors
    /// The first failure; those of earlier calls are gone then, and repeating all is safe.
    pub(crate) async fn delete_all(
        &self,
        named: &[Named<'_>],
        what: &str,
    ) -> Result<(), StoreError> {
        for batch in named.chunks(BATCH) {
            let (action, errors) = self.delete_batch(batch, what).await?;
            failed(&action, &errors)?;
        }
        Ok(())
    }

    /// The same of versions; the key of each that was refused, as one that is locked is.
    pub(crate) async fn delete_versions(
        &self,
        named: &[Named<'_>],
    ) -> Result<Vec<String>, StoreError> {
        let mut refused = Vec::new();
        for batch in named.chunks(BATCH) {
            let (action, errors) = self.delete_batch(batch, "versions").await?;
            let (of_locks, others): (Vec<_>, Vec<_>) = errors.into_iter().partition(may_be_locked);
            failed(&action, &others)?;
            refused.extend(of_locks.into_iter().filter_map(|error| error.key));
        }
        Ok(refused)
    }

    /// One call, and what it says of those that were not removed.
    async fn delete_batch(
        &self,
        batch: &[Named<'_>],
        what: &str,
    ) -> Result<(Action, Vec<Error>), StoreError> {
        let first = batch.first().and_then(|(key, _)| *key).unwrap_or("?");
        let text = format!("delete {} {what} from {first}", batch.len());
        let action = StoreCall::DeleteMany.on(text);
        let invalid = |cause: String| StoreError::new(StoreErrorKind::Invalid, &action, cause);
        let list = listed(batch).map_err(|cause| invalid(cause.to_string()))?;
        let call = || async {
            let request = self
                .client()
                .delete_objects()
                .bucket(self.bucket())
                .delete(list.clone());
            request
                .send()
                .await
                .map_err(|error| self.classify(&action, error))
        };
        let answer = self.retrying(&action, self.long(), call).await?;
        Ok((action, answer.errors.unwrap_or_default()))
    }
}

fn listed(batch: &[Named<'_>]) -> Result<Delete, aws_sdk_s3::error::BuildError> {
    let named = batch.iter().map(|(key, version)| {
        let one = ObjectIdentifier::builder().set_key(key.map(str::to_owned));
        one.set_version_id(version.map(str::to_owned)).build()
    });
    let named = named.collect::<Result<Vec<_>, _>>()?;
    Delete::builder()
        .set_objects(Some(named))
        .quiet(true)
        .build()
}

/// AWS and SeaweedFS say the first of a locked version, MinIO the second.
fn may_be_locked(error: &Error) -> bool {
    error.key().is_some() && matches!(error.code(), Some("AccessDenied" | "InvalidRequest"))
}

/// Those that are not there have not failed.
fn failed(action: &Action, errors: &[Error]) -> Result<(), StoreError> {
    let gone = |error: &&Error| matches!(error.code(), Some("NoSuchKey" | "NoSuchVersion"));
    let Some(error) = errors.iter().find(|error| !gone(error)) else {
        return Ok(());
    };
    let (key, code) = (error.key().unwrap_or("?"), error.code().unwrap_or("?"));
    let message = format!("{} of them failed, {key} with {code}", errors.len());
    Err(StoreError::new(by_answer(code, None), action, message))
}
