//! CRC64NVME, the checksum S3 keeps for full objects: compute, combine, and the base64 spelling of its header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm::Crc64Nvme;

/// CRC64NVME of bytes.
#[must_use]
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Nvme, bytes)
}

/// CRC64NVME of A followed by B, from theirs and the length of B in bytes.
#[must_use]
pub fn combine(a: u64, b: u64, len_b: u64) -> u64 {
    crc_fast::checksum_combine(Crc64Nvme, a, b, len_b)
}

/// As S3 headers and listings spell it: base64 of the 8 big-endian bytes.
#[must_use]
pub fn to_base64(crc: u64) -> String {
    STANDARD.encode(crc.to_be_bytes())
}

/// Reads the spelling of S3; None if it is no CRC64.
#[must_use]
pub fn from_base64(text: &str) -> Option<u64> {
    let bytes: [u8; 8] = STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// CRC64NVME of bytes, spelled for a header.
#[must_use]
pub fn crc64_base64(bytes: &[u8]) -> String {
    to_base64(crc64(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!(crc64(b"123456789"), 0xae8b_1486_0a79_9888);
        assert_eq!(from_base64(&to_base64(1)), Some(1));
        assert_eq!(from_base64("AAAA"), None);
        assert_eq!(from_base64("not base64"), None);
    }

    proptest! {
        #[test]
        fn combining_equals_computing(a in proptest::collection::vec(any::<u8>(), 0..300), b in proptest::collection::vec(any::<u8>(), 0..300)) {
            let whole = [a.as_slice(), b.as_slice()].concat();
            prop_assert_eq!(combine(crc64(&a), crc64(&b), b.len() as u64), crc64(&whole));
        }
    }
}
