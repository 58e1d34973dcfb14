//! Bytes of a body in the pieces in which the socket gave them. Large reads are kept as they are; small ones are copied
//! together, because each would hold on to a whole read buffer, which the budget of memory does not see.

use bytes::{Bytes, BytesMut};
use kinora_storage::Payload;
use kinora_upload_engine::crc::Running;

/// From this size on a read is kept as it is: it fills most of its buffer of 64 KiB.
const KEPT_FROM: usize = 48 << 10;
/// Smaller reads are gathered in blocks. A block is never moved to grow: the next is half as large as all that is there, up to
/// this, so that little of the memory stays empty when a client stalls.
const BLOCK: usize = 256 << 10;

/// Bytes in order.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    list: Vec<Bytes>,
    /// Small reads at the end; as long as there are any.
    block: BytesMut,
    len: usize,
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Self {
            len: bytes.len(),
            list: vec![bytes],
            block: BytesMut::new(),
        }
    }
}

impl From<Pieces> for Payload {
    fn from(mut pieces: Pieces) -> Self {
        pieces.seal();
        Self::from(pieces.list)
    }
}

impl Pieces {
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

    /// Adds a read.
    pub fn push(&mut self, read: Bytes) {
        self.len += read.len();
        if read.len() >= KEPT_FROM {
            self.seal();
            self.list.push(read);
            return;
        }
        let room = self.block.capacity() - self.block.len();
        let (first, rest) = read.split_at(read.len().min(room));
        self.block.extend_from_slice(first);
        if !rest.is_empty() {
            self.seal();
            self.block = BytesMut::with_capacity((self.len / 2).clamp(rest.len(), BLOCK));
            self.block.extend_from_slice(rest);
        }
    }

    /// Adds all of another's.
    pub fn append(&mut self, mut other: Self) {
        self.seal();
        other.seal();
        self.len += other.len;
        self.list.append(&mut other.list);
    }

    fn seal(&mut self) {
        if !self.block.is_empty() {
            self.list.push(std::mem::take(&mut self.block).freeze());
        }
    }

    /// Bytes `[from, to)`, without copying those of large reads.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        let mut found = Self::default();
        let mut at = 0;
        for piece in &self.list {
            let end = at + piece.len();
            let (first, last) = (from.max(at), to.min(end));
            if first < last {
                found.len += last - first;
                found.list.push(piece.slice(first - at..last - at));
            }
            at = end;
        }
        let (first, last) = (from.max(at), to.min(self.len));
        if first < last {
            found.push(Bytes::copy_from_slice(&self.block[first - at..last - at]));
        }
        found
    }

    /// All bytes in order, piece by piece.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let small = std::iter::once(&self.block[..]);
        self.list.iter().map(|piece| &piece[..]).chain(small)
    }

    /// CRC64NVME of all bytes.
    #[must_use]
    pub fn crc64(&self) -> u64 {
        let mut crc = Running::default();
        self.iter().for_each(|piece| crc.update(piece));
        crc.value()
    }

    /// The first `most` bytes in one piece of memory.
    #[must_use]
    pub fn head(&self, most: usize) -> Bytes {
        self.slice(0, most.min(self.len)).into_bytes()
    }

    /// All bytes in one piece of memory; costs a copy unless they are in one already.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        self.seal();
        match self.list.as_slice() {
            [] => Bytes::new(),
            [whole] => whole.clone(),
            pieces => {
                let mut all = BytesMut::with_capacity(self.len);
                pieces.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_the_bytes_that_were_pushed_however_they_came(
            reads in proptest::collection::vec(0usize..60_000, 0..24),
            cut in (0usize..700_000, 0usize..700_000),
        ) {
            let mut whole = Vec::new();
            let mut pieces = Pieces::default();
            for (n, size) in reads.iter().enumerate() {
                let read: Vec<u8> = (0..*size).map(|at| (at * 7 + n) as u8).collect();
                whole.extend_from_slice(&read);
                pieces.push(read.into());
            }
            prop_assert_eq!(pieces.len(), whole.len());
            let (from, to) = (cut.0.min(whole.len()), cut.1.min(whole.len()));
            let want = whole.get(from..to).unwrap_or_default();
            prop_assert_eq!(pieces.slice(from, to).into_bytes(), want);
            let mut joined = pieces.slice(0, from);
            joined.append(pieces.slice(from, whole.len()));
            prop_assert_eq!(joined.into_bytes(), whole.as_slice());
            let crc = kinora_storage::checksum::crc64(&whole);
            prop_assert_eq!(pieces.crc64(), crc);
            prop_assert_eq!(Payload::from(pieces.clone()).crc64(), crc);
            prop_assert_eq!(pieces.into_bytes(), whole);
        }
    }

    /// A phone's reads are small, and each is a slice of a buffer of up to 64 KiB.
    #[test]
    fn small_reads_do_not_hold_on_to_their_buffers() {
        let mut pieces = Pieces::default();
        let buffer = Bytes::from(vec![1u8; 64 << 10]);
        for size in [1400, 16 << 10, KEPT_FROM - 1].repeat(100) {
            pieces.push(buffer.slice(..size));
        }
        drop(pieces.slice(0, 1));
        assert!(buffer.is_unique(), "nothing holds the read buffer");
        assert!(
            pieces.list.len() <= pieces.len() / BLOCK + 16,
            "blocks are large: {}",
            pieces.list.len()
        );
    }

    #[test]
    fn at_most_a_third_of_the_memory_stays_empty() {
        let mut pieces = Pieces::default();
        let read = Bytes::from(vec![1u8; 1400]);
        for _ in 0..400 {
            pieces.push(read.clone());
            let empty = pieces.block.capacity() - pieces.block.len();
            assert!(empty <= pieces.len() / 2, "{empty} beside {}", pieces.len());
        }
        assert!(pieces.list.len() < 20, "{} blocks", pieces.list.len());
    }
}
