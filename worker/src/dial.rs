//! Connections: reads tokens and certificates from disk each time (they are rotated) and dials. I/O.

use std::path::Path;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::config::{OperatorTarget, ServiceTarget};
use crate::report::{chain, is_tls_failure};

/// Until TCP is connected.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Until TLS and the HTTP/2 preface are done as well.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// To the service: a call must start within 2 s of its lease.
pub(crate) const SERVICE_TIMEOUT: Duration = Duration::from_millis(1800);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// A token or certificate cannot be read.
    #[error("read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A token file holds what cannot be sent in a header.
    #[error("the token in {path} is empty or not printable")]
    Token {
        /// The file.
        path: String,
    },
    /// Nobody answered in time.
    #[error("connect to {address}: no answer in time")]
    Timeout {
        /// Host and port.
        address: String,
    },
    /// The peer's certificate, ours, or the handshake.
    #[error("TLS with {address}: {problem}")]
    Tls {
        /// Host and port.
        address: String,
        /// All causes.
        problem: String,
    },
    /// Everything else: refused, unreachable, no such name.
    #[error("connect to {address}: {problem}")]
    Connect {
        /// Host and port.
        address: String,
        /// All causes.
        problem: String,
    },
}

impl DialError {
    fn of(address: &str, error: &tonic::transport::Error) -> Self {
        let (address, problem) = (address.to_owned(), chain(error));
        if is_tls_failure(error) {
            Self::Tls { address, problem }
        } else {
            Self::Connect { address, problem }
        }
    }
}

/// Dials the operator: `address` is the Service's `host:port` or a leader's `ip:port`; the TLS name is the Service's host.
///
/// # Errors
/// See [`DialError`].
pub async fn operator(target: &OperatorTarget, address: &str) -> Result<Channel, DialError> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&target.ca_file).await?))
        .domain_name(target.host.clone());
    let wrap = |error| DialError::of(address, &error);
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(wrap)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    connect(&endpoint, address, HANDSHAKE_TIMEOUT).await
}

/// Dials the processing service. One connection a call: a refusal is then a fact about this call, a Service in front of
/// several replicas spreads calls, and rotated certificates are seen.
///
/// No HTTP/2 pings: gRPC servers in Go and C++ close connections that ping more than once in five minutes. TCP keepalive
/// finds a dead peer without their consent.
///
/// # Errors
/// See [`DialError`].
pub async fn service(target: &ServiceTarget) -> Result<Channel, DialError> {
    let address = target.endpoint.as_str();
    let wrap = |error| DialError::of(address, &error);
    let mut endpoint = Endpoint::from_shared(target.endpoint.clone())
        .map_err(wrap)?
        .connect_timeout(SERVICE_TIMEOUT)
        .tcp_keepalive(Some(Duration::from_secs(15)))
        .tcp_keepalive_interval(Some(Duration::from_secs(5)))
        .tcp_keepalive_retries(Some(3))
        .tcp_nodelay(true);
    if let Some(dir) = &target.tls_dir {
        endpoint = endpoint.tls_config(service_tls(dir).await?).map_err(wrap)?;
    }
    connect(&endpoint, address, SERVICE_TIMEOUT).await
}

async fn service_tls(dir: &Path) -> Result<ClientTlsConfig, DialError> {
    let ca = read(&dir.join("ca.crt")).await?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    if !certificate.exists() || !key.exists() {
        return Ok(tls);
    }
    Ok(tls.identity(Identity::from_pem(
        read(&certificate).await?,
        read(&key).await?,
    )))
}

async fn connect(
    endpoint: &Endpoint,
    address: &str,
    limit: Duration,
) -> Result<Channel, DialError> {
    match timeout(limit, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(DialError::of(address, &error)),
        Err(_) => Err(DialError::Timeout {
            address: address.to_owned(),
        }),
    }
}

/// `Bearer <token>` of a file, ready for `authorization` metadata.
///
/// # Errors
/// See [`DialError`].
pub async fn bearer(path: &Path) -> Result<MetadataValue<Ascii>, DialError> {
    let bytes = Zeroizing::new(read(path).await?);
    let unusable = || DialError::Token {
        path: path.display().to_string(),
    };
    let token = std::str::from_utf8(&bytes).map_err(|_| unusable())?.trim();
    if token.is_empty() {
        return Err(unusable());
    }
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value: MetadataValue<Ascii> = text.parse().map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(value)
}

/// A file, read anew each time.
pub(crate) async fn read(path: &Path) -> Result<Vec<u8>, DialError> {
    tokio::fs::read(path)
        .await
        .map_err(|source| DialError::File {
            path: path.display().to_string(),
            source,
        })
}
