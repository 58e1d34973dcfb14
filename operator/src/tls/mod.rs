//! Dispatch TLS: the operator's own CA, kept in a Secret that the chart ships empty and replaced in time, and one serving
//! certificate per replica, signed in memory.
//!
//! May read and write that one Secret. The CAs' public halves go to the pools, which put them where workers mount them.

pub mod accept;
mod connection;
pub mod keeper;
mod rotation;
mod store;

use k8s_openapi::jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kinora_crds::names;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use self::rotation::{Ages, CA_LIFE, SERVING_LIFE};

/// One CA.
#[derive(Clone)]
pub struct Ca {
    /// Certificate, PEM: public.
    certificate: String,
    key: String,
}

/// All that the Secret holds.
#[derive(Clone)]
pub struct Authority {
    /// Signs.
    current: Ca,
    /// Is published, and signs later.
    next: Option<Ca>,
    /// Signed before; its certificate is still published.
    old: Option<String>,
    ages: Ages,
    /// Marks the pods of attempts as made by the operator.
    attempt_key: Vec<u8>,
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
        "Secret {} is damaged ({what}): empty its data, and the operator fills it again",
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
    /// What was signed cannot be served with.
    #[error("serve with the dispatch certificate")]
    Serve(#[from] rustls::Error),
    /// Another replica wrote the Secret in between; read it again.
    #[error(
        "Secret {} was written by another replica meanwhile",
        names::DISPATCH_CA
    )]
    LostRace,
}

impl Authority {
    /// Every certificate that workers have to trust, PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|ca| ca.certificate.as_str());
        [
            Some(self.current.certificate.as_str()),
            next,
            self.old.as_deref(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Key with which the pods of attempts are marked.
    pub fn attempt_key(&self) -> &[u8] {
        &self.attempt_key
    }

    /// Signs this replica's serving certificate for the dispatch Service of `namespace`.
    ///
    /// # Errors
    /// [`TlsError::Sign`], [`TlsError::Damaged`].
    pub fn serving(&self, namespace: &str, now: Timestamp) -> Result<Serving, TlsError> {
        self.current.serving(namespace, now)
    }
}

fn sign(action: &'static str) -> impl Fn(rcgen::Error) -> TlsError {
    move |source| TlsError::Sign { action, source }
}

/// A new CA, valid from a day before `now`, so that clocks may differ.
fn new_ca(now: Timestamp) -> Result<Ca, TlsError> {
    let key = KeyPair::generate().map_err(sign("generate the key of the dispatch CA"))?;
    let mut params = params_of(names::DISPATCH_CA, Vec::new(), (now, CA_LIFE))?;
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
    (now, life): (Timestamp, SignedDuration),
) -> Result<CertificateParams, TlsError> {
    let mut params =
        CertificateParams::new(hosts).map_err(sign("name the dispatch certificate"))?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let day = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    let one_day = SignedDuration::from_hours(24);
    params.not_before = day(now - one_day);
    // Dates are cut to the day.
    params.not_after = day(now + life + one_day);
    Ok(params)
}

impl Ca {
    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, TlsError> {
        let key = KeyPair::from_pem(&self.key).map_err(|_| TlsError::Damaged {
            what: "a CA's key is no private key",
        })?;
        Issuer::from_ca_cert_pem(&self.certificate, key).map_err(|_| TlsError::Damaged {
            what: "a CA's certificate is no certificate",
        })
    }

    fn serving(&self, namespace: &str, now: Timestamp) -> Result<Serving, TlsError> {
        let service = format!("{}.{namespace}.svc", names::OPERATOR_SERVICE);
        let hosts = vec![service.clone(), format!("{service}.cluster.local")];
        let key = KeyPair::generate().map_err(sign("generate the serving key"))?;
        let mut params = params_of(&service, hosts, (now, SERVING_LIFE))?;
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

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(..)")
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Serving(..)")
    }
}

#[cfg(test)]
impl Authority {
    /// One that was made just now.
    pub(crate) fn for_tests() -> Result<Authority, TlsError> {
        let now = Timestamp::now();
        Ok(Authority {
            current: new_ca(now)?,
            next: None,
            old: None,
            ages: Ages {
                current: now,
                next: None,
                old: None,
            },
            attempt_key: vec![7; 32],
        })
    }
}

#[cfg(test)]
mod accept_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
