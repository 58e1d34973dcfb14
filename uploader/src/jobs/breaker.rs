//! While Kubernetes hangs, one call finds that out for all: the others are told at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Open from a call without an answer until one with an answer.
#[derive(Debug)]
pub(super) struct Breaker {
    pause: Duration,
    /// When the next call may try, while it is open.
    next: Mutex<Option<Instant>>,
}

impl Breaker {
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            pause,
            next: Mutex::default(),
        }
    }

    fn next(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may be made: while it is open, one after each pause.
    pub(super) fn lets_through(&self, now: Instant) -> bool {
        let mut next = self.next();
        match *next {
            Some(at) if now < at => false,
            Some(_) => {
                *next = Some(now + self.pause);
                true
            }
            None => true,
        }
    }

    /// A call had no answer.
    pub(super) fn open(&self, now: Instant) {
        *self.next() = Some(now + self.pause);
    }

    /// A call had one, whatever it said.
    pub(super) fn close(&self) {
        *self.next() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_tries_after_each_pause_until_there_is_an_answer() {
        let breaker = Breaker::new(Duration::from_secs(5));
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let lets = |second| breaker.lets_through(at(second));
        assert!(lets(0) && lets(0), "closed");
        breaker.open(at(10));
        assert!(!lets(10) && !lets(14), "a pause");
        assert!(lets(15), "one tries");
        assert!(!lets(15) && !lets(19), "the others do not");
        assert!(lets(20), "the one that tried may never come back");
        breaker.open(at(24));
        assert!(!lets(28), "another pause");
        breaker.close();
        assert!(lets(28) && lets(28), "closed");
    }
}
