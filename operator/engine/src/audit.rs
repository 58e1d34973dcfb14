//! What an `active/` entry without a VideoJob means: the control plane lost it, or it has ended, or it is just being made.

use std::time::Duration;

/// Younger entries belong to somebody who is at work.
pub const YOUNG: Duration = Duration::from_secs(600);
/// Jobs made again a second, at most.
pub const CREATES_PER_SECOND: f64 = 100.0;

/// What is known of an entry. `None` means that nobody looked, which is never taken for "no".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Since its last change, by the store's clock.
    pub age: Duration,
    /// The outbox still has it: its uploader or a sweeper makes the job.
    pub pending: Option<bool>,
    /// There is a VideoJob of its name.
    pub job: Option<bool>,
    /// The decision it holds.
    pub entry: Option<Entry>,
    /// Its final record was looked for; redrives it covers.
    pub record: Option<Option<u32>>,
    /// New jobs are admitted.
    pub admits: bool,
}

/// The decision on a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A job follows, not only a record.
    pub accepted: bool,
    /// Number of its life.
    pub redrives: u32,
}

impl Entry {
    /// Whether a redrive was begun and not finished: the store knows a later life than the dead letter that is still there.
    /// Whoever finds it finishes it.
    #[must_use]
    pub fn is_half_redriven(&self, job_is_dead: bool, job_redrives: u32) -> bool {
        self.accepted && job_is_dead && self.redrives > job_redrives
    }
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is somebody else's, or all is well.
    Leave,
    /// Look into the outbox.
    AskPending,
    /// Look for the VideoJob, in etcd itself.
    AskJob,
    /// Read the entry.
    AskEntry,
    /// Read the final record.
    AskRecord,
    /// It has ended: the entry goes.
    Remove,
    /// It was lost: make the job again, with so many redrives.
    Create(u32),
    /// It was lost, and has to wait until jobs are admitted again.
    Wait,
}

/// The next step; cheap questions come first, and every verdict rests on answers.
#[must_use]
pub fn next(facts: &Facts) -> Step {
    if facts.age < YOUNG {
        return Step::Leave;
    }
    match facts.job {
        None => return Step::AskJob,
        Some(true) => return Step::Leave,
        Some(false) => {}
    }
    match facts.pending {
        None => return Step::AskPending,
        Some(true) => return Step::Leave,
        Some(false) => {}
    }
    let Some(entry) = facts.entry else {
        return Step::AskEntry;
    };
    let Some(record) = facts.record else {
        return Step::AskRecord;
    };
    let ended = record.is_some_and(|redrives| redrives >= entry.redrives);
    match (ended, entry.accepted) {
        (true, _) => Step::Remove,
        // A rejected video's record is its uploader's to write.
        (false, false) => Step::Leave,
        (false, true) if facts.admits => Step::Create(entry.redrives),
        (false, true) => Step::Wait,
    }
}
