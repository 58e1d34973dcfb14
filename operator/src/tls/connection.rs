//! A worker's connection past its handshake. It keeps its place while it is open, and whoever says nothing of HTTP/2 is hung
//! up on: the pings that find dead peers begin only after that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use kinora_telemetry::door::Place;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// From the handshake to the client's preface.
pub(super) const PREFACE_TIMEOUT: Duration = Duration::from_secs(15);
/// `PRI * HTTP/2.0` and what belongs to it.
const PREFACE_BYTES: usize = 24;

/// Reads and writes what is inside of TLS.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    /// Until the preface is read.
    silent: Option<Silent>,
    _place: Place,
}

#[derive(Debug)]
struct Silent {
    limit: Pin<Box<Sleep>>,
    missing: usize,
}

impl Connection {
    pub(super) fn new(stream: TlsStream<TcpStream>, place: Place, preface: Duration) -> Self {
        let silent = Silent {
            limit: Box::pin(tokio::time::sleep(preface)),
            missing: PREFACE_BYTES,
        };
        Self {
            stream,
            silent: Some(silent),
            _place: place,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let connection = &mut *self;
        if let Some(silent) = &mut connection.silent
            && silent.limit.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut connection.stream).poll_read(context, into))?;
        let read = into.filled().len() - before;
        connection.silent = connection.silent.take().and_then(|silent| {
            let missing = silent.missing.saturating_sub(read);
            (missing > 0).then_some(Silent { missing, ..silent })
        });
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
