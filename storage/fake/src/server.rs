//! Sockets: whole requests in, answers out with the store's `Date`, or the connection cut where a fault says so.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, DATE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3Service;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::faults::Fault;
use crate::journal::Outcome;
use crate::service::{Shared, Slot, service};

const INTERNAL_ERROR: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <Error><Code>InternalError</Code><Message>as told</Message></Error>";

/// No answer: the connection ends.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut as told")
    }
}

impl std::error::Error for Cut {}

/// Serves on a thread of its own until stopped.
pub(crate) fn start(shared: Arc<Shared>, stop: CancellationToken) -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("fake-s3".into())
        .spawn(move || {
            runtime.block_on(async {
                if let Ok(listener) = TcpListener::from_std(listener) {
                    stop.run_until_cancelled(accept(listener, shared)).await;
                }
            });
        })?;
    Ok(address)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let service = service(&shared);
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&shared), service.clone()));
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>, service: S3Service) {
    // Small answers must not wait for each other.
    let _ = stream.set_nodelay(true);
    let answer = hyper::service::service_fn(move |request| {
        let (shared, service) = (Arc::clone(&shared), service.clone());
        async move { answer(&shared, &service, request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), answer);
    // Cut connections are errors here, and meant.
    let _ = connection.await;
}

async fn answer(
    shared: &Arc<Shared>,
    service: &S3Service,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Cut> {
    let slot = Arc::new(Slot::default());
    let (mut head, body) = request.into_parts();
    head.extensions.insert(Arc::clone(&slot));
    // Faults strike whole requests, so that each answer is read rather than lost in a reset.
    let body = whole(body).await?;
    let done = service.call(Request::from_parts(head, body.into())).await;
    let note = |outcome| {
        if let Some(at) = slot.noted.get() {
            shared.journal.end(*at, outcome);
        }
    };
    let mut done = done.map_err(|_| Cut)?;
    match slot.fault.get() {
        Some(Fault::LostRequest | Fault::LostAnswer) => {
            note(Outcome::Cut);
            return Err(Cut);
        }
        Some(Fault::NoAnswer) => {
            note(Outcome::Cut);
            return std::future::pending().await;
        }
        Some(Fault::DoneInternalError) => done = internal_error(),
        _ => {}
    }
    note(Outcome::Answered(done.status().as_u16()));
    if let Ok(date) = HeaderValue::from_str(&shared.clock.http_date()) {
        done.headers_mut().insert(DATE, date);
    }
    Ok(done)
}

fn internal_error() -> Response<s3s::Body> {
    let mut answer = Response::new(s3s::Body::from(Bytes::from_static(
        INTERNAL_ERROR.as_bytes(),
    )));
    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let xml = HeaderValue::from_static("application/xml");
    answer.headers_mut().insert(CONTENT_TYPE, xml);
    answer
}

async fn whole(mut body: Incoming) -> Result<Bytes, Cut> {
    let (mut first, mut all) = (None, BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Cut)?.into_data() else {
            continue;
        };
        match first.take() {
            None if all.is_empty() => first = Some(data),
            held => {
                all.extend_from_slice(&held.unwrap_or_default());
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}
