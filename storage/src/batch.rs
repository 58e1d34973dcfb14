//! Deletes in batches: objects, or single versions of them.

use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};

use crate::error::{StoreError, StoreErrorKind};
use crate::observe::StoreCall;
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
            let first = batch[0].0.unwrap_or("?");
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
            if let Some(message) = failed(answer.errors()) {
                let kind = StoreErrorKind::Unavailable;
                return Err(StoreError::new(kind, &action, message));
            }
        }
        Ok(())
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

/// What to say of those that were not removed; none when the rest was not there.
fn failed(errors: &[Error]) -> Option<String> {
    let gone = |error: &&Error| matches!(error.code(), Some("NoSuchKey" | "NoSuchVersion"));
    let error = errors.iter().find(|error| !gone(error))?;
    let (key, code) = (error.key().unwrap_or("?"), error.code().unwrap_or("?"));
    Some(format!(
        "{} of them failed, {key} with {code}",
        errors.len()
    ))
}
