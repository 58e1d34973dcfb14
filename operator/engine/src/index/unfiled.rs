//! Final jobs whose archive is not done: how many, and since when. Kept by the index, so that nobody has to look for them.

use std::collections::BTreeSet;

use super::{Entry, Index};
use crate::archive::Archive;
use crate::ids::Uid;
use crate::time::Wall;

/// As what one job counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has not ended, or its archive is done.
    Nowhere,
    /// Nobody has looked yet, or its record is there and only the cleaning may be undone.
    Unknown,
    /// It is known to be undone.
    Undone(Wall, Uid),
}

impl Place {
    pub(super) fn of(uid: Uid, entry: &Entry) -> Place {
        if !entry.facts.phase().is_final() {
            return Place::Nowhere;
        }
        match entry.archive {
            Archive::Unknown | Archive::Found => Place::Unknown,
            Archive::ToWrite | Archive::ToClean => {
                Place::Undone(entry.facts.finished().unwrap_or_default(), uid)
            }
            Archive::Done | Archive::Confirmed => Place::Nowhere,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(super) struct Unfiled {
    unknown: u64,
    undone: BTreeSet<(Wall, Uid)>,
}

impl Unfiled {
    /// A job counts otherwise from now on.
    pub(super) fn moved(&mut self, from: Place, to: Place) {
        match from {
            Place::Nowhere => {}
            Place::Unknown => self.unknown = self.unknown.saturating_sub(1),
            Place::Undone(since, uid) => {
                self.undone.remove(&(since, uid));
            }
        }
        match to {
            Place::Nowhere => {}
            Place::Unknown => self.unknown += 1,
            Place::Undone(since, uid) => {
                self.undone.insert((since, uid));
            }
        }
    }

    pub(super) fn backlog(&self) -> ArchiveBacklog {
        let undone = u64::try_from(self.undone.len()).unwrap_or(u64::MAX);
        ArchiveBacklog {
            pending: self.unknown.saturating_add(undone),
            oldest: self.undone.first().map(|(since, _)| *since),
        }
    }
}

/// How far archiving is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveBacklog {
    /// Final jobs whose archive is not known to be done.
    pub pending: u64,
    /// End of the oldest of those of which it is known to be undone.
    pub oldest: Option<Wall>,
}

impl Index {
    /// How far its archive is.
    pub fn set_archive(&mut self, uid: Uid, archive: Archive) {
        if let Some(entry) = self.jobs.get_mut(&uid) {
            let place = Place::of(uid, entry);
            entry.archive = archive;
            self.unfiled.moved(place, Place::of(uid, entry));
        }
    }

    /// Nothing that was found out about archives counts any more.
    pub fn doubt_archives(&mut self) {
        for (uid, entry) in &mut self.jobs {
            let place = Place::of(*uid, entry);
            entry.archive = Archive::Unknown;
            self.unfiled.moved(place, Place::of(*uid, entry));
        }
    }

    /// How far archiving is behind.
    #[must_use]
    pub fn archive_backlog(&self) -> ArchiveBacklog {
        self.unfiled.backlog()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Rv;
    use crate::job::{Job, Phase, Status};

    fn ended(uid: u128, rv: u64, second: i64) -> Job {
        Job {
            uid: Uid(uid),
            rv: Rv(rv),
            status: Status {
                phase: Phase::Succeeded,
                finished: Some(Wall(second * 1000)),
                ..Status::default()
            },
            ..Job::default()
        }
    }

    fn backlog(pending: u64, oldest: Option<i64>) -> ArchiveBacklog {
        ArchiveBacklog {
            pending,
            oldest: oldest.map(|second| Wall(second * 1000)),
        }
    }

    #[test]
    fn a_job_counts_from_its_end_until_its_archive_is_done() {
        let mut index = Index::default();
        index.put(Job {
            uid: Uid(1),
            rv: Rv(1),
            ..Job::default()
        });
        assert_eq!(index.archive_backlog(), backlog(0, None), "it waits");
        index.put(ended(1, 2, 10));
        index.put(ended(2, 3, 20));
        assert_eq!(index.archive_backlog(), backlog(2, None), "nobody looked");
        index.set_archive(Uid(1), Archive::ToWrite);
        index.set_archive(Uid(2), Archive::ToWrite);
        assert_eq!(index.archive_backlog(), backlog(2, Some(10)));
        index.set_archive(Uid(1), Archive::ToClean);
        assert_eq!(index.archive_backlog(), backlog(2, Some(10)));
        index.set_archive(Uid(1), Archive::Found);
        assert_eq!(index.archive_backlog(), backlog(2, Some(20)), "no news");
        index.set_archive(Uid(1), Archive::Done);
        assert_eq!(index.archive_backlog(), backlog(1, Some(20)));
        index.doubt_archives();
        assert_eq!(index.archive_backlog(), backlog(2, None), "another leads");
        index.set_archive(Uid(2), Archive::ToWrite);
        index.remove(Uid(2));
        index.set_archive(Uid(1), Archive::Done);
        index.put(ended(1, 9, 10));
        assert_eq!(index.archive_backlog(), backlog(0, None));
        let mut again = ended(1, 10, 10);
        again.status.redrives = 1;
        index.put(again);
        assert_eq!(index.archive_backlog(), backlog(1, None), "another life");
    }
}
