//! Digests of the whole that the client gave: CRCs from the running values, others by one read of
//! the finished object, before anything is decided. What is refuted in time never becomes visible.

use crate::call::{Answer, Call, Decision, Next};

use super::{At, Finish, Finished};

/// Name of CRC64NVME among digests.
const CRC64NVME: &str = "crc64nvme";
/// Name of CRC32C among digests.
const CRC32C: &str = "crc32c";

impl Finish {
    /// What the running checksums say of the digests: settled ones are taken off the list, and
    /// false is the verdict that the bytes are others.
    pub(super) fn settle_crcs(&mut self) -> bool {
        let crc = self.facts.crc.map(|crc| format!("{crc:016x}"));
        let crc32c = self.facts.crc32c.map(|crc| format!("{crc:08x}"));
        for (name, known) in [(CRC64NVME, crc), (CRC32C, crc32c)] {
            let Some(known) = known else { continue };
            let said = self.facts.digests.remove(name);
            if said.is_some_and(|said| said != known) {
                self.verdict = Decision::Rejected(super::DIGEST_MISMATCH.into());
                return false;
            }
        }
        true
    }

    /// The read for what is still to be compared, if anything is.
    pub(super) fn digest(&mut self) -> Option<Next<Finished>> {
        if self.verdict != Decision::Accepted || !self.settle_crcs() {
            return None;
        }
        let algorithms: Vec<String> = self.facts.digests.keys().cloned().collect();
        if algorithms.is_empty() {
            return None;
        }
        Some(self.go(At::Digesting, Call::DigestVideo { algorithms }))
    }

    pub(super) fn digested(&mut self, answer: Answer) -> Next<Finished> {
        let Answer::Digests(found) = answer else {
            return self.give_up("read the object for its digest", &answer);
        };
        let said = std::mem::take(&mut self.facts.digests);
        if said
            .iter()
            .any(|(name, digest)| found.get(name) != Some(digest))
        {
            self.verdict = Decision::Rejected(super::DIGEST_MISMATCH.into());
        }
        self.decide()
    }
}
