//! The running checksums of one body.

use kinora_upload_engine::State;
use kinora_upload_engine::crc::{self, Sums};

/// CRC64NVME always, CRC32C where the upload's digests ask for it.
pub(super) struct Running {
    crc: crc::Parted,
    crc32c: Option<crc_fast::Digest>,
}

impl Running {
    /// For a body that goes on from this document.
    pub(super) fn of(doc: &State) -> Self {
        let crc32c = crc_fast::CrcAlgorithm::Crc32Iscsi;
        Self {
            crc: crc::Parted::default(),
            crc32c: doc.crc32c.map(|_| crc_fast::Digest::new(crc32c)),
        }
    }

    /// Takes the next bytes in.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        if let Some(digest) = &mut self.crc32c {
            digest.update(bytes);
        }
    }

    /// CRC64NVME of the bytes since the last cut; the next piece begins.
    pub(super) fn cut(&mut self) -> u64 {
        self.crc.cut()
    }

    /// The checksums of all bytes so far.
    pub(super) fn values(&self) -> Sums {
        let low = |digest: &crc_fast::Digest| u32::try_from(digest.finalize()).unwrap_or_default();
        Sums {
            crc: self.crc.value(),
            crc32c: self.crc32c.as_ref().map(low),
        }
    }
}
