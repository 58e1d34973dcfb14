//! Limits of one pool: rate tokens, permits, ghosts.
//!
//! Only the serial pass of the engine takes from them, so that they hold over all workers.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::ids::{AttemptId, Uid};
use crate::policy::{ATTEMPT_GRACE, LONGEST_TIMEOUT, PoolPolicy};
use crate::schedule::CLAIM_CONCURRENCY;
use crate::time::{Mono, Wall};

/// A token bucket. Starts empty: a new leader cannot know what the old one spent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    tokens: f64,
    at: Mono,
}

impl Hash for Bucket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Bucket { tokens, at } = self;
        (tokens.to_bits(), at).hash(state);
    }
}

impl Bucket {
    /// Empty from now on.
    pub fn drain(&mut self, now: Mono) {
        self.tokens = 0.0;
        self.at = now;
    }

    /// Takes one token if there is one. An unlimited pool always has one.
    pub fn take(&mut self, policy: &PoolPolicy, now: Mono) -> bool {
        let Some(rate) = policy.rate_per_second else {
            return true;
        };
        self.refill(rate, policy, now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    fn refill(&mut self, rate: f64, policy: &PoolPolicy, now: Mono) {
        let elapsed = now.since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + elapsed * rate.max(0.0)).min(capacity(policy));
    }

    /// Somebody else started so many calls: they are paid back before the next of our own. No leader that was stopped has
    /// more under way than its claim concurrency.
    pub fn owe(&mut self, calls: u32, policy: &PoolPolicy, now: Mono) {
        if let Some(rate) = policy.rate_per_second {
            self.refill(rate, policy, now);
            let least = -f64::from(CLAIM_CONCURRENCY);
            self.tokens = (self.tokens - f64::from(calls)).max(least);
        }
    }

    /// Gives back a token that was not spent.
    pub fn give_back(&mut self, policy: &PoolPolicy) {
        if policy.rate_per_second.is_some() {
            self.tokens = (self.tokens + 1.0).min(capacity(policy));
        }
    }
}

fn capacity(policy: &PoolPolicy) -> f64 {
    f64::from(policy.burst.max(1))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ghost {
    until: Wall,
    /// Whose call it is; `None`: read from a status, which does not say.
    call: Option<(AttemptId, Uid)>,
    cleared: bool,
}

/// No call may take longer than this, which is the longest timeout of a pool with the grace of an attempt.
const LONGEST_CALL: Duration = LONGEST_TIMEOUT.saturating_add(ATTEMPT_GRACE);

/// Whether a call that was to be over by `until` may still run. A time further away than any call can last was written by a
/// clock that was ahead.
#[must_use]
pub fn is_ghost(until: Wall, now: Wall) -> bool {
    until > now && until <= (now + LONGEST_CALL).ceil_second()
}

/// Calls of ended attempts that may still run: each keeps a permit until its worker confirms, or its time is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghosts {
    by_job: BTreeMap<Uid, Vec<Ghost>>,
}

impl Ghosts {
    /// Takes over what is stored in a job's status. Those known already, cleared ones too, are not counted twice.
    pub fn sync(&mut self, job: Uid, stored: &[Wall], now: Wall) {
        let stored = stored.iter().copied();
        let future: Vec<Wall> = stored.filter(|until| is_ghost(*until, now)).collect();
        if future.is_empty() {
            return;
        }
        let known = self.by_job.entry(job).or_default();
        for until in &future {
            let wanted = future.iter().filter(|u| *u == until).count();
            let have = known.iter().filter(|g| g.until == *until).count();
            if have < wanted {
                known.push(Ghost {
                    until: *until,
                    call: None,
                    cleared: false,
                });
            }
        }
    }

    /// An attempt of ours ended without proof; its worker may be calling until then.
    pub fn add(&mut self, attempt: AttemptId, worker: Uid, until: Wall) {
        let known = self.by_job.entry(attempt.job).or_default();
        if let Some(ghost) = known
            .iter_mut()
            .find(|g| g.until == until && g.call.is_none())
        {
            ghost.call = Some((attempt, worker));
            return;
        }
        known.push(Ghost {
            until,
            call: Some((attempt, worker)),
            cleared: false,
        });
    }

    /// This worker confirmed that the call is over. False: none of its calls left a ghost.
    pub fn clear(&mut self, attempt: AttemptId, worker: Uid) -> bool {
        let mut found = false;
        for ghost in self.by_job.get_mut(&attempt.job).into_iter().flatten() {
            if ghost.call == Some((attempt, worker)) && !ghost.cleared {
                ghost.cleared = true;
                found = true;
            }
        }
        found
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: Wall) {
        self.by_job.retain(|_, ghosts| {
            ghosts.retain(|g| g.until > now);
            !ghosts.is_empty()
        });
    }

    /// Permits taken by ghosts.
    #[must_use]
    pub fn count(&self) -> u32 {
        let open = self
            .by_job
            .values()
            .flatten()
            .filter(|g| !g.cleared)
            .count();
        u32::try_from(open).unwrap_or(u32::MAX)
    }
}
