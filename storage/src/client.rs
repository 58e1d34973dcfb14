//! The SDK client as this project wants it: path style, no retries, checksums only where we give them, own timeouts.

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use url::Url;

use crate::args::StoreArgs;
use crate::clock::StoreClock;
use crate::credentials::FileCredentials;
use crate::error::{StoreError, StoreErrorKind};
use crate::resolve::LastGood;

const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Base configuration; clients differ by endpoint only.
pub(crate) fn base(
    args: &StoreArgs,
    clock: &StoreClock,
    names: LastGood,
) -> Result<Config, StoreError> {
    let https = endpoint(&args.store_endpoint, "--store-endpoint")?.scheme() == "https";
    let credentials = FileCredentials::new(&args.store_credentials_dir);
    credentials.load()?;
    Ok(Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(args.store_region.clone()))
        .endpoint_url(args.store_endpoint.trim_end_matches('/'))
        .force_path_style(true)
        .http_client(http_client(https, args.store_ca_file.as_deref(), names)?)
        .credentials_provider(credentials)
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
        .build())
}

/// A client that signs for another host and never sends: presigning.
pub(crate) fn presigning(base: &Config, url: &str) -> Result<Client, StoreError> {
    endpoint(url, "--store-presign-endpoint")?;
    Ok(Client::from_conf(
        base.to_builder()
            .endpoint_url(url.trim_end_matches('/'))
            .build(),
    ))
}

/// Checks that a flag holds scheme and host, and nothing that would end up in a signature or a log.
fn endpoint(text: &str, flag: &str) -> Result<Url, StoreError> {
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

fn http_client(
    https: bool,
    ca_file: Option<&Path>,
    names: LastGood,
) -> Result<SharedHttpClient, StoreError> {
    // Never the system's list: our images have no system, and the client would trust nobody.
    let trust = if https {
        authorities(ca_file)?
    } else {
        TrustStore::empty()
    };
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|cause| {
        wrong_tls(format!(
            "no usable certificate authority ({cause}): check --store-ca-file"
        ))
    })?;
    Ok(Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_with_resolver(names))
}

fn wrong_tls(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, "set up TLS to the store", message)
}

/// Those of a file, or the public ones.
fn authorities(ca_file: Option<&Path>) -> Result<TrustStore, StoreError> {
    let Some(path) = ca_file else {
        return Ok(TrustStore::empty().with_pem_certificate(public_authorities()));
    };
    let read = std::fs::read(path);
    let pem =
        read.map_err(|cause| wrong_tls(format!("--store-ca-file {}: {cause}", path.display())))?;
    // What holds no certificate at all would make the TLS library panic at the first call.
    if !pem
        .windows(PEM_BEGIN.len())
        .any(|window| window == PEM_BEGIN)
    {
        return Err(wrong_tls(format!(
            "--store-ca-file {}: no PEM certificate in it",
            path.display()
        )));
    }
    Ok(TrustStore::empty().with_pem_certificate(pem))
}

/// Mozilla's list, as PEM.
fn public_authorities() -> String {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let body = BASE64_STANDARD.encode(certificate);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        pem.push_str(&body);
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image from scratch has no list of authorities: ours must do, or no store is reached over TLS.
    #[test]
    fn the_built_in_authorities_are_all_readable_and_make_a_client() {
        let pem = public_authorities();
        assert!(pem.matches("BEGIN CERTIFICATE").count() > 100);
        // The certificates are read when a client is made of it.
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .http_client(http_client(true, None, LastGood::system()).unwrap());
        drop(Client::from_conf(config.build()));
    }

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
