//! HTTP/2 bodies that were cut. hyper takes a reset with `NO_ERROR` for the end of a body, as a client may that has read an early
//! answer; but to a server it says that the sender is gone, and proxies send it when their client is. Half a file is no file.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of HTTP/2 that ends well only where its sender ended it. Not for HTTP/1.1, where a chunked body never tells.
pub(super) struct Whole<B>(pub(super) B);

impl<B> Body for Whole<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = ready!(Pin::new(&mut self.0).poll_frame(context));
        Poll::Ready(match polled {
            None if !self.0.is_end_stream() => {
                let cut = io::Error::new(io::ErrorKind::ConnectionReset, "the body was cut");
                Some(Err(cut.into()))
            }
            polled => polled.map(|frame| frame.map_err(Into::into)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
