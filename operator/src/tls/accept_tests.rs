//! Who keeps whom out of the door, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use kinora_telemetry::door::Places;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::accept::{Certificates, HANDSHAKES, OF_ONE_ADDRESS, incoming, incoming_with};
use super::connection::PREFACE_TIMEOUT;
use super::*;

const ONE: &str = "127.0.0.1:0";
const OTHER: &str = "127.0.0.2:0";

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn handshake(
    from: &str,
    to: SocketAddr,
    bundle: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("kinora-operator.kinora-system.svc").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    connector.connect(name, connect(from, to).await).await
}

/// covers: S16, S10
#[tokio::test]
async fn open_connections_of_one_address_keep_no_other_out() {
    let authority = Authority::for_tests().unwrap();
    let serving = authority.serving("kinora-system", Timestamp::now());
    let certificates = Certificates::new(&serving.unwrap()).unwrap();
    let listener = TcpListener::bind(ONE).await.unwrap();
    let door = listener.local_addr().unwrap();
    let through =
        incoming_with(listener, &certificates, Places::new(3, 2), PREFACE_TIMEOUT).unwrap();
    let (said, mut heard) = mpsc::unbounded_channel();
    tokio::spawn(through.for_each_concurrent(None, move |connection| {
        let said = said.clone();
        async move {
            let mut connection = connection.unwrap();
            while let Ok(read @ 1..) = connection.read(&mut [0; 64]).await {
                said.send(read).unwrap();
            }
        }
    }));

    let bundle = authority.bundle();
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(handshake(ONE, door, &bundle).await.unwrap());
    }
    assert!(handshake(ONE, door, &bundle).await.is_err());
    let mut other = handshake(OTHER, door, &bundle).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    other.write_all(preface).await.unwrap();
    other.flush().await.unwrap();
    assert_eq!(heard.recv().await, Some(preface.len()));
    assert!(handshake("127.0.0.3:0", door, &bundle).await.is_err());

    drop(silent);
    while handshake(ONE, door, &bundle).await.is_err() {
        tokio::task::yield_now().await;
    }
    other.write_all(b"more").await.unwrap();
    other.flush().await.unwrap();
    assert_eq!(heard.recv().await, Some(4), "who spoke stays");
}

#[tokio::test]
async fn who_says_nothing_after_the_handshake_is_hung_up_on() {
    let authority = Authority::for_tests().unwrap();
    let serving = authority.serving("kinora-system", Timestamp::now());
    let certificates = Certificates::new(&serving.unwrap()).unwrap();
    let listener = TcpListener::bind(ONE).await.unwrap();
    let door = listener.local_addr().unwrap();
    let soon = Duration::from_millis(1);
    let through = incoming_with(listener, &certificates, Places::new(2, 2), soon).unwrap();
    let server = async {
        pin_mut!(through);
        let mut connection = through.next().await.unwrap().unwrap();
        connection.read(&mut [0]).await
    };
    let bundle = authority.bundle();
    let client = handshake(ONE, door, &bundle);
    let (end, silent) = tokio::join!(server, client);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    drop(silent.unwrap());
}

/// covers: S16, S10
#[tokio::test]
async fn idle_sockets_of_one_address_keep_no_other_out() {
    let authority = Authority::for_tests().unwrap();
    let serving = authority.serving("kinora-system", Timestamp::now());
    let certificates = Certificates::new(&serving.unwrap()).unwrap();
    let listener = TcpListener::bind(ONE).await.unwrap();
    let door = listener.local_addr().unwrap();
    let through = incoming(listener, &certificates).unwrap();
    tokio::spawn(through.for_each(|_| async {}));

    let mut idle = Vec::new();
    for _ in 0..HANDSHAKES {
        idle.push(connect(ONE, door).await);
    }
    handshake(OTHER, door, &authority.bundle()).await.unwrap();
    let mut rest = idle.split_off(OF_ONE_ADDRESS);
    let waits = |socket: &TcpStream| {
        let read = socket.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert!(idle.iter().all(waits), "those with a place still have it");
    for socket in &mut rest {
        let end = socket.read(&mut [0]).await;
        assert_eq!(end.unwrap_or_default(), 0, "the others were hung up on");
    }
    assert!(handshake(ONE, door, &authority.bundle()).await.is_err());

    drop(idle);
    while handshake(ONE, door, &authority.bundle()).await.is_err() {
        tokio::task::yield_now().await;
    }
}
