//! An HTTP/1.1 connection below hyper, onto which a request can put an informational answer (104), which hyper cannot
//! send: whole, never inside of something that hyper writes, and never after the answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tower::util::MapRequestLayer;

/// Hyper doubles its buffer at each read that fills it. Until a connection has brought so much its reads do not: of
/// thousands that send a little and then stall, each would wait with a larger buffer than it will need.
const EARLY: usize = 64 << 10;
/// Less than the smallest that hyper takes for a buffer filled, however much room its buffer has.
const EARLY_READ: usize = 8191;

/// A connection.
#[derive(Debug)]
pub struct Wire {
    read: OwnedReadHalf,
    /// Bytes that came, as long as they are few.
    brought: usize,
    write: Arc<Mutex<Writing>>,
}

#[derive(Debug)]
struct Writing {
    half: OwnedWriteHalf,
    /// Whether all that hyper began to write has gone out.
    clean: bool,
    /// What is left of an informational answer.
    owed: Bytes,
}

/// Puts an informational answer before the answer of a request; in the extensions of every request of the connection.
#[derive(Clone, Debug)]
pub struct Interim(Arc<Mutex<Writing>>);

impl Wire {
    /// Over a connection that was accepted.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        let (read, half) = stream.into_split();
        let write = Writing {
            half,
            clean: true,
            owed: Bytes::new(),
        };
        Self {
            read,
            brought: 0,
            write: Arc::new(Mutex::new(write)),
        }
    }

    /// The handle for informational answers on this connection.
    #[must_use]
    pub fn interim(&self) -> Interim {
        Interim(Arc::clone(&self.write))
    }

    /// A read that leaves room in the buffer.
    fn poll_early(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.read.as_ref().poll_read_ready(context))?;
            let room = EARLY_READ.min(buffer.remaining() - 1);
            match self.read.try_read(buffer.initialize_unfilled_to(room)) {
                Ok(n) => {
                    buffer.advance(n);
                    self.brought += n;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn lock(write: &Mutex<Writing>) -> MutexGuard<'_, Writing> {
    write.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Interim {
    /// Writes the handle into each request.
    pub fn layer<B>(self) -> MapRequestLayer<impl FnMut(Request<B>) -> Request<B> + Clone> {
        MapRequestLayer::new(move |mut request: Request<B>| {
            request.extensions_mut().insert(self.clone());
            request
        })
    }

    /// Sends a whole message, unless an earlier answer is still on its way: false, and nothing was sent.
    #[must_use]
    pub fn send(&self, message: Bytes) -> bool {
        let mut write = lock(&self.0);
        if !write.clean || !write.owed.is_empty() {
            return false;
        }
        write.owed = message;
        // What does not go out at once goes before hyper's next byte.
        if let Ok(n) = write.half.try_write(&write.owed) {
            write.owed.advance(n);
        }
        true
    }
}

impl Writing {
    fn poll_owed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.owed.is_empty() {
            let n = std::task::ready!(Pin::new(&mut self.half).poll_write(context, &self.owed))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.owed.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.brought < EARLY && buffer.remaining() > 1 {
            return self.poll_early(context, buffer);
        }
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut write = lock(&self.write);
        std::task::ready!(write.poll_owed(context))?;
        write.clean = false;
        Pin::new(&mut write.half).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut write = lock(&self.write);
        std::task::ready!(write.poll_owed(context))?;
        write.clean = false;
        Pin::new(&mut write.half).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut write = lock(&self.write);
        std::task::ready!(write.poll_owed(context))?;
        std::task::ready!(Pin::new(&mut write.half).poll_flush(context))?;
        // Hyper flushes once all it has was written.
        write.clean = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut write = lock(&self.write);
        std::task::ready!(write.poll_owed(context))?;
        Pin::new(&mut write.half).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Wire) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (client, Wire::new(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn an_informational_answer_is_never_inside_of_another() {
        let (mut client, mut wire) = pair().await;
        let interim = wire.interim();
        wire.write_all(b"half of an").await.unwrap();
        assert!(
            !interim.send(Bytes::from_static(b"[104]")),
            "not in the middle"
        );
        wire.write_all(b" answer;").await.unwrap();
        wire.flush().await.unwrap();
        assert!(interim.send(Bytes::from_static(b"[104]")));
        wire.write_all(b"the next").await.unwrap();
        wire.shutdown().await.unwrap();
        drop((wire, interim));
        let mut all = String::new();
        client.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "half of an answer;[104]the next");
    }

    #[tokio::test]
    async fn all_bytes_come_in_order_and_the_first_reads_are_small() {
        let (mut client, mut wire) = pair().await;
        let sent: Vec<u8> = (0..3 * EARLY).map(|at| (at % 251) as u8).collect();
        let copy = sent.clone();
        let sending = tokio::spawn(async move { client.write_all(&copy).await });
        let (mut all, mut buffer) = (Vec::new(), [0; 3 * 8192]);
        while all.len() < sent.len() {
            let early = all.len() < EARLY;
            let n = wire.read(&mut buffer).await.unwrap();
            assert!(n > 0, "it ended after {}", all.len());
            assert!(!early || n <= EARLY_READ, "{n} bytes after {}", all.len());
            all.extend_from_slice(&buffer[..n]);
        }
        assert!(all == sent);
        sending.await.unwrap().unwrap();
        assert_eq!(wire.read(&mut buffer).await.unwrap(), 0, "the end");
    }
}
