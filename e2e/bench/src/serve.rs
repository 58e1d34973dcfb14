//! A small HTTP server on loopback, for what stands in for the store and for Kubernetes.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Bodies of parts are read in pieces of this size.
const READ_BUFFER: usize = 512 << 10;

/// A running server; it ends with the handle.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Answers every request with `handler`.
pub(crate) async fn start<H, F>(handler: H) -> Result<Server>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("listen on loopback")?;
    let address = listener.local_addr()?;
    let accepting = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let handler = handler.clone();
            connections.spawn(async move {
                let served = http1::Builder::new()
                    .max_buf_size(READ_BUFFER)
                    .serve_connection(TokioIo::new(stream), service_fn(handler));
                // Clients that are killed break their connections.
                let _ = served.await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(Server { address, accepting })
}
