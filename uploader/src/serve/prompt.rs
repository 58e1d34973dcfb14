//! The head of a request has to come soon after its first byte. Hyper's timer runs on an idle connection as well, which
//! may stay much longer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::idle::Meter;

/// A connection whose reads fail when a head that has begun takes longer than so.
#[derive(Debug)]
pub(super) struct Prompt<S> {
    inner: S,
    meter: Meter,
    within: Duration,
    /// Runs out while a head comes; with how many requests there had been before it.
    begun: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Prompt<S> {
    /// `meter` counts the connection's requests.
    pub(super) fn new(inner: S, meter: Meter, within: Duration) -> Self {
        Self {
            inner,
            meter,
            within,
            begun: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let (seen, within) = (self.meter.seen(), self.within);
        if self.meter.is_running() || self.begun.as_ref().is_some_and(|(nth, _)| *nth != seen) {
            self.begun = None;
        }
        if self.meter.is_running() {
            return polled;
        }
        if polled.is_ready() {
            if buffer.filled().len() > before {
                self.begun
                    .get_or_insert_with(|| (seen, Box::pin(tokio::time::sleep(within))));
            }
            return polled;
        }
        match &mut self.begun {
            None => Poll::Pending,
            Some((_, late)) => late
                .as_mut()
                .poll(context)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// covers: S7
    #[tokio::test]
    async fn a_head_that_has_begun_must_come_and_an_idle_connection_may_wait() {
        let (mut client, server) = duplex(100);
        let meter = Meter::default();
        let within = Duration::from_millis(20);
        let mut server = Prompt::new(server, meter.clone(), within);
        let mut bytes = [0; 9];

        let idle = tokio::time::timeout(within * 3, server.read(&mut bytes)).await;
        assert!(idle.is_err(), "nothing has begun");
        client.write_all(b"GET").await.unwrap();
        assert_eq!(server.read(&mut bytes).await.unwrap(), 3);
        let running = meter.enter();
        let body = tokio::time::timeout(within * 3, server.read(&mut bytes)).await;
        assert!(body.is_err(), "a body has limits of its own");
        let lingers = running.clone();
        drop(running);
        client.write_all(b"body").await.unwrap();
        assert_eq!(server.read(&mut bytes).await.unwrap(), 4);
        drop(lingers);
        let idle = tokio::time::timeout(within * 3, server.read(&mut bytes)).await;
        assert!(idle.is_err(), "the next has not begun");

        client.write_all(b"GET").await.unwrap();
        assert_eq!(server.read(&mut bytes).await.unwrap(), 3);
        // A request of which nothing was read while it ran.
        drop(meter.enter());
        let idle = tokio::time::timeout(within * 3, server.read(&mut bytes)).await;
        assert!(idle.is_err(), "it was another head that had begun");

        client.write_all(b"G").await.unwrap();
        assert_eq!(server.read(&mut bytes).await.unwrap(), 1);
        let drip = async {
            loop {
                tokio::time::sleep(within / 4).await;
                client.write_all(b"E").await.unwrap();
            }
        };
        let read = async {
            loop {
                if let Err(error) = server.read(&mut bytes).await {
                    return error;
                }
            }
        };
        let late = tokio::select! {
            error = read => error,
            () = drip => unreachable!("it drips for ever"),
        };
        assert_eq!(late.kind(), io::ErrorKind::TimedOut, "byte by byte");
    }
}
