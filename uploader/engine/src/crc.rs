//! CRC64NVME, and CRC32C where a client asks for it, of growing and joined byte ranges.

use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc64Nvme};

/// Checksums of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// CRC64NVME.
    pub crc: u64,
    /// CRC32C, where it is asked for.
    pub crc32c: Option<u32>,
}

impl From<u64> for Sums {
    fn from(crc: u64) -> Self {
        Self { crc, crc32c: None }
    }
}

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    low(crc_fast::checksum(Crc32Iscsi, bytes))
}

/// The CRC32C of a range followed by another of `len` bytes, from those of both.
#[must_use]
pub fn join_crc32c(first: u32, second: u32, len: u64) -> u32 {
    if len == 0 {
        return first;
    }
    low(crc_fast::checksum_combine(
        Crc32Iscsi,
        first.into(),
        second.into(),
        len,
    ))
}

/// Checksums of 32 bits come in the low half.
fn low(crc: u64) -> u32 {
    u32::try_from(crc & 0xffff_ffff).unwrap_or_default()
}

/// CRC64NVME of `bytes`.
#[must_use]
pub fn of(bytes: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Nvme, bytes)
}

/// The CRC of a range followed by another of `len` bytes, from the CRCs of both.
#[must_use]
pub fn join(first: u64, second: u64, len: u64) -> u64 {
    if len == 0 {
        first
    } else {
        crc_fast::checksum_combine(Crc64Nvme, first, second, len)
    }
}

/// A running CRC over bytes as they come.
pub struct Running {
    digest: crc_fast::Digest,
    len: u64,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Default for Running {
    fn default() -> Self {
        Self {
            digest: crc_fast::Digest::new(Crc64Nvme),
            len: 0,
        }
    }
}

impl Running {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// The CRC of all bytes so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        if self.len == 0 {
            0
        } else {
            self.digest.finalize()
        }
    }

    /// How many bytes were taken in.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was taken in yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A running CRC of bytes that are cut into parts: of the part under way and of all of them, each byte looked at once.
#[derive(Debug, Default)]
pub struct Parted {
    before: u64,
    part: Running,
}

impl Parted {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.part.update(bytes);
    }

    /// The CRC of the bytes since the last cut; the next part begins.
    pub fn cut(&mut self) -> u64 {
        let value = self.part.value();
        self.before = self.value();
        self.part = Running::default();
        value
    }

    /// The CRC of all bytes so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        join(self.before, self.part.value(), self.part.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_and_running_values_equal_the_value_of_the_whole() {
        let whole = b"a video in three pieces";
        for cut in 0..=whole.len() {
            let (a, b) = whole.split_at(cut);
            assert_eq!(
                join(of(a), of(b), b.len() as u64),
                of(whole),
                "cut at {cut}"
            );
            let mut running = Running::default();
            running.update(a);
            running.update(b);
            assert_eq!(running.value(), of(whole), "running, cut at {cut}");
            assert_eq!(
                join_crc32c(crc32c(a), crc32c(b), b.len() as u64),
                crc32c(whole),
                "CRC32C, cut at {cut}"
            );
        }
        assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value");
        assert_eq!(Running::default().value(), of(b""), "nothing");
    }

    #[test]
    fn a_parted_value_tells_each_part_and_the_whole() {
        let whole = b"a video in three pieces";
        for cut in 0..=whole.len() {
            let (a, b) = whole.split_at(cut);
            let mut parted = Parted::default();
            parted.update(a);
            assert_eq!(parted.cut(), of(a), "first part, cut at {cut}");
            parted.update(b);
            assert_eq!(parted.value(), of(whole), "whole, cut at {cut}");
            assert_eq!(parted.cut(), of(b), "second part, cut at {cut}");
            assert_eq!(parted.value(), of(whole), "whole after a cut at {cut}");
        }
    }
}
