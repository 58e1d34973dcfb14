//! Whether the control plane is the one that was seen last, and not in a past that was left: the note `control/<cell>`.

use std::time::Duration;

use crate::event::History;
use crate::time::Wall;

/// What a leader notes every minute and compares at its start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// uid of the namespace kube-system: the identity of the control plane.
    pub cluster: String,
    /// Highest resourceVersion seen.
    pub version: u64,
    /// When it was last found to have gone back. Kept for ever: whoever leads must look into jobs made before.
    pub rewound: Option<Wall>,
}

/// Noted in place of a version by a process under which the control plane went back: below every other, so that whoever leads
/// next finds out.
pub const WENT_BACK: u64 = 0;

/// No control plane makes so many writes between two looks: etcd was restored with a bumped revision, as it should be where
/// informers still run (etcd's `--bump-revision`).
const BUMP: u64 = 500_000_000;
/// Where the last look is days ago: nor does one make more than this on average.
const WRITES_PER_SECOND: u64 = 1_000;
/// From here on a version is a time, in microseconds or nanoseconds, of a control plane that is not on etcd: such jump with every
/// look.
const TIME: u64 = 1_000_000_000_000_000;

/// Whether a control plane that was at `before` so long ago can have come to `version` by itself.
#[must_use]
pub fn went_on(before: u64, version: u64, ago: Duration) -> bool {
    let most = BUMP.max(ago.as_secs().saturating_mul(WRITES_PER_SECOND));
    before <= version && (version - before < most || before >= TIME)
}

/// What is to be noted now, and what it means, if it was noted so long ago. Without a note nobody knows the past: it counts as
/// one that was left.
#[must_use]
pub fn compare(
    noted: Option<&Note>,
    ago: Duration,
    cluster: &str,
    version: u64,
    now: Wall,
) -> (Note, History) {
    let unbroken = noted.is_some_and(|n| {
        n.cluster == cluster && (went_on(n.version, version, ago) || n.version == WENT_BACK)
    });
    let rewound = if unbroken {
        noted.and_then(|n| n.rewound)
    } else {
        Some(now)
    };
    let note = Note {
        cluster: cluster.to_owned(),
        version,
        rewound,
    };
    let history = rewound.map_or(History::Unbroken, History::Rewound);
    (note, history)
}

/// Whether the leader that replaces `noted` by `note` found out just now that the control plane went back, and not one before
/// it. Where nothing was noted there is nothing that it went back from.
#[must_use]
pub fn is_found_now(noted: Option<&Note>, note: &Note) -> bool {
    let by_a_leader = note.version != WENT_BACK;
    by_a_leader && noted.is_some_and(|n| n.version == WENT_BACK || n.rewound != note.rewound)
}
