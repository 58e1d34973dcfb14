//! What a connection may hold, over real sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const ONE: &str = "127.0.0.1:0";
const OTHER: &str = "127.0.0.2:0";
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(50);
/// For what has to happen at some time.
const SOON: Duration = Duration::from_secs(60);

/// Nothing ends by time.
fn patient() -> Bounds {
    Bounds {
        head: LONG,
        life: LONG,
        answer: LONG,
        ..Bounds::default()
    }
}

struct Port {
    at: SocketAddr,
    end: CancellationToken,
    task: JoinHandle<()>,
}

async fn open(bounds: Bounds) -> Port {
    let listener = TcpListener::bind(ONE).await.unwrap();
    let at = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/large", get(async || vec![0; 64 << 20]));
    let end = CancellationToken::new();
    let task = tokio::spawn(serve_within(bounds, listener, router, end.clone()));
    Port { at, end, task }
}

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the connection answers a request; it stays.
async fn answers(stream: &mut TcpStream, headers: &str) -> bool {
    let head = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok\n") {
        match timeout(SOON, stream.read_buf(&mut answer)).await.unwrap() {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
    }
    answer.starts_with(b"HTTP/1.1 200 OK\r\n")
}

/// Reads until the server closes.
async fn closed(stream: &mut TcpStream) {
    let read = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
    match read.expect("the server closes") {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// covers: F6
#[tokio::test]
async fn a_head_has_to_be_small() {
    let port = open(patient()).await;
    let padding = |bytes| format!("Padding: {}\r\n", "x".repeat(bytes));
    let mut stream = connect(ONE, port.at).await;
    assert!(answers(&mut stream, &padding(12 << 10)).await);
    assert!(answers(&mut stream, "").await, "the connection is kept");
    assert!(!answers(&mut stream, &padding(17 << 10)).await);

    let mut unfinished = connect(ONE, port.at).await;
    let head = format!("GET /livez HTTP/1.1\r\n{}", padding(17 << 10));
    unfinished.write_all(head.as_bytes()).await.unwrap();
    closed(&mut unfinished).await;
}

/// covers: F6
#[tokio::test]
async fn a_head_has_to_come_soon() {
    let bounds = Bounds {
        head: SHORT,
        ..patient()
    };
    let port = open(bounds).await;
    for begin in ["", "GET /livez HTTP/1.1\r\nHost:"] {
        let mut stream = connect(ONE, port.at).await;
        stream.write_all(begin.as_bytes()).await.unwrap();
        closed(&mut stream).await;
    }
}

/// covers: F6
#[tokio::test]
async fn connections_of_one_address_keep_no_other_out() {
    let port = open(patient()).await;
    let mut mine = Vec::new();
    for _ in 0..Bounds::default().of_one_address {
        let mut stream = connect(ONE, port.at).await;
        assert!(answers(&mut stream, "").await);
        mine.push(stream);
    }
    closed(&mut connect(ONE, port.at).await).await;
    assert!(answers(&mut connect(OTHER, port.at).await, "").await);
    for stream in &mut mine {
        assert!(answers(stream, "").await, "those with a place keep it");
    }
    mine.pop();
    while !answers(&mut connect(ONE, port.at).await, "").await {
        tokio::task::yield_now().await;
    }
}

/// covers: F6
#[tokio::test]
async fn who_does_not_take_an_answer_loses_the_place() {
    let bounds = Bounds {
        all: 1,
        life: SHORT,
        answer: SHORT,
        ..patient()
    };
    let port = open(bounds).await;
    let mut stuck = connect(ONE, port.at).await;
    let head = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    stuck.write_all(head).await.unwrap();
    stuck.readable().await.unwrap();
    // There is one place, and those who come wait for it.
    while !answers(&mut connect(ONE, port.at).await, "").await {
        tokio::task::yield_now().await;
    }
    drop(stuck);
}

#[tokio::test]
async fn the_end_waits_for_no_idle_connection() {
    let port = open(patient()).await;
    let mut idle = connect(ONE, port.at).await;
    assert!(answers(&mut idle, "").await);
    port.end.cancel();
    timeout(SOON, port.task).await.expect("it ends").unwrap();
    closed(&mut idle).await;
}
