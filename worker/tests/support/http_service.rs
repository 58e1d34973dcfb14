//! A fake HTTP service on bare sockets: every request lands in the test, which answers it byte by byte if it likes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::operator::Pki;
use super::soon;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Stops listening when dropped.
pub struct HttpService {
    pub address: SocketAddr,
    pub exchanges: mpsc::UnboundedReceiver<Exchange>,
    tls: Arc<Mutex<Option<TlsAcceptor>>>,
    failed: Arc<Notify>,
    accepting: AbortHandle,
}

impl Drop for HttpService {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request, to be answered by the test; each has a connection of its own.
pub struct Exchange {
    /// Method and target.
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    wire: BufReader<Box<dyn Wire>>,
}

impl HttpService {
    pub async fn start() -> Self {
        Self::with(None).await
    }

    pub async fn start_tls(pki: &Pki) -> Self {
        Self::with(Some(Self::acceptor(pki))).await
    }

    /// A handshake has failed.
    pub async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Another certificate from the next connection on.
    pub fn show(&self, pki: &Pki) {
        *self.tls.lock().unwrap() = Some(Self::acceptor(pki));
    }

    fn acceptor(pki: &Pki) -> TlsAcceptor {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let chain = vec![CertificateDer::from_pem_slice(pki.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pki.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    async fn with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, exchanges) = mpsc::unbounded_channel();
        let tls = Arc::new(Mutex::new(tls));
        let shown = tls.clone();
        let failed = Arc::new(Notify::new());
        let of_handshakes = failed.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, sender) = (shown.lock().unwrap().clone(), sender.clone());
                let failures = of_handshakes.clone();
                tokio::spawn(async move {
                    let wire: Box<dyn Wire> = match tls {
                        None => Box::new(stream),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return failures.notify_one(),
                        },
                    };
                    if let Some(exchange) = Exchange::read(wire).await {
                        let _ = sender.send(exchange);
                    }
                });
            }
        });
        Self {
            address,
            exchanges,
            tls,
            failed,
            accepting: accepting.abort_handle(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn next(&mut self) -> Exchange {
        soon("a request to the service", self.exchanges.recv())
            .await
            .unwrap()
    }

    /// True if no request is waiting.
    pub fn is_quiet(&mut self) -> bool {
        self.exchanges.try_recv().is_err()
    }
}

impl Exchange {
    async fn read(wire: Box<dyn Wire>) -> Option<Self> {
        let mut wire = BufReader::new(wire);
        let mut line = String::new();
        wire.read_line(&mut line).await.ok()?;
        let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut header = String::new();
            wire.read_line(&mut header).await.ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers
            .get("content-length")
            .map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        wire.read_exact(&mut body).await.ok()?;
        Some(Self {
            line,
            headers,
            body,
            wire,
        })
    }

    pub async fn answer(self, status: &str, headers: &[(&str, &str)], body: &str) {
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        self.raw(text.as_bytes()).await;
    }

    /// Writes these bytes and closes the connection.
    pub async fn raw(mut self, bytes: &[u8]) {
        // The reader may have had enough of it by now.
        let _ = self.wire.write_all(bytes).await;
        let _ = self.wire.shutdown().await;
    }
}

/// The bytes of an answer, for tables.
pub fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}
