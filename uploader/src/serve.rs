//! The listener: HTTP/1.1 with limits on headers, and connections that end in order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A client has this long for the headers of a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const READ_BUFFER: usize = 64 << 10;
const MAX_HEADERS: usize = 64;
const MAX_CONNECTIONS: usize = 10_000;

/// Serves until `end`, then lets running requests finish.
pub async fn serve(listener: Arc<TcpListener>, router: Router, end: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let place = tokio::select! {
            () = end.cancelled() => break,
            place = place => place,
        };
        let stream = tokio::select! {
            () = end.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match stream {
            Ok((stream, _)) => {
                let (router, end) = (router.clone(), end.clone());
                connections.spawn(async move {
                    converse(stream, router, end).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: closing connections free some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn converse(stream: TcpStream, router: Router, end: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(READ_BUFFER)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
