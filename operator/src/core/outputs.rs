//! What the service said it made, against what the store has. Pure.

use kinora_protocol::dispatch as wire;

use super::seams::FoundOutput;

/// The first object that is not what was made.
pub(super) fn torn<'a>(
    made: &[wire::OutputResult],
    found: &'a [FoundOutput],
) -> Option<&'a FoundOutput> {
    let differs = |found: &&FoundOutput| {
        let mut said = made.iter();
        said.any(|said| said.name == found.name && !is_same(said, found))
    };
    found.iter().find(differs)
}

/// Whether a stored object can be the one that was made: a torn file has another size or checksum. What was not said, or is told
/// in another algorithm, is not compared.
fn is_same(said: &wire::OutputResult, found: &FoundOutput) -> bool {
    let size = u64::try_from(found.size_bytes).unwrap_or(0);
    let checksum = found.checksum.as_deref().unwrap_or_default();
    let algorithm = |checksum: &'_ str| checksum.split_once(':').map(|(name, _)| name.to_owned());
    let told = algorithm(checksum);
    let comparable = told.is_some() && algorithm(&said.checksum) == told;
    (said.size_bytes == 0 || said.size_bytes == size) && (!comparable || said.checksum == checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: F43
    #[test]
    fn an_object_is_what_was_made_unless_its_size_or_checksum_says_otherwise() {
        const CRC: &str = "crc64nvme:7ZJu4qcKBwE=";
        let table = [
            ("nothing said", 0, "", Some(CRC), true),
            ("the same", 3, CRC, Some(CRC), true),
            ("shorter", 4, CRC, Some(CRC), false),
            ("longer", 2, "", None, false),
            (
                "another content",
                3,
                "crc64nvme:AAAAAAAAAAA=",
                Some(CRC),
                false,
            ),
            ("another algorithm", 3, "sha256:00", Some(CRC), true),
            ("no algorithm", 3, "00", None, true),
            ("a store without checksums", 3, CRC, None, true),
        ];
        for (name, size_bytes, said, stored, want) in table {
            let said = wire::OutputResult {
                size_bytes,
                checksum: said.to_owned(),
                ..wire::OutputResult::default()
            };
            let found = FoundOutput {
                name: String::new(),
                uri: String::new(),
                size_bytes: 3,
                checksum: stored.map(str::to_owned),
            };
            assert_eq!(is_same(&said, &found), want, "{name}");
        }
    }
}
