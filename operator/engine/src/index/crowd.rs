//! Ended jobs of uploads, oldest first: of each kind only so many stay as VideoJobs. Declared ones stay as long as they say.

use std::collections::BTreeSet;

use super::Index;
use crate::archive::Archive;
use crate::ids::Uid;
use crate::time::Wall;

/// How many are looked at for one whose record is there.
const LOOK: usize = 1000;

/// How a job ended, as far as that decides how many stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Succeeded or cancelled.
    Finished,
    /// A dead letter.
    DeadLetter,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(super) struct Crowd {
    finished: BTreeSet<(Wall, Uid)>,
    dead: BTreeSet<(Wall, Uid)>,
}

impl Crowd {
    fn of(&mut self, kind: Kind) -> &mut BTreeSet<(Wall, Uid)> {
        match kind {
            Kind::Finished => &mut self.finished,
            Kind::DeadLetter => &mut self.dead,
        }
    }

    /// A job ended otherwise, or goes.
    pub(super) fn moved(&mut self, uid: Uid, from: Option<(Kind, Wall)>, to: Option<(Kind, Wall)>) {
        if from == to {
            return;
        }
        if let Some((kind, at)) = from {
            self.of(kind).remove(&(at, uid));
        }
        if let Some((kind, at)) = to {
            self.of(kind).insert((at, uid));
        }
    }
}

impl Index {
    /// The oldest archived ones of a kind beyond `max` that ended by `until`, at most `count`.
    #[must_use]
    pub fn crowded(&self, kind: Kind, max: usize, until: Wall, count: usize) -> Vec<Uid> {
        let all = match kind {
            Kind::Finished => &self.crowd.finished,
            Kind::DeadLetter => &self.crowd.dead,
        };
        let surplus = all.len().saturating_sub(max).min(LOOK);
        let archived = |uid: &Uid| {
            let archive = self.archive(*uid);
            matches!(archive, Some(Archive::Done | Archive::Confirmed))
        };
        let old = all.iter().take(surplus).take_while(|(at, _)| *at <= until);
        let ready = old.map(|(_, uid)| *uid).filter(archived);
        ready.take(count).collect()
    }
}
