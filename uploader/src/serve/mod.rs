//! The listener: HTTP/1.1 and HTTP/2 (with prior knowledge) on one port, with limits on headers,
//! connections and streams, and connections that end in order.

pub(crate) mod full;
mod idle;
mod parting;
mod patient;
mod places;
mod preface;
mod prompt;
mod whole;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;
use tower::util::MapRequestLayer;

use crate::metrics::{Limit, Metrics};
use crate::wire::Wire;
pub(crate) use idle::Running;
pub(crate) use parting::Parting;
use patient::Patient;
pub use places::Caps;
use places::{Full, Places};
use prompt::Prompt;
use whole::Whole;

/// A client has this long for the headers of a request, from their first byte on, and to begin the first.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// A connection whose client takes nothing of what is sent is closed after this.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
const READ_BUFFER: usize = 64 << 10;
/// Bytes of a request's head.
const MAX_HEADER_BYTES: u32 = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Streams of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 32;
/// Streams that a client may reset before they were looked at; more is an attack and ends the connection.
const MAX_RESETS: usize = 20;
/// Unread bytes of one stream and of one connection: they are outside the budget of bodies. Streams that are not read for a
/// while leave the others their room.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
const PING_EVERY: Duration = Duration::from_secs(20);

/// The client's address as the socket tells it; in the extensions of every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Serves until `end`, then lets running requests finish, and tells clients of idle connections to take another.
pub async fn serve(listener: Arc<TcpListener>, router: Router, end: CancellationToken) {
    serve_counted(listener, router, Caps::default(), &Metrics::default(), end).await;
}

/// The same with other limits on connections, which are counted.
pub async fn serve_counted(
    listener: Arc<TcpListener>,
    router: Router,
    caps: Caps,
    metrics: &Metrics,
    end: CancellationToken,
) {
    let connections = TaskTracker::new();
    let idle = caps.idle;
    let places = Places::new(caps);
    let parting = Parting::at(end.clone());
    let full = full::router(&router, metrics);
    loop {
        let spare = tokio::select! {
            () = end.cancelled() => break,
            spare = places.spare() => spare,
        };
        let stream = tokio::select! {
            () = end.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match stream {
            Ok((stream, peer)) => {
                let counted = metrics.connected();
                match places.of(peer.ip()) {
                    Ok(place) => {
                        let (router, parting) = (router.clone(), parting.clone());
                        connections.spawn(async move {
                            converse(stream, peer, router, parting, idle).await;
                            drop((place, counted));
                        });
                    }
                    Err(Full::House) => {
                        let router = full.clone();
                        connections.spawn(async move {
                            full::turn_away(stream, peer, router).await;
                            drop((spare, counted));
                        });
                    }
                    // This connection is closed at once.
                    Err(Full::Address) => metrics.limited(Limit::AddressConnections),
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: closing connections free some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    tokio::join!(connections.wait(), parting.part(connections.wait()));
}

pub(crate) async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    parting: Parting,
    idle: Duration,
) {
    let _ = stream.set_nodelay(true);
    let known = tokio::select! {
        () = parting.over() => return,
        known = tokio::time::timeout(HEADERS_WITHIN, preface::look(&stream)) => known,
    };
    let ended = match known {
        Ok(Ok(preface::Protocol::Http1)) => http1(stream, peer, router, parting, idle).await,
        // The rarer one, and the larger: most connections need no room for it.
        Ok(Ok(preface::Protocol::Http2)) => {
            Box::pin(http2(stream, peer, router, parting, idle)).await
        }
        // Silent, or gone.
        Ok(Err(_)) | Err(_) => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn http1(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    parting: Parting,
    idle: Duration,
) -> hyper::Result<()> {
    let wire = Wire::new(stream);
    let meter = idle::Meter::default();
    let service = ServiceBuilder::new()
        .layer(parting.layer())
        .layer(from_peer(peer))
        .layer(meter.layer())
        .layer(wire.interim().layer())
        .service(router);
    let wire = Prompt::new(wire, meter, HEADERS_WITHIN);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(READ_BUFFER)
        .max_header_size(MAX_HEADER_BYTES as usize)
        .max_headers(MAX_HEADERS)
        .serve_connection(
            TokioIo::new(Patient::new(wire, TAKEN_WITHIN)),
            TowerToHyperService::new(service),
        );
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = parting.over() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn http2(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    parting: Parting,
    idle: Duration,
) -> hyper::Result<()> {
    let meter = idle::Meter::default();
    let whole = MapRequestLayer::new(|request: Told<Incoming>| request.map(Whole));
    let service = ServiceBuilder::new()
        .layer(whole)
        .layer(from_peer(peer))
        .layer(meter.layer())
        .service(router);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(READ_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(HEADERS_WITHIN)
        .serve_connection(
            TokioIo::new(Patient::new(stream, TAKEN_WITHIN)),
            TowerToHyperService::new(service),
        );
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        // Its clients are told before their next request.
        () = parting.begun() => {}
        () = meter.idle_for(idle) => {}
    }
    connection.as_mut().graceful_shutdown();
    let ended = meter.until_taken(connection, TAKEN_WITHIN).await;
    ended.unwrap_or(Ok(()))
}

type Told<B> = http::Request<B>;

/// Writes the peer's address into each request.
fn from_peer<B>(peer: SocketAddr) -> MapRequestLayer<impl FnMut(Told<B>) -> Told<B> + Clone> {
    MapRequestLayer::new(move |mut request: Told<B>| {
        request.extensions_mut().insert(Peer(peer));
        request
    })
}
