//! A store over TLS: whom its client believes, and what it does when that changes.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kinora_storage::{Store, StoreArgs, StoreErrorKind};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::{NamedTempFile, TempDir};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::canned::{credentials, read_request};

/// An authority in PEM, and a server that it signed for 127.0.0.1.
struct Pki {
    ca: String,
    server: Arc<ServerConfig>,
}

fn pki() -> Pki {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Pki {
        ca: ca.pem(),
        server: Arc::new(server),
    }
}

/// A store without objects; every connection carries one request and meets the certificate of its time.
struct Server {
    endpoint: String,
    shown: Arc<Mutex<Arc<ServerConfig>>>,
}

impl Server {
    async fn start(pki: &Pki) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let shown = Arc::new(Mutex::new(Arc::clone(&pki.server)));
        let now = Arc::clone(&shown);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let config = Arc::clone(&now.lock().unwrap());
                tokio::spawn(converse(stream, config));
            }
        });
        Self { endpoint, shown }
    }

    fn show(&self, pki: &Pki) {
        *self.shown.lock().unwrap() = Arc::clone(&pki.server);
    }
}

/// None when the client does not believe, which it says by leaving.
async fn converse(stream: TcpStream, config: Arc<ServerConfig>) -> Option<()> {
    let mut stream = TlsAcceptor::from(config).accept(stream).await.ok()?;
    read_request(&mut stream).await?;
    let body = "<Error><Code>NoSuchKey</Code></Error>";
    let answer = format!(
        "HTTP/1.1 404 x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

/// As a store behind a proxy, over HTTP/2: of the first connection the second request gets no answer, and no ping; the others
/// are well.
async fn start_h2(pki: &Pki) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let mut config = ServerConfig::clone(&pki.server);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        let mut answers = Some(1);
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_h2(stream, acceptor.clone(), answers.take()));
        }
    });
    endpoint
}

async fn answer_h2(stream: TcpStream, acceptor: TlsAcceptor, most: Option<usize>) -> Option<()> {
    let stream = acceptor.accept(stream).await.ok()?;
    let mut connection = h2::server::handshake(stream).await.ok()?;
    let mut answered = 0;
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        if most == Some(answered) {
            std::future::pending::<()>().await;
        }
        answered += 1;
        let head = http::Response::builder().status(404).body(()).ok()?;
        let mut body = respond.send_response(head, false).ok()?;
        body.send_data("<Error><Code>NoSuchKey</Code></Error>".into(), true)
            .ok()?;
    }
    Some(())
}

/// covers: F14
#[tokio::test]
async fn a_connection_that_all_calls_share_and_that_is_dead_is_left_with_the_first_call_that_finds_out()
 {
    let pki = pki();
    let endpoint = start_h2(&pki).await;
    let (ca, secret) = (CaFile::new(&pki.ca), credentials());
    let args = StoreArgs {
        store_ca_file: Some(ca.dir.path().join("ca.crt")),
        store_timeout_seconds: 1,
        ..StoreArgs::new(endpoint, "b", secret.path())
    };
    let store = Store::new(&args).unwrap();
    assert_eq!(store.head("x").await.unwrap(), None);
    // Tried again by itself.
    assert_eq!(store.head("x").await.unwrap(), None);
}

/// Puts a file in the place of another at once, as a mounted ConfigMap does; each is a second newer.
struct CaFile {
    dir: TempDir,
    written: SystemTime,
}

impl CaFile {
    fn new(pem: &str) -> Self {
        let mut file = Self {
            dir: tempfile::tempdir().unwrap(),
            written: SystemTime::UNIX_EPOCH,
        };
        file.replace(pem);
        file
    }

    fn replace(&mut self, pem: &str) {
        self.written += Duration::from_secs(1);
        let new = NamedTempFile::new_in(self.dir.path()).unwrap();
        std::fs::write(new.path(), pem).unwrap();
        new.as_file().set_modified(self.written).unwrap();
        new.persist(self.dir.path().join("ca.crt")).unwrap();
    }

    fn remove(&self) {
        std::fs::remove_file(self.dir.path().join("ca.crt")).unwrap();
    }
}

fn store(endpoint: &str, ca: &CaFile, credentials: &Path) -> Result<Store, Box<str>> {
    let args = StoreArgs {
        store_ca_file: Some(ca.dir.path().join("ca.crt")),
        ..StoreArgs::new(endpoint, "b", credentials)
    };
    Store::new(&args).map_err(|error| error.to_string().into())
}

/// covers: F59
#[tokio::test]
async fn an_authority_that_was_rotated_is_believed_by_the_next_call_of_the_same_client() {
    let (first, second) = (pki(), pki());
    let server = Server::start(&first).await;
    let (mut ca, secret) = (CaFile::new(&first.ca), credentials());
    let store = store(&server.endpoint, &ca, secret.path()).unwrap();
    assert_eq!(store.head("x").await.unwrap(), None);

    server.show(&second);
    let error = store.head("x").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
    ca.replace(&second.ca);
    assert_eq!(store.head("x").await.unwrap(), None);

    for (name, pem) in broken() {
        ca.replace(&pem);
        assert_eq!(store.head("x").await.unwrap(), None, "{name}: the former");
    }
    ca.remove();
    assert_eq!(store.head("x").await.unwrap(), None, "none: the former");
    server.show(&first);
    ca.replace(&[second.ca, first.ca].concat());
    assert_eq!(store.head("x").await.unwrap(), None, "one of two");
}

#[test]
fn a_file_without_a_usable_authority_is_named_at_the_start() {
    let secret = credentials();
    for (name, pem) in broken() {
        let ca = CaFile::new(&pem);
        let error = store("https://127.0.0.1:1", &ca, secret.path()).unwrap_err();
        assert!(error.contains("--store-ca-file"), "{name}: {error}");
    }
}

fn broken() -> [(&'static str, String); 4] {
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    [
        ("empty", String::new()),
        ("no PEM", "junk".to_owned()),
        ("half of one", format!("{begin}\nAAAA\n")),
        ("no certificate", format!("{begin}\nAAAA\n{end}\n")),
    ]
}
