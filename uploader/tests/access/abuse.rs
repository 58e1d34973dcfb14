//! HTTP/2 as no client speaks it: every attack ends with its connection, in bounded memory, and a healthy client beside
//! it is served.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::crowds::{peak_mib, server};
use crate::stage::{Stage, video};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;
/// What all attacks together may cost, over what the server had before.
const MOST_MIB: u64 = 64;
/// Connections that do it at a time.
const ATTACKERS: usize = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn literal(name: &str, value: &str) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127, "one byte each");
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// `GET /livez` (or POST, which stays open), in HPACK.
fn head(post: bool) -> Vec<u8> {
    let method = if post { 0x83 } else { 0x82 };
    let path = if post { "/v1/uploads" } else { "/livez" };
    let named = [literal(":path", path), literal(":authority", "x")].concat();
    [&[method, 0x86][..], &named].concat()
}

fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// What the server said until it closed: kinds and error codes of its frames.
async fn ended(mut socket: TcpStream) -> Vec<(u8, u32)> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(120), socket.read_to_end(&mut all));
    // A reset ends it as well, after what was received before.
    let _ = read.await.expect("the connection stays");
    let mut said = Vec::new();
    let mut rest = &all[..];
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let Some(payload) = rest.get(9..9 + length) else {
            break;
        };
        let code = |at: usize| {
            let code = payload
                .get(at..at + 4)
                .map(|b| u32::from_be_bytes(b.try_into().unwrap()));
            code.unwrap_or(0)
        };
        let kind = rest[3];
        said.push((kind, code(if kind == GOAWAY { 4 } else { 0 })));
        rest = &rest[9 + length..];
    }
    said
}

/// Sends it all, as far as it is taken, and tells how the server ends it.
async fn attack(address: &str, bytes: &[u8]) -> Vec<(u8, u32)> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&opening()).await.unwrap();
    let _ = socket.write_all(bytes).await;
    ended(socket).await
}

/// A client that writes and never reads, until it is thrown out; bounded, should it never be.
async fn deaf(address: &str, first: &[u8], again: &[u8]) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(address.parse().unwrap()).await.unwrap();
    socket.write_all(first).await.unwrap();
    let many = again.repeat(1000);
    for _ in 0..2_000 {
        if socket.write_all(&many).await.is_err() {
            return true;
        }
    }
    false
}

fn rapid_resets() -> Vec<u8> {
    let pair = |n: u32| {
        let stream = 2 * n + 1;
        let cancel = 8_u32.to_be_bytes();
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(false));
        [head, frame(RST_STREAM, 0, stream, &cancel)].concat()
    };
    (0..2_000).flat_map(pair).collect()
}

/// A head that goes on in CONTINUATION frames and never ends; empty ones cost the sender least.
fn endless_head(piece: &[u8]) -> Vec<u8> {
    let first = frame(HEADERS, END_STREAM, 1, &head(false));
    [first, frame(CONTINUATION, 0, 1, piece).repeat(5_000)].concat()
}

fn many_streams() -> Vec<u8> {
    let open = |n: u32| frame(HEADERS, END_HEADERS, 2 * n + 1, &head(true));
    (0..500).flat_map(open).collect()
}

/// Frames that no state allows, each answered by a reset, did one not put an end to it.
fn late_data() -> Vec<u8> {
    let stream = |n: u32| {
        let stream = 2 * n + 1;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(false));
        [head, frame(DATA, 0, stream, b"late")].concat()
    };
    (0..2_000).flat_map(stream).collect()
}

/// covers: F6, F7, S7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_abuse_of_http2_ends_with_its_connection_and_stops_nobody() {
    let stage = Stage::new();
    let (child, address) = server(&stage).await;
    let healthy = async |file: Vec<u8>| {
        let request = stage.http.post(format!("http://{address}/v1/uploads"));
        request.body(file).send().await.unwrap().status()
    };
    assert_eq!(healthy(video(9 << 20)).await, 201);
    let before = peak_mib(child.id().unwrap());

    let field = literal("x-filler", &"f".repeat(100));
    let attacks = [
        ("rapid resets", rapid_resets()),
        ("a head without end", endless_head(&field)),
        ("a head without end, of nothing", endless_head(&[])),
        ("too many streams at a time", many_streams()),
        ("data after the end", late_data()),
    ];
    let all = attacks.iter().flat_map(|attack| [attack; ATTACKERS]);
    let all = futures::future::join_all(
        all.map(async |(name, bytes)| (name, attack(&address, bytes).await)),
    );
    let first = opening();
    let asks = b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    let (ping, settings) = (frame(PING, 0, 0, b"8 octets"), frame(SETTINGS, 0, 0, &[]));
    let floods = async {
        tokio::join!(
            deaf(&address, &first, &ping),
            deaf(&address, &first, &settings),
            deaf(&address, asks, asks),
        )
    };
    let beside = async {
        for _ in 0..5 {
            assert_eq!(healthy(video(3 << 20)).await, 201);
        }
    };
    let (ends, floods, ()) = tokio::join!(all, floods, beside);
    for (name, said) in ends {
        let goaway = said.iter().find(|(kind, _)| *kind == GOAWAY);
        let code = goaway.map(|(_, code)| *code);
        println!("{name}: {code:?} after {} frames", said.len());
        assert!(code.is_none_or(|code| code > 0), "{name}: {said:?}");
        match *name {
            "rapid resets" => assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{said:?}"),
            "too many streams at a time" => {
                assert!(said.contains(&(RST_STREAM, REFUSED_STREAM)), "{said:?}");
            }
            _ => {}
        }
    }
    assert_eq!(
        floods,
        (true, true, true),
        "pings, settings, answers that are not read"
    );
    assert_eq!(healthy(video(9 << 20)).await, 201);
    let grown = peak_mib(child.id().unwrap()) - before;
    println!("{grown} MiB more than {before}");
    assert!(grown <= MOST_MIB, "{grown} MiB");
}

/// A head above 16 KiB is refused, and the connection goes on.
/// covers: F7, S7
#[tokio::test]
async fn a_head_above_16_kib_is_refused_over_http2_and_the_connection_goes_on() {
    let stage = Stage::new();
    let replica = stage.replica(&[]).await;
    let socket = TcpStream::connect(replica.address).await.unwrap();
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection);
    for (filler, want) in [(100, 200), (17_000, 431), (100, 200)] {
        let request = Request::get(format!("{}/livez", replica.base));
        let request = request.header("x-filler", "f".repeat(filler));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), want, "{filler} bytes");
    }
}
