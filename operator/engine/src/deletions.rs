//! Whether a deleted VideoJob is somebody's cancel, or something that was lost.
//!
//! A verdict waits for a minute: the first deletions of a flood look like anybody's. Nobody is told of a cancel before.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Mono;

/// How long a deletion is looked at in the company of others.
pub const WATCHED: Duration = Duration::from_secs(60);
/// So many within [`WATCHED`] are no person's doing.
pub const FLOOD: usize = 100;
/// More are not remembered: they are lost anyway.
pub const MAX_WAITING: usize = 10_000;

/// What a deletion was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Somebody gave the job up.
    Cancelled,
    /// One of too many: nothing is concluded, and what can be is made again.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen<T> {
    at: Mono,
    what: T,
    lost: bool,
}

/// Deletions that wait for their verdict, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletions<T> {
    waiting: VecDeque<Seen<T>>,
}

impl<T> Default for Deletions<T> {
    fn default() -> Self {
        Deletions {
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Deletions<T> {
    /// One was seen. False: it does not fit, and no verdict comes. It is lost.
    #[must_use]
    pub fn observed(&mut self, what: T, now: Mono) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        let lost = false;
        self.waiting.push_back(Seen {
            at: now,
            what,
            lost,
        });
        let near = |seen: &&mut Seen<T>| now.since(seen.at) < WATCHED;
        let count = self
            .waiting
            .iter()
            .rev()
            .take_while(|seen| now.since(seen.at) < WATCHED)
            .take(FLOOD)
            .count();
        if count >= FLOOD {
            let company = self.waiting.iter_mut().rev().take_while(near);
            // Whoever came before one that is marked is marked, too, or was long ago.
            for seen in company.take_while(|seen| !seen.lost) {
                seen.lost = true;
            }
        }
        true
    }

    /// Those whose minute is over.
    pub fn due(&mut self, now: Mono) -> Vec<(T, Verdict)> {
        let mut due = Vec::new();
        while self
            .waiting
            .front()
            .is_some_and(|seen| now.since(seen.at) >= WATCHED)
        {
            if let Some(seen) = self.waiting.pop_front() {
                let verdict = if seen.lost {
                    Verdict::Lost
                } else {
                    Verdict::Cancelled
                };
                due.push((seen.what, verdict));
            }
        }
        due
    }

    /// Leadership is lost: nobody here judges any more.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}
