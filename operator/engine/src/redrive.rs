//! A request to bring dead letters back: which it means, in what order, and when it is over.
//!
//! It means what was dead when it was made. So a job that it brought back and that died again is never taken twice, whoever
//! leads and whatever was forgotten.

use crate::action::Redrive;
use crate::time::Wall;

/// Which dead letters are meant, beside their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Creation of the request.
    pub made: Wall,
    /// uid of the request.
    pub by: String,
    /// Only of this pool.
    pub pool: Option<String>,
    /// Only for one of these reasons; any when empty.
    pub reasons: Vec<String>,
    /// Only those that ended before.
    pub before: Option<Wall>,
    /// Only those that ended after.
    pub after: Option<Wall>,
}

/// A dead letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letter<'a> {
    /// Pool of its last attempt, or the one it names.
    pub pool: Option<&'a str>,
    /// Why it is one.
    pub reason: &'a str,
    /// When it became one.
    pub finished: Option<Wall>,
    /// The request that brought it back last.
    pub redriven_by: Option<&'a str>,
}

impl Wanted {
    /// Whether this one is meant.
    #[must_use]
    pub fn takes(&self, letter: &Letter<'_>) -> bool {
        let Some(finished) = letter.finished else {
            return false;
        };
        let pool = self.pool.as_deref();
        finished <= self.made
            && letter.redriven_by != Some(self.by.as_str())
            && (pool.is_none() || pool == letter.pool)
            && (self.reasons.is_empty() || self.reasons.iter().any(|r| r == letter.reason))
            && self.before.is_none_or(|before| finished < before)
            && self.after.is_none_or(|after| finished > after)
    }
}

/// Counts of a request; after a fail-over "at least".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Dead letters that are meant.
    pub matched: u32,
    /// Brought back.
    pub redriven: u32,
    /// Left alone, because they changed.
    pub skipped: u32,
    /// Could not be brought back.
    pub failed: u32,
}

impl Counts {
    /// One was tried. False: nothing became of it, it is to be tried again.
    pub fn note(&mut self, outcome: Redrive) -> bool {
        let counter = match outcome {
            Redrive::Done => &mut self.redriven,
            Redrive::Skipped | Redrive::Gone => &mut self.skipped,
            Redrive::Refused => &mut self.failed,
            Redrive::NotLeader => return false,
        };
        *counter = counter.saturating_add(1);
        true
    }
}

/// What its author wants of the request now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Count only.
    pub dry_run: bool,
    /// Pause.
    pub suspend: bool,
    /// End it.
    pub cancel: bool,
    /// Stop after so many.
    pub max_jobs: Option<u32>,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Take the next dead letter.
    GoOn,
    /// Nothing until its author says so.
    Pause,
    /// It is over: its author ended it.
    Cancelled,
    /// It is over: enough were brought back, or none is left.
    Done,
}

/// Decides, before each dead letter. `exhausted`: there is none left.
#[must_use]
pub fn next(wishes: Wishes, counts: Counts, exhausted: bool) -> Next {
    let tried = if wishes.dry_run {
        counts.matched
    } else {
        counts.redriven
    };
    if wishes.cancel {
        Next::Cancelled
    } else if exhausted || wishes.max_jobs.is_some_and(|max| tried >= max) {
        Next::Done
    } else if wishes.suspend {
        Next::Pause
    } else {
        Next::GoOn
    }
}
