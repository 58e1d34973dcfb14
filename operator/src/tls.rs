//! Dispatch TLS: the operator's own CA, kept in a Secret that the chart ships empty, and one serving certificate per replica.
//!
//! May read and fill that one Secret. The CA's public half is handed to the pools, which put it where workers mount it.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kinora_crds::names;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// Key of the CA's certificate, PEM.
const CERTIFICATE: &str = names::DISPATCH_CA_KEY;
/// Key of the CA's private key, PEM (PKCS#8).
const KEY: &str = "ca.key";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Until rotation exists, certificates outlive any process that could hold them.
const VALID_DAYS: i64 = 3650;

/// The CA as stored.
#[derive(Clone)]
pub struct Ca {
    /// Certificate, PEM: public.
    pub certificate: String,
    key: String,
}

/// What a replica serves with.
#[derive(Clone)]
pub struct Serving {
    /// Chain, PEM.
    pub certificate: String,
    /// Private key, PEM. Lives in memory only.
    pub key: String,
}

/// Why there is no usable CA.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chart ships the Secret empty; the operator may fill it, not create it.
    #[error(
        "Secret {}/{} does not exist: install the chart's Secret, or run `kubectl -n {} create secret generic {}`",
        .namespace, names::DISPATCH_CA, .namespace, names::DISPATCH_CA
    )]
    NoSecret {
        /// The release namespace.
        namespace: String,
    },
    /// The API server refused or failed.
    #[error("{action} Secret {}", names::DISPATCH_CA)]
    Api {
        /// What was tried.
        action: &'static str,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("{action} Secret {}: no answer in time", names::DISPATCH_CA)]
    Timeout {
        /// What was tried.
        action: &'static str,
    },
    /// Half filled, or not PEM: nothing is overwritten that somebody may have put there.
    #[error(
        "Secret {} is damaged ({what}): empty its data, and the operator makes a new CA",
        names::DISPATCH_CA
    )]
    Damaged {
        /// Which key.
        what: &'static str,
    },
    /// Key generation or signing failed.
    #[error("{action}")]
    Sign {
        /// What was tried.
        action: &'static str,
        /// The library's error.
        #[source]
        source: rcgen::Error,
    },
    /// Another replica filled the Secret in between; read it again.
    #[error(
        "Secret {} was filled by another replica meanwhile",
        names::DISPATCH_CA
    )]
    LostRace,
}

/// Reads the CA, and makes one if the Secret is empty. A compare-and-swap lets one of several replicas win; the others read its CA.
///
/// # Errors
/// [`TlsError`]; [`TlsError::LostRace`] is answered by calling again.
pub async fn load_or_create(
    client: &Client,
    namespace: &str,
    now: Timestamp,
) -> Result<Ca, TlsError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = bounded("read", api.get_opt(names::DISPATCH_CA))
        .await?
        .ok_or_else(|| TlsError::NoSecret {
            namespace: namespace.to_owned(),
        })?;
    if let Some(ca) = stored(&secret)? {
        return Ok(ca);
    }
    let ca = new_ca(now)?;
    let patch = json!({
        "metadata": { "resourceVersion": secret.metadata.resource_version },
        "data": {
            CERTIFICATE: ByteString(ca.certificate.clone().into_bytes()),
            KEY: ByteString(ca.key.clone().into_bytes()),
        },
    });
    let params = PatchParams {
        field_manager: Some(names::MANAGER_OPERATOR.to_owned()),
        ..PatchParams::default()
    };
    match bounded(
        "fill",
        api.patch(names::DISPATCH_CA, &params, &Patch::Merge(&patch)),
    )
    .await
    {
        Ok(_) => {
            tracing::info!(secret = names::DISPATCH_CA, "made the dispatch CA");
            Ok(ca)
        }
        Err(TlsError::Api { source, .. }) if matches!(source.as_ref(), kube::Error::Api(s) if s.is_conflict()) => {
            Err(TlsError::LostRace)
        }
        Err(other) => Err(other),
    }
}

async fn bounded<T>(
    action: &'static str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, TlsError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Err(_) => Err(TlsError::Timeout { action }),
        Ok(Err(source)) => Err(TlsError::Api {
            action,
            source: Box::new(source),
        }),
        Ok(Ok(value)) => Ok(value),
    }
}

/// The CA in the Secret; `None` when it is empty.
fn stored(secret: &Secret) -> Result<Option<Ca>, TlsError> {
    let text = |key: &str| {
        let bytes = secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.clone());
        bytes.filter(|bytes| !bytes.is_empty())
    };
    match (text(CERTIFICATE), text(KEY)) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(TlsError::Damaged {
            what: "ca.key without ca.crt",
        }),
        (Some(_), None) => Err(TlsError::Damaged {
            what: "ca.crt without ca.key",
        }),
        (Some(certificate), Some(key)) => {
            let certificate = String::from_utf8(certificate).map_err(|_| TlsError::Damaged {
                what: "ca.crt is not PEM",
            })?;
            let key = String::from_utf8(key).map_err(|_| TlsError::Damaged {
                what: "ca.key is not PEM",
            })?;
            let ca = Ca { certificate, key };
            ca.issuer()?;
            Ok(Some(ca))
        }
    }
}

fn sign(action: &'static str) -> impl Fn(rcgen::Error) -> TlsError {
    move |source| TlsError::Sign { action, source }
}

/// A new CA, valid from a day before `now`, so that clocks may differ.
fn new_ca(now: Timestamp) -> Result<Ca, TlsError> {
    let key = KeyPair::generate().map_err(sign("generate the key of the dispatch CA"))?;
    let mut params = params_of(names::DISPATCH_CA, Vec::new(), now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params
        .self_signed(&key)
        .map_err(sign("sign the dispatch CA"))?;
    Ok(Ca {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn params_of(
    common_name: &str,
    hosts: Vec<String>,
    now: Timestamp,
) -> Result<CertificateParams, TlsError> {
    let mut params =
        CertificateParams::new(hosts).map_err(sign("name the dispatch certificate"))?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let day = |days: i64| {
        let date = (now + SignedDuration::from_hours(24 * days))
            .to_zoned(TimeZone::UTC)
            .date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = day(-1);
    params.not_after = day(VALID_DAYS);
    Ok(params)
}

impl Ca {
    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, TlsError> {
        let key = KeyPair::from_pem(&self.key).map_err(|_| TlsError::Damaged {
            what: "ca.key is no private key",
        })?;
        Issuer::from_ca_cert_pem(&self.certificate, key).map_err(|_| TlsError::Damaged {
            what: "ca.crt is no certificate",
        })
    }

    /// Signs this replica's serving certificate for the dispatch Service of `namespace`.
    ///
    /// # Errors
    /// [`TlsError::Sign`], [`TlsError::Damaged`].
    pub fn serving(&self, namespace: &str, now: Timestamp) -> Result<Serving, TlsError> {
        let service = format!("{}.{namespace}.svc", names::OPERATOR_SERVICE);
        let hosts = vec![service.clone(), format!("{service}.cluster.local")];
        let key = KeyPair::generate().map_err(sign("generate the serving key"))?;
        let mut params = params_of(&service, hosts, now)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&key, &self.issuer()?)
            .map_err(sign("sign the serving certificate"))?;
        Ok(Serving {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca(..)")
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Serving(..)")
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let data = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())))
            .collect();
        Secret {
            data: Some(data),
            ..Secret::default()
        }
    }

    /// One in-memory handshake, client against server; the error of whoever refused.
    fn handshake(ca: &Ca, serving: &Serving, host: &str) -> Result<(), rustls::Error> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap())
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_slice(serving.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(client.into(), name)?;
        let mut server = rustls::ServerConnection::new(server.into())?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn a_worker_that_trusts_the_ca_accepts_the_service_name_and_no_other() {
        let ca = new_ca(Timestamp::now()).unwrap();
        let serving = ca.serving("kinora-system", Timestamp::now()).unwrap();
        handshake(&ca, &serving, "kinora-operator.kinora-system.svc").unwrap();
        handshake(
            &ca,
            &serving,
            "kinora-operator.kinora-system.svc.cluster.local",
        )
        .unwrap();
        handshake(&ca, &serving, "kinora-operator.elsewhere.svc").unwrap_err();
        let stranger = new_ca(Timestamp::now()).unwrap();
        handshake(&stranger, &serving, "kinora-operator.kinora-system.svc").unwrap_err();
    }

    #[test]
    fn a_secret_is_empty_whole_or_damaged() {
        let ca = new_ca(Timestamp::now()).unwrap();
        assert!(
            stored(&Secret::default()).unwrap().is_none(),
            "no data at all"
        );
        assert!(
            stored(&secret(&[("ca.crt", ""), ("ca.key", "")]))
                .unwrap()
                .is_none(),
            "empty keys"
        );
        let whole = stored(&secret(&[("ca.crt", &ca.certificate), ("ca.key", &ca.key)])).unwrap();
        assert_eq!(whole.unwrap().certificate, ca.certificate);
        stored(&secret(&[("ca.crt", &ca.certificate)])).unwrap_err();
        stored(&secret(&[("ca.key", &ca.key)])).unwrap_err();
        stored(&secret(&[("ca.crt", "junk"), ("ca.key", &ca.key)])).unwrap_err();
    }

    #[test]
    fn keys_are_not_printed() {
        let ca = new_ca(Timestamp::now()).unwrap();
        let serving = ca.serving("x", Timestamp::now()).unwrap();
        assert!(!format!("{ca:?}{serving:?}").contains("PRIVATE"));
    }
}
