//! The HTTP client, its connections, and whom it believes over TLS: the public authorities, or those of a file, as a mounted
//! ConfigMap shows it, read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

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

/// Between two clients that are made because calls got no answer.
const AGAIN: Duration = Duration::from_secs(10);

/// Whose authorities are believed.
#[derive(Debug)]
enum Authorities {
    /// Over plain HTTP nobody's.
    Nobody,
    Public,
    File(PathBuf),
}

/// The client, and another one in its place when the file of authorities has changed, or when its connections are as good as
/// dead: calls under way end over the former.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    authorities: Authorities,
    names: LastGood,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    client: SharedHttpClient,
    /// Of the file, when it was read.
    changed: Option<SystemTime>,
    /// The file that could not be used.
    unusable: Option<SystemTime>,
    renewed: Option<Instant>,
}

impl Connections {
    /// For a store; `ca_file` matters over `https` only.
    pub(crate) fn new(
        https: bool,
        ca_file: Option<&Path>,
        names: LastGood,
    ) -> Result<Self, StoreError> {
        let authorities = match (https, ca_file) {
            (false, _) => Authorities::Nobody,
            (true, None) => Authorities::Public,
            (true, Some(path)) => Authorities::File(path.to_owned()),
        };
        let changed = authorities.changed();
        let held = Held {
            client: over(authorities.read()?, names.clone())?,
            changed,
            unusable: None,
            renewed: None,
        };
        Ok(Self(Arc::new(Inner {
            authorities,
            names,
            held: Mutex::new(held),
        })))
    }

    /// A call got no answer in time. Where calls share a connection (HTTP/2) it may be dead without anybody's word, and stay in
    /// use for as long as there are calls: the next ones have another.
    pub(crate) fn are_silent(&self) {
        if matches!(self.0.authorities, Authorities::Nobody) {
            // HTTP/1: the connection of a call that is given up is closed.
            return;
        }
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.renewed.is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        held.renewed = Some(Instant::now());
        match self.0.make() {
            Ok(client) => {
                tracing::info!(
                    "a call to the store got no answer in time: the next ones have other connections"
                );
                held.client = client;
            }
            Err(error) => {
                tracing::warn!(%error, "no other connections to the store: its authorities cannot be read");
            }
        }
    }

    /// The client of the file as it is now; one that cannot be used leaves the former.
    fn current(&self) -> SharedHttpClient {
        let inner = &self.0;
        let mut held = inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = inner.authorities.changed();
        if changed != held.changed {
            match inner.make() {
                Ok(client) => {
                    tracing::info!(authorities = ?inner.authorities, "the store's authorities changed and were read again");
                    (held.client, held.changed) = (client, changed);
                }
                // Told once, and tried again with the next call.
                Err(error) if held.unusable != changed => {
                    held.unusable = changed;
                    tracing::warn!(%error, "the store's authorities changed but cannot be read; keeping the former ones");
                }
                Err(_) => {}
            }
        }
        held.client.clone()
    }
}

impl Inner {
    fn make(&self) -> Result<SharedHttpClient, StoreError> {
        over(self.authorities.read()?, self.names.clone())
    }
}

impl Authorities {
    /// When the file was written; through the links of a mounted ConfigMap.
    fn changed(&self) -> Option<SystemTime> {
        match self {
            Self::Nobody | Self::Public => None,
            Self::File(path) => path.metadata().and_then(|meta| meta.modified()).ok(),
        }
    }

    fn read(&self) -> Result<TrustStore, StoreError> {
        // Never the system's list: our images have no system, and the client would trust nobody.
        match self {
            Self::Nobody => Ok(TrustStore::empty()),
            Self::Public => Ok(TrustStore::empty().with_pem_certificate(public_authorities())),
            Self::File(path) => authorities(path),
        }
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

/// Asked for a connector at each attempt of a call.
impl HttpClient for Connections {
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
            .http_client(Connections::new(true, None, LastGood::system()).unwrap());
        drop(Client::from_conf(config.build()));
    }
}
