//! The plain HTTP port of a component: health, metrics and what else is answered from memory. Every pod of the cluster may
//! reach it, so all that a connection can hold has a limit: bytes, time and how many there are.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::door::Door;

/// Bytes of a request's head, and of what waits to be sent.
const BUFFER: usize = 16 << 10;

/// Limits on connections.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// All connections.
    all: usize,
    /// Those of one address, so that no single pod takes the places of the kubelet's probes.
    of_one_address: usize,
    /// For the head of a request, the wait for its first byte included. Shorter than any client pauses on purpose (uploaders
    /// ask every 5 seconds), so that none sends its next request into the end.
    head: Duration,
    /// For all requests of a connection.
    life: Duration,
    /// For an answer that is under way when the connection is to end.
    answer: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            all: 256,
            of_one_address: 16,
            head: Duration::from_secs(3),
            life: Duration::from_secs(60),
            answer: Duration::from_secs(5),
        }
    }
}

/// Serves HTTP/1.1 until `end`, then lets running requests finish.
pub async fn serve(listener: TcpListener, router: Router, end: CancellationToken) {
    serve_within(Bounds::default(), listener, router, end).await;
}

async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    router: Router,
    end: CancellationToken,
) {
    let door = Door::new(listener, bounds.all, bounds.of_one_address);
    let connections = TaskTracker::new();
    loop {
        let (stream, _, place) = tokio::select! {
            () = end.cancelled() => break,
            next = door.next() => next,
        };
        let (router, end) = (router.clone(), end.clone());
        connections.spawn(async move {
            converse(bounds, stream, router, end).await;
            drop(place);
        });
    }
    drop(door);
    connections.close();
    connections.wait().await;
}

async fn converse(bounds: Bounds, stream: TcpStream, router: Router, end: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(BUFFER)
        .max_header_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = until(&end, bounds.life) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(bounds.answer, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
        Err(_) => tracing::debug!("an answer was not taken"),
    }
}

/// Resolves at the end, or after so long.
async fn until(end: &CancellationToken, life: Duration) {
    let _ = tokio::time::timeout(life, end.cancelled()).await;
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
