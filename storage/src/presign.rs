//! Presigned URLs: one key, one method, a limited time. They are secrets: never log or store one.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;

use crate::error::{StoreError, StoreErrorKind};
use crate::store::Store;
use crate::types::PresignedPut;

impl Store {
    /// A URL that reads one object for `ttl` (at most 7 days). Nothing is sent to the store.
    ///
    /// # Errors
    /// `Invalid` for a longer time, `Credentials` if they cannot be read.
    pub async fn presign_get(&self, key: &str, ttl: Duration) -> Result<String, StoreError> {
        let action = format!("presign get {key}");
        let request = self
            .presign_client()
            .get_object()
            .bucket(self.bucket())
            .key(key);
        let signed = request
            .presigned(window(&action, ttl)?)
            .await
            .map_err(|error| self.classify(&action, error))?;
        Ok(signed.uri().to_owned())
    }

    /// A URL that creates one object for `ttl` (at most 7 days), only if it does not exist yet, with the headers that
    /// must be sent along. A 412 to a PUT that was already answered 200 is success.
    ///
    /// # Errors
    /// As [`Store::presign_get`].
    pub async fn presign_put(
        &self,
        key: &str,
        ttl: Duration,
        content_type: Option<&str>,
    ) -> Result<PresignedPut, StoreError> {
        let action = format!("presign put {key}");
        let request = self
            .presign_client()
            .put_object()
            .bucket(self.bucket())
            .key(key)
            .if_none_match("*");
        let request = request.set_content_type(content_type.map(str::to_owned));
        let signed = request
            .presigned(window(&action, ttl)?)
            .await
            .map_err(|error| self.classify(&action, error))?;
        let headers: BTreeMap<_, _> = signed
            .headers()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Ok(PresignedPut {
            url: signed.uri().to_owned(),
            headers,
        })
    }
}

fn window(action: &str, ttl: Duration) -> Result<PresigningConfig, StoreError> {
    PresigningConfig::expires_in(ttl)
        .map_err(|cause| StoreError::new(StoreErrorKind::Invalid, action, cause.to_string()))
}
