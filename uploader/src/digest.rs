//! Digests of bodies and of whole files: the algorithms that are offered, running values, and the
//! comparison with what a client said.

use std::collections::BTreeMap;

use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc64Nvme};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// An algorithm that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-1, over tus only.
    Sha1,
    /// SHA-256.
    Sha256,
    /// CRC32C, big-endian.
    Crc32c,
    /// CRC64NVME, big-endian.
    Crc64Nvme,
}

impl Algorithm {
    /// All, in the order in which they are announced.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Crc32c, Self::Crc64Nvme];

    /// By its name in `Upload-Checksum`.
    #[must_use]
    pub fn of_tus(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.tus() == name)
    }

    /// By its name in `Content-Digest` and `Repr-Digest`.
    #[must_use]
    pub fn of_http(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.http() == Some(name))
    }

    /// Its name in `Upload-Checksum`.
    #[must_use]
    pub const fn tus(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Crc32c => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
        }
    }

    /// Its name in the fields of RFC 9530; CRC64NVME has the name that S3 gives it.
    #[must_use]
    pub const fn http(self) -> Option<&'static str> {
        match self {
            Self::Sha1 => None,
            Self::Sha256 => Some("sha-256"),
            Self::Crc32c => Some("crc32c"),
            Self::Crc64Nvme => Some("crc64nvme"),
        }
    }

    /// Bytes of a digest.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
        }
    }
}

/// A digest that a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The digest.
    pub digest: Vec<u8>,
}

enum Running {
    Sha1(Sha1),
    Sha256(Sha256),
    Crc(crc_fast::Digest, Algorithm),
}

impl Running {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Crc32c => Self::Crc(crc_fast::Digest::new(Crc32Iscsi), algorithm),
            Algorithm::Crc64Nvme => Self::Crc(crc_fast::Digest::new(Crc64Nvme), algorithm),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
            Self::Crc(digest, _) => digest.update(bytes),
        }
    }

    fn value(&self) -> Vec<u8> {
        match self {
            Self::Sha1(digest) => digest.clone().finalize().to_vec(),
            Self::Sha256(digest) => digest.clone().finalize().to_vec(),
            Self::Crc(digest, algorithm) => {
                let bytes = digest.finalize().to_be_bytes();
                bytes[bytes.len() - algorithm.size()..].to_vec()
            }
        }
    }
}

/// The comparison of a body with what was said of it.
#[derive(Default)]
pub struct Check(Vec<(Said, Running)>);

impl Check {
    /// Of these digests; none when nothing was said.
    #[must_use]
    pub fn of(said: Vec<Said>) -> Option<Self> {
        let running = said.into_iter().map(|said| {
            let running = Running::new(said.algorithm);
            (said, running)
        });
        let check = Self(running.collect());
        (!check.0.is_empty()).then_some(check)
    }

    /// How many digests run.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.0.len()
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        for (_, running) in &mut self.0 {
            running.update(bytes);
        }
    }

    /// Whether the bytes so far are those that were said.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0
            .iter()
            .all(|(said, running)| said.digest == running.value())
    }
}

/// Digests of a whole, in hex by the names that HTTP gives the algorithms.
pub struct Whole(BTreeMap<&'static str, Running>);

impl Whole {
    /// For these names; unknown ones are left out.
    #[must_use]
    pub fn of(names: &[String]) -> Self {
        let known = names.iter().filter_map(|name| Algorithm::of_http(name));
        let running = known.filter_map(|known| Some((known.http()?, Running::new(known))));
        Self(running.collect())
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        for running in self.0.values_mut() {
            running.update(bytes);
        }
    }

    /// The digests.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, String> {
        let hex = |(name, running): (&&'static str, &Running)| {
            ((*name).to_owned(), hex::encode(running.value()))
        };
        self.0.iter().map(hex).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_hold_and_others_do_not() {
        let cases = [
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (
                Algorithm::Sha256,
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
        ];
        for (algorithm, digest) in cases {
            let digest = hex::decode(digest).unwrap();
            assert_eq!(digest.len(), algorithm.size(), "{algorithm:?}");
            let mut check = Check::of(vec![Said { algorithm, digest }]).unwrap();
            check.update(b"12345");
            assert!(!check.holds(), "{algorithm:?}: too early");
            check.update(b"6789");
            assert!(check.holds(), "{algorithm:?}");
            check.update(b"!");
            assert!(!check.holds(), "{algorithm:?}: too much");
        }
        assert!(Check::of(Vec::new()).is_none());
    }
}
