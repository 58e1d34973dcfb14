//! What is over and never comes back: news of it that was under way may still come.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ids::Uid;
use crate::time::Mono;

/// It may come for this long.
const GRAVE: Duration = Duration::from_secs(300);
/// More are not remembered: the oldest goes.
const MAX_GRAVES: usize = 20_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Graves {
    until: BTreeMap<Uid, Mono>,
    /// The same, oldest first.
    dug: VecDeque<(Mono, Uid)>,
}

impl Graves {
    /// It is over.
    pub(crate) fn dig(&mut self, uid: Uid, now: Mono) {
        let until = now + GRAVE;
        self.until.insert(uid, until);
        self.dug.push_back((until, uid));
        if self.dug.len() > MAX_GRAVES {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((until, uid)) = self.dug.pop_front()
            && self.until.get(&uid) == Some(&until)
        {
            self.until.remove(&uid);
        }
    }

    /// Whether it is known to be over.
    pub(crate) fn holds(&self, uid: Uid) -> bool {
        self.until.contains_key(&uid)
    }

    /// It is not over.
    pub(crate) fn open(&mut self, uid: Uid) {
        self.until.remove(&uid);
    }

    pub(crate) fn expire(&mut self, now: Mono) {
        while self.dug.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }
}
