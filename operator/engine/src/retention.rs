//! What the cleaner may delete: only what two clocks, two dates and nobody's hold agree on.

use std::time::Duration;

use crate::time::Wall;

/// With clocks further apart than this nothing is deleted at all.
pub const MAX_SKEW: Duration = Duration::from_secs(300);
/// One day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// The two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// This process's.
    pub local: Wall,
    /// The store's, by the `Date` of its last answer.
    pub store: Wall,
}

impl Clocks {
    /// Whether they agree well enough to delete anything by.
    #[must_use]
    pub fn agree(&self) -> bool {
        let apart = (self.local - self.store).max(self.store - self.local);
        apart <= MAX_SKEW
    }

    /// The earlier of the two.
    #[must_use]
    pub fn earlier(&self) -> Wall {
        self.local.min(self.store)
    }
}

/// The period that counts for a day: what was in force then, or what is configured now if that is longer. It is never
/// shortened behind anybody's back.
#[must_use]
pub fn period(configured_days: u32, written_days: Option<u32>) -> Duration {
    DAY.saturating_mul(configured_days.max(written_days.unwrap_or(0)))
}

/// Whether everything of the day that begins at `day` may be past its period.
#[must_use]
pub fn is_due(day: Wall, period: Duration, clocks: Clocks) -> bool {
    clocks.agree() && day + DAY + period <= clocks.earlier()
}

/// What is known of one video, or of one declared job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Begin of the day in its keys.
    pub day: Wall,
    /// The latest Last-Modified of its objects, by the store.
    pub modified: Wall,
    /// `holds/<id>` is there.
    pub held: bool,
    /// `active/` has it: it has not ended.
    pub open: bool,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes.
    Delete,
    /// By its day or by the store's date it is not old enough.
    Early,
    /// Somebody holds it.
    Held,
    /// It has not ended.
    Open,
    /// The clocks do not agree.
    NoClock,
}

/// Judges one.
#[must_use]
pub fn judge(kept: Kept, period: Duration, clocks: Clocks) -> Verdict {
    if !clocks.agree() {
        return Verdict::NoClock;
    }
    let until = (kept.day + DAY).max(kept.modified) + period;
    if until > clocks.earlier() {
        Verdict::Early
    } else if kept.held {
        Verdict::Held
    } else if kept.open {
        Verdict::Open
    } else {
        Verdict::Delete
    }
}
