//! The SDK client as this project wants it: path style, no retries, checksums only where we give them, own timeouts.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Config;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, ProvideCredentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use url::Url;

use crate::args::StoreArgs;
use crate::clock::StoreClock;
use crate::credentials::FileCredentials;
use crate::error::{StoreError, StoreErrorKind};
use crate::trust::Connections;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Configuration of the client that sends.
pub(crate) fn base(
    args: &StoreArgs,
    clock: &StoreClock,
    connections: Connections,
    credentials: Arc<FileCredentials>,
) -> Config {
    let credentials: Arc<dyn ProvideCredentials> = credentials;
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(args.store_region.clone()))
        .endpoint_url(args.store_endpoint.trim_end_matches('/'))
        .force_path_style(true)
        .http_client(connections)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        // The provider looks at the files itself; a second cache would hide a rotation.
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .build(),
        )
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .interceptor(clock.clone())
        .build()
}

/// Checks that a flag holds scheme and host, and nothing that would end up in a signature or a log.
pub(crate) fn endpoint(text: &str, flag: &str) -> Result<Url, StoreError> {
    let wrong = |what: &str| {
        let message = format!("{what}; it must look like http://host:port or https://host");
        StoreError::new(StoreErrorKind::Invalid, format!("read {flag}"), message)
    };
    let url = Url::parse(text).map_err(|cause| wrong(&format!("not a URL ({cause})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(&format!(
            "scheme {:?} is not http or https",
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it holds a user name or password"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a path, query or fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_scheme_and_host_only() {
        let table = [
            ("plain", "http://store:8333", true),
            ("tls", "https://s3.eu-central-1.amazonaws.com/", true),
            ("no scheme", "store:8333", false),
            ("a path", "http://store/bucket", false),
            ("a password", "http://u:p@store", false),
            ("another scheme", "file:///etc", false),
            ("a query", "http://store/?x=1", false),
        ];
        for (name, url, want) in table {
            let got = endpoint(url, "--store-endpoint");
            assert_eq!(got.is_ok(), want, "{name}");
            if let Err(error) = got {
                assert!(error.to_string().contains("--store-endpoint"), "{error}");
            }
        }
    }
}
