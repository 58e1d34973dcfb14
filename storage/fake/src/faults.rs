//! What goes wrong, by rule: an operation, a word of the key, and which of the matching calls.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::journal::Op;

/// A mishap of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before anything is done.
    LostRequest,
    /// It is done, and the connection ends without an answer.
    LostAnswer,
    /// It is done, and no answer comes: the caller's patience ends it.
    NoAnswer,
    /// 503 SlowDown, nothing done.
    SlowDown,
    /// 500 InternalError, nothing done.
    InternalError,
    /// 500 InternalError, and yet it is done.
    DoneInternalError,
    /// 409 ConditionalRequestConflict, nothing done.
    Conflict,
    /// 403 RequestTimeTooSkewed, nothing done.
    TimeTooSkewed,
    /// Complete: 200 with an error in its body, nothing done.
    ErrorInside200,
    /// Complete: 200 with an error in its body, and yet it is done.
    DoneErrorInside200,
    /// Complete: done only after this time, whether or not the caller still waits.
    Slow(Duration),
    /// The multipart uploads of the key are aborted behind the caller's back first.
    AbortedBefore,
    /// Abort: answered 204, but a part in flight lands after it and keeps the upload alive.
    PartSurvives,
}

/// When a fault strikes.
#[derive(Clone, Debug)]
pub struct Rule {
    op: Option<Op>,
    word: String,
    skip: usize,
    times: usize,
    percent: u64,
    fault: Fault,
    seen: usize,
}

impl Rule {
    /// At every call.
    #[must_use]
    pub fn any(fault: Fault) -> Self {
        Self {
            op: None,
            word: String::new(),
            skip: 0,
            times: usize::MAX,
            percent: 100,
            fault,
            seen: 0,
        }
    }

    /// At every call of one operation.
    #[must_use]
    pub fn on(op: Op, fault: Fault) -> Self {
        Self {
            op: Some(op),
            ..Self::any(fault)
        }
    }

    /// Only where the key contains this.
    #[must_use]
    pub fn key(mut self, word: &str) -> Self {
        word.clone_into(&mut self.word);
        self
    }

    /// Only at the `n`th matching call, from 0.
    #[must_use]
    pub fn nth(self, n: usize) -> Self {
        self.times(1).after(n)
    }

    /// Only after `n` matching calls.
    #[must_use]
    pub fn after(mut self, n: usize) -> Self {
        self.skip = n;
        self
    }

    /// At most so often.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Of the calls that are left, only so many in a hundred; the same ones in every run.
    #[must_use]
    pub fn percent(mut self, percent: u64) -> Self {
        self.percent = percent;
        self
    }

    fn strikes(&mut self, op: Op, key: &str) -> bool {
        if self.op.is_some_and(|wanted| wanted != op) || !key.contains(&self.word) {
            return false;
        }
        self.seen += 1;
        let turn = self.seen.saturating_sub(self.skip);
        (1..=self.times).contains(&turn) && dice(turn as u64) % 100 < self.percent
    }
}

/// A number that looks random (splitmix64).
fn dice(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The rules in force; the first that strikes decides a call.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.rules().push(rule);
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.rules().clear();
    }

    pub(crate) fn of(&self, op: Op, key: &str) -> Option<Fault> {
        let mut struck = None;
        // Every rule counts every call that it matches.
        for rule in self.rules().iter_mut() {
            if rule.strikes(op, key) && struck.is_none() {
                struck = Some(rule.fault);
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_strike_at_the_calls_they_name() {
        let faults = Faults::default();
        faults.add(
            Rule::on(Op::Put, Fault::SlowDown)
                .key("state")
                .after(1)
                .times(2),
        );
        faults.add(Rule::any(Fault::Conflict).nth(4));
        let table = [
            ("another operation", Op::Get, "up/state", None),
            ("another key", Op::Put, "pending/x", None),
            ("the first is skipped", Op::Put, "up/state", None),
            ("the second", Op::Put, "up/state", Some(Fault::SlowDown)),
            (
                "the first rule decides",
                Op::Put,
                "up/state",
                Some(Fault::SlowDown),
            ),
            ("no more than so often", Op::Put, "up/state", None),
        ];
        for (name, op, key, want) in table {
            assert_eq!(faults.of(op, key), want, "{name}");
        }
        faults.add(Rule::on(Op::List, Fault::LostAnswer).percent(30));
        let struck = (0..1000).filter(|_| faults.of(Op::List, "").is_some());
        let struck = struck.count();
        assert!((250..350).contains(&struck), "{struck} of 1000");
        faults.clear();
        assert_eq!(faults.of(Op::List, ""), None);
    }
}
