//! The videos that are sent: a small real one with a `free` box behind it, which players skip, so that a file of any
//! length passes every check of a video. The filling is noise, so that no store can make it smaller.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use kinora_storage::checksum;

/// Ten seconds of real video; licence: `e2e/samples/README.md`.
const SAMPLE: &[u8] = include_bytes!("../../samples/bikes.mp4");
const NOISE: usize = 1 << 20;

/// One file, made up as it is read.
#[derive(Clone, Debug)]
pub(crate) struct Video {
    head: Bytes,
    noise: Bytes,
    length: u64,
}

impl Video {
    /// A video of so many bytes; never less than the sample and the header of a box.
    pub(crate) fn new(length: u64) -> Self {
        let sample = SAMPLE.len() as u64;
        let length = length.clamp(sample + 8, sample + u64::from(u32::MAX));
        let mut head = BytesMut::from(SAMPLE);
        head.put_u32(u32::try_from(length - sample).unwrap_or(u32::MAX));
        head.put_slice(b"free");
        Self {
            head: head.freeze(),
            noise: noise(),
            length,
        }
    }

    /// Bytes in it.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The next bytes from `at` on, before `end`; as many as lie together.
    pub(crate) fn piece(&self, at: u64, end: u64) -> Bytes {
        let head = self.head.len() as u64;
        let end = end.min(self.length);
        if at < head {
            return self.head.slice(index(at)..index(head.min(end)));
        }
        let within = (at - head) % NOISE as u64;
        let to = (NOISE as u64).min(within + end.saturating_sub(at));
        self.noise.slice(index(within)..index(to))
    }

    /// A range of it in one piece of memory.
    pub(crate) fn bytes(&self, range: Range<u64>) -> Bytes {
        let mut all = BytesMut::with_capacity(index(range.end - range.start));
        let mut at = range.start;
        while at < range.end.min(self.length) {
            let piece = self.piece(at, range.end);
            at += piece.len() as u64;
            all.extend_from_slice(&piece);
        }
        all.freeze()
    }

    /// CRC64NVME of all of it.
    pub(crate) fn crc64(&self) -> u64 {
        let (mut at, mut crc) = (0, None);
        while at < self.length {
            let piece = self.piece(at, self.length);
            let next = checksum::crc64(&piece);
            crc = Some(crc.map_or(next, |before| {
                checksum::combine(before, next, piece.len() as u64)
            }));
            at += piece.len() as u64;
        }
        crc.unwrap_or_default()
    }
}

/// Bytes that look random and are the same in every run.
fn noise() -> Bytes {
    let mut noise = BytesMut::with_capacity(NOISE);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while noise.len() < NOISE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.put_u64(state);
    }
    noise.freeze()
}

/// Distances inside a piece always fit.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_is_the_sample_and_a_box_that_reaches_to_its_end() {
        let video = Video::new(5 << 20);
        let whole = video.bytes(0..video.length());
        assert_eq!(whole.len(), 5 << 20);
        assert_eq!(&whole[..SAMPLE.len()], SAMPLE);
        let size = u32::from_be_bytes(whole[SAMPLE.len()..][..4].try_into().unwrap());
        assert_eq!(SAMPLE.len() + size as usize, whole.len());
        assert_eq!(video.crc64(), checksum::crc64(&whole));
        let cut = 2_345_678;
        assert_eq!(
            [video.bytes(0..cut), video.bytes(cut..5 << 20)].concat(),
            whole
        );
    }

    #[test]
    fn no_video_is_shorter_than_the_sample() {
        assert_eq!(Video::new(1).length(), SAMPLE.len() as u64 + 8);
    }
}
