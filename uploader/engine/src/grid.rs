//! The part grid: part k of an upload always holds bytes `[kP, (k+1)P)`, whoever writes it and
//! however often, so repeats are idempotent. Parts count from 0 (the S3 number is k + 1).

/// The smallest part size, 8 MiB.
pub const MIN_PART: u64 = 8 * MIB;
/// Some stores cap a multipart upload at this many parts.
pub const MAX_PARTS: u64 = 1_000;
const MIB: u64 = 1024 * 1024;

/// Part arithmetic of one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Bytes of every part but the last.
    pub part_size: u64,
    /// Bytes of the whole upload, when known.
    pub length: Option<u64>,
}

/// The part size for an upload of `length` bytes (or of at most `max_size`, when unknown):
/// 8 MiB, or as many whole MiB as keep it within 1,000 parts.
#[must_use]
pub fn part_size(length: Option<u64>, max_size: u64) -> u64 {
    let bytes = length.unwrap_or(max_size);
    MIN_PART.max(bytes.div_ceil(MAX_PARTS).div_ceil(MIB) * MIB)
}

impl Grid {
    /// The part that holds the byte at `offset`.
    #[must_use]
    pub fn part_of(&self, offset: u64) -> u32 {
        u32::try_from(offset / self.part_size).unwrap_or(u32::MAX)
    }

    /// First byte of part `k`.
    #[must_use]
    pub fn start(&self, part: u32) -> u64 {
        u64::from(part) * self.part_size
    }

    /// One past the last byte of part `k`: the grid's line, or the end of the upload.
    #[must_use]
    pub fn end(&self, part: u32) -> u64 {
        let line = self.start(part) + self.part_size;
        self.length.map_or(line, |length| line.min(length))
    }

    /// How many parts the whole upload has, when its length is known; none at length 0.
    #[must_use]
    pub fn count(&self) -> Option<u32> {
        self.length
            .map(|length| u32::try_from(length.div_ceil(self.part_size)).unwrap_or(u32::MAX))
    }

    /// Whether the upload fits one PutObject, so that no multipart upload is begun for it.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.length.is_some_and(|length| length <= self.part_size)
    }

    /// Whether a listed part of `size` bytes is the whole part `k`. A shorter one counts only as
    /// the last, and only when the length is known.
    #[must_use]
    pub fn is_whole(&self, part: u32, size: u64) -> bool {
        self.start(part) < self.length.unwrap_or(u64::MAX)
            && size == self.end(part) - self.start(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_sizes_keep_every_upload_within_a_thousand_parts() {
        let cases = [
            ("nothing", Some(0), 300_000_000, MIN_PART),
            ("a short video", Some(10_000_000), 300_000_000, MIN_PART),
            (
                "the most that 8 MiB parts hold",
                Some(MIN_PART * 1000),
                0,
                MIN_PART,
            ),
            ("one byte more", Some(MIN_PART * 1000 + 1), 0, 9 * MIB),
            (
                "unknown length under a large limit",
                None,
                20_000 * MIB,
                20 * MIB,
            ),
            (
                "unknown length under a small limit",
                None,
                300_000_000,
                MIN_PART,
            ),
        ];
        for (name, length, max, want) in cases {
            assert_eq!(part_size(length, max), want, "{name}");
        }
    }

    #[test]
    fn a_short_part_is_whole_only_as_the_last_of_a_known_length() {
        let known = Grid {
            part_size: 10,
            length: Some(25),
        };
        let unknown = Grid {
            part_size: 10,
            length: None,
        };
        let cases = [
            ("a full part", known, 0, 10, true),
            ("a short part in the middle", known, 1, 9, false),
            ("the last part", known, 2, 5, true),
            ("a torn last part", known, 2, 4, false),
            ("a part beyond the end", known, 3, 0, false),
            ("a short part of unknown length", unknown, 2, 5, false),
        ];
        for (name, grid, part, size, want) in cases {
            assert_eq!(grid.is_whole(part, size), want, "{name}");
        }
        assert_eq!(known.count(), Some(3));
        assert_eq!(
            Grid {
                part_size: 10,
                length: Some(20)
            }
            .count(),
            Some(2)
        );
    }
}
