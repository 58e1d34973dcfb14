//! TLS connections of workers: each handshake uses the certificate that is current then; many at once, each with a limit,
//! and few of one address. What is through has a place while it is open.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::Stream;
use kinora_telemetry::door::{Door, Places};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::connection::{Connection, PREFACE_TIMEOUT};
use super::{Serving, TlsError};

/// A peer that does not get through its handshake in this time is no worker.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at once; more wait in the listener's backlog.
pub(super) const HANDSHAKES: usize = 256;
/// Of one address. A handshake takes milliseconds, so it is enough for all workers of a node, or behind a proxy; whoever comes
/// when it is not is hung up on, and tries again.
pub(super) const OF_ONE_ADDRESS: usize = 32;
/// Open connections. A worker has one, and a second for a moment when it follows the leader.
const OPEN: usize = 16_384;
/// Of one address: all workers of a node, or behind a proxy, many times over.
const OPEN_OF_ONE_ADDRESS: usize = 1024;

/// The certificate that is served, replaceable at any time.
#[derive(Clone, Debug)]
pub struct Certificates {
    current: Arc<RwLock<Arc<CertifiedKey>>>,
    provider: Arc<CryptoProvider>,
}

impl Certificates {
    /// Serves this one.
    ///
    /// # Errors
    /// [`TlsError::Serve`], [`TlsError::Damaged`].
    pub fn new(serving: &Serving) -> Result<Certificates, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = certified(serving, &provider)?;
        Ok(Certificates {
            current: Arc::new(RwLock::new(Arc::new(key))),
            provider,
        })
    }

    /// Serves this one from the next handshake on; streams that are open stay.
    ///
    /// # Errors
    /// [`TlsError::Serve`], [`TlsError::Damaged`]; then the old one stays.
    pub fn replace(&self, serving: &Serving) -> Result<(), TlsError> {
        let key = Arc::new(certified(serving, &self.provider)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    /// A server configuration that follows the replacements. HTTP/2 only.
    ///
    /// # Errors
    /// [`TlsError::Serve`].
    pub fn config(&self) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

fn certified(serving: &Serving, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let damaged = |_| TlsError::Damaged {
        what: "the serving certificate is not PEM",
    };
    let chain = CertificateDer::pem_slice_iter(serving.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(damaged)?;
    let key = PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).map_err(damaged)?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

/// Connections that are through their handshake.
///
/// # Errors
/// [`TlsError::Serve`].
pub fn incoming(
    listener: TcpListener,
    certificates: &Certificates,
) -> Result<impl Stream<Item = std::io::Result<Connection>> + use<>, TlsError> {
    let places = Places::new(OPEN, OPEN_OF_ONE_ADDRESS);
    incoming_with(listener, certificates, places, PREFACE_TIMEOUT)
}

/// With these places for what is open, and this time to begin in.
pub(super) fn incoming_with(
    listener: TcpListener,
    certificates: &Certificates,
    places: Places,
    preface: Duration,
) -> Result<impl Stream<Item = std::io::Result<Connection>> + use<>, TlsError> {
    let acceptor = TlsAcceptor::from(Arc::new(certificates.config()?));
    let (out, connections) = mpsc::channel(HANDSHAKES);
    tokio::spawn(accept(listener, acceptor, (places, preface), out));
    Ok(ReceiverStream::new(connections))
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    (places, preface): (Places, Duration),
    out: mpsc::Sender<std::io::Result<Connection>>,
) {
    let door = Door::new(listener, HANDSHAKES, OF_ONE_ADDRESS);
    loop {
        let (tcp, peer, place) = tokio::select! {
            next = door.next() => next,
            () = out.closed() => return,
        };
        let Some(open) = places.try_take(peer.ip()) else {
            tracing::debug!(address = %peer.ip(), "too many open connections");
            continue;
        };
        let (acceptor, out) = (acceptor.clone(), out.clone());
        tokio::spawn(async move {
            let _place = place;
            let _ = tcp.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => {
                    let _ = out.send(Ok(Connection::new(stream, open, preface))).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
        });
    }
}
