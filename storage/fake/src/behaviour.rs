//! What differs from store to store.

use std::time::Duration;

/// The kind of store that is played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Conditional writes have one winner; otherwise they look, wait a little, and write.
    pub atomic: bool,
    /// Status of an If-Match where there is no object: 404 or 412.
    pub missing_if_match: u16,
    /// ListParts tells the checksums.
    pub list_part_checksums: bool,
    /// ListParts shows an overwritten part beside its successor.
    pub lists_overwritten_parts: bool,
    /// Complete may be repeated after it succeeded; otherwise NoSuchUpload.
    pub complete_again: bool,
    /// Complete refuses parts that are named without the checksum they were stored with, as MinIO does.
    pub complete_wants_checksums: bool,
    /// A part that is not the last must have 5 MiB.
    pub least_part: usize,
    /// An abort after Complete destroys the object.
    pub abort_destroys_completed: bool,
    /// A conditional write that meets another on its key waits so long.
    pub contended_wait: Duration,
    /// Parts on one page of ListParts.
    pub parts_page: usize,
    /// What is overwritten or deleted lives on as a version.
    pub keeps_versions: bool,
    /// Versions on one page of ListObjectVersions.
    pub versions_page: usize,
}

impl Behaviour {
    /// As AWS S3 documents it.
    #[must_use]
    pub fn aws() -> Self {
        Self {
            atomic: true,
            missing_if_match: 404,
            list_part_checksums: true,
            lists_overwritten_parts: false,
            complete_again: false,
            complete_wants_checksums: false,
            least_part: 5 << 20,
            abort_destroys_completed: false,
            contended_wait: Duration::ZERO,
            parts_page: 1000,
            keeps_versions: false,
            versions_page: 1000,
        }
    }

    /// As SeaweedFS 4.48 was seen to do it.
    #[must_use]
    pub fn seaweedfs() -> Self {
        Self {
            missing_if_match: 412,
            list_part_checksums: false,
            lists_overwritten_parts: true,
            complete_again: true,
            contended_wait: Duration::from_millis(30),
            ..Self::aws()
        }
    }

    /// The worst of all that are allowed: what is legal somewhere happens here.
    #[must_use]
    pub fn harsh() -> Self {
        Self {
            complete_again: false,
            abort_destroys_completed: true,
            parts_page: 2,
            ..Self::seaweedfs()
        }
    }

    /// AWS S3 with versions, and few of them on a page.
    #[must_use]
    pub fn versioned() -> Self {
        Self {
            keeps_versions: true,
            versions_page: 2,
            ..Self::aws()
        }
    }

    /// As MinIO's source has it.
    #[must_use]
    pub fn minio() -> Self {
        Self {
            complete_wants_checksums: true,
            ..Self::aws()
        }
    }

    /// A store that looks at conditions, but not atomically: several writers win a race.
    #[must_use]
    pub fn not_atomic() -> Self {
        Self {
            atomic: false,
            ..Self::aws()
        }
    }
}
