//! Whom the client believes over TLS: the public authorities, or those of a file, as a mounted ConfigMap shows it, read
//! again when it changes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use aws_sdk_s3::config::{ConfigBag, HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::error::BoxError;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::{StoreError, StoreErrorKind};
use crate::resolve::LastGood;

/// A client for a store; `ca_file` matters over `https` only.
pub(crate) fn http_client(
    https: bool,
    ca_file: Option<&Path>,
    names: LastGood,
) -> Result<SharedHttpClient, StoreError> {
    // Never the system's list: our images have no system, and the client would trust nobody.
    let trust = TrustStore::empty();
    match (https, ca_file) {
        (false, _) => over(trust, names),
        (true, None) => over(trust.with_pem_certificate(public_authorities()), names),
        (true, Some(path)) => Ok(SharedHttpClient::new(FileTrust::new(path, names)?)),
    }
}

fn over(trust: TrustStore, names: LastGood) -> Result<SharedHttpClient, StoreError> {
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|cause| wrong_tls(cause.to_string()))?;
    Ok(Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_with_resolver(names))
}

fn wrong_tls(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, "set up TLS to the store", message)
}

/// The client that believes a file, and another one when the file has changed: calls under way end over the former.
#[derive(Debug)]
struct FileTrust {
    path: PathBuf,
    names: LastGood,
    held: Mutex<(Option<SystemTime>, SharedHttpClient)>,
}

impl FileTrust {
    fn new(path: &Path, names: LastGood) -> Result<Self, StoreError> {
        let held = Mutex::new((changed(path), over(authorities(path)?, names.clone())?));
        Ok(Self {
            path: path.to_owned(),
            names,
            held,
        })
    }

    /// The client of the file as it is now; one that cannot be used leaves the former.
    fn current(&self) -> SharedHttpClient {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let at = changed(&self.path);
        if at != held.0 {
            match authorities(&self.path).and_then(|trust| over(trust, self.names.clone())) {
                Ok(client) => {
                    tracing::info!(file = %self.path.display(), "the store's authorities changed and were read again");
                    *held = (at, client);
                }
                Err(error) => {
                    // Told once, and tried again when it changes again.
                    held.0 = at;
                    tracing::warn!(%error, "the store's authorities changed but cannot be read; keeping the former ones");
                }
            }
        }
        held.1.clone()
    }
}

/// Asked for a connector at each attempt of a call.
impl HttpClient for FileTrust {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.current().http_connector(settings, components)
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        HttpClient::validate_base_client_config(&self.current(), components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        HttpClient::validate_final_config(&self.current(), components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.current().connector_metadata()
    }
}

/// When the file was written; through the links of a mounted ConfigMap.
fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

/// Those of a file. What the TLS library could not use is an error here: there it is a panic.
fn authorities(path: &Path) -> Result<TrustStore, StoreError> {
    let wrong = |what: &dyn std::fmt::Display| {
        wrong_tls(format!("--store-ca-file {}: {what}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|cause| wrong(&cause))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|cause| wrong(&cause))?;
        roots.add(certificate).map_err(|cause| wrong(&cause))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"no PEM certificate in it"));
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
    use aws_sdk_s3::config::{BehaviorVersion, Region};
    use aws_sdk_s3::{Client, Config};

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
}
