//! What is sent to the store: bytes in the pieces in which they came. A part of a video is gathered from a hundred reads
//! of a socket, and copying them into one buffer first would cost as much as sending them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::checksum;

/// Bytes of one object or part. Clones share them, so that a call can be repeated.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pieces: Arc<[Bytes]>,
    len: usize,
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::from(vec![bytes])
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        Self {
            len: pieces.iter().map(Bytes::len).sum(),
            pieces: pieces.into(),
        }
    }
}

impl Payload {
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// CRC64NVME of all bytes.
    #[must_use]
    pub fn crc64(&self) -> u64 {
        let mut pieces = self.pieces.iter();
        let first = checksum::crc64(pieces.next().map_or(&[], Bytes::as_ref));
        pieces.fold(first, |before, piece| {
            checksum::combine(before, checksum::crc64(piece), piece.len() as u64)
        })
    }

    /// A body that can be sent again.
    pub(crate) fn stream(&self) -> ByteStream {
        match &*self.pieces {
            [] => return ByteStream::from_static(b""),
            [whole] => return ByteStream::from(whole.clone()),
            _ => {}
        }
        let payload = self.clone();
        ByteStream::new(SdkBody::retryable(move || {
            SdkBody::from_body_1_x(Pieces {
                pieces: payload.pieces.iter().cloned().collect(),
                left: payload.len as u64,
            })
        }))
    }
}

/// One sending of a payload.
struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_sent_in_order_under_the_checksum_of_the_whole_and_again_when_asked() {
        let whole = Bytes::from_static(b"one two three");
        for cuts in [vec![], vec![4], vec![0, 4, 4, 13]] {
            let mut pieces = Vec::new();
            let mut from = 0;
            for to in cuts.iter().copied().chain([whole.len()]) {
                pieces.push(whole.slice(from..to));
                from = to;
            }
            let payload = Payload::from(pieces);
            assert_eq!(payload.len(), whole.len(), "{cuts:?}");
            assert_eq!(payload.crc64(), checksum::crc64(&whole), "{cuts:?}");
            for _ in 0..2 {
                let stream = payload.stream();
                assert_eq!(stream.size_hint(), (13, Some(13)), "{cuts:?}");
                assert_eq!(stream.collect().await.unwrap().into_bytes(), whole);
            }
        }
        assert!(Payload::default().is_empty());
        assert_eq!(Payload::default().crc64(), checksum::crc64(b""));
    }
}
