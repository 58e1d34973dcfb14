//! Presigned URLs: one key, one method, a limited time. They are secrets: never log or store one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::client::endpoint;
use crate::credentials::FileCredentials;
use crate::error::{StoreError, StoreErrorKind};
use crate::store::Store;
use crate::types::PresignedPut;

/// Longest life of a URL.
const LONGEST: Duration = Duration::from_hours(7 * 24);
/// Everything but what RFC 3986 leaves as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Signs for one host, and never sends. The SDK's client would make, and throw away, a whole request for each URL.
#[derive(Debug)]
pub(crate) struct Presigner {
    origin: String,
    region: String,
    credentials: Arc<FileCredentials>,
}

impl Presigner {
    /// # Errors
    /// `Invalid` if the URL is more than scheme and host.
    pub(crate) fn new(
        url: &str,
        region: &str,
        credentials: Arc<FileCredentials>,
    ) -> Result<Self, StoreError> {
        endpoint(url, "--store-presign-endpoint")?;
        Ok(Self {
            origin: url.trim_end_matches('/').to_owned(),
            region: region.to_owned(),
            credentials,
        })
    }

    /// The same for another host.
    ///
    /// # Errors
    /// As those of `new`.
    pub(crate) fn for_host(&self, url: &str) -> Result<Self, StoreError> {
        Self::new(url, &self.region, Arc::clone(&self.credentials))
    }

    fn sign(
        &self,
        method: &str,
        (bucket, key): (&str, &str),
        headers: &BTreeMap<String, String>,
        ttl: Duration,
    ) -> Result<String, StoreError> {
        let action = || format!("presign {} {key}", method.to_ascii_lowercase());
        let invalid = |cause: &dyn std::fmt::Display| {
            StoreError::new(StoreErrorKind::Invalid, action(), cause.to_string())
        };
        if ttl > LONGEST {
            return Err(invalid(&"a URL lives 7 days at most"));
        }
        let identity = Identity::from(self.credentials.load()?);
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(ttl);
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| invalid(&error))?;
        let path = utf8_percent_encode(key, PATH);
        let mut url = format!("{}/{bucket}/{path}", self.origin);
        let headers = headers.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let request = SignableRequest::new(method, &url, headers, SignableBody::UnsignedPayload)
            .map_err(|error| invalid(&error))?;
        let (signed, _) = sign(request, &params.into())
            .map_err(|error| invalid(&error))?
            .into_parts();
        let (_, query) = signed.into_parts();
        for (n, (name, value)) in query.iter().enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, QUERY));
        }
        Ok(url)
    }
}

impl Store {
    /// A URL that reads one object for `ttl` (at most 7 days). Nothing is sent to the store.
    ///
    /// # Errors
    /// `Invalid` for a longer time, `Credentials` if they cannot be read.
    pub fn presign_get(&self, key: &str, ttl: Duration) -> Result<String, StoreError> {
        let headers = BTreeMap::new();
        self.presigner()
            .sign("GET", (self.bucket(), key), &headers, ttl)
    }

    /// A URL that creates one object for `ttl` (at most 7 days), only if it does not exist yet, with the headers that
    /// must be sent along. A 412 to a PUT that was already answered 200 is success.
    ///
    /// # Errors
    /// As [`Store::presign_get`].
    pub fn presign_put(
        &self,
        key: &str,
        ttl: Duration,
        content_type: Option<&str>,
    ) -> Result<PresignedPut, StoreError> {
        let mut headers = BTreeMap::from([("if-none-match".to_owned(), "*".to_owned())]);
        headers.extend(content_type.map(|value| ("content-type".to_owned(), value.to_owned())));
        let url = self
            .presigner()
            .sign("PUT", (self.bucket(), key), &headers, ttl)?;
        Ok(PresignedPut { url, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_method_key_and_time_and_escapes_what_it_must() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("access-key-id", "id"),
            ("secret-access-key", "hush"),
            ("session-token", "a+b/c="),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let credentials = Arc::new(FileCredentials::new(dir.path()));
        let presigner = Presigner::new("http://s3:80/", "eu-1", credentials).unwrap();
        let key = "videos/a b+ü~(1).mp4";
        let headers = BTreeMap::from([("if-none-match".to_owned(), "*".to_owned())]);
        let sign = |ttl| presigner.sign("PUT", ("kinora", key), &headers, Duration::from_secs(ttl));
        let url = sign(60).unwrap();
        let (path, query) = url.split_once('?').unwrap();
        assert_eq!(
            path,
            "http://s3:80/kinora/videos/a%20b%2B%C3%BC~%281%29.mp4"
        );
        for part in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=id%2F",
            "%2Feu-1%2Fs3%2Faws4_request",
            "X-Amz-Expires=60",
            "X-Amz-SignedHeaders=host%3Bif-none-match",
            "X-Amz-Security-Token=a%2Bb%2Fc%3D",
            "X-Amz-Signature=",
        ] {
            assert!(query.contains(part), "{part} in {query}");
        }
        assert!(!url.contains("hush"), "{url}");
        assert!(sign(LONGEST.as_secs()).is_ok());
        let error = sign(LONGEST.as_secs() + 1).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Invalid, "{error}");
    }
}
