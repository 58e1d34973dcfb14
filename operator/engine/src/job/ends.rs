//! How one ended attempt changes its job, class by class: what is charged, what comes next.

use rand::RngCore;

use super::machine::{SOURCE_RECHECK, Verdict};
use super::{Job, Phase, Reason, Status};
use crate::backoff;
use crate::policy::PoolPolicy;
use crate::time::Wall;

pub(super) struct End<'a> {
    pub(super) job: &'a Job,
    pub(super) verdict: Verdict,
    pub(super) policy: &'a PoolPolicy,
    pub(super) now: Wall,
}

impl End<'_> {
    pub(super) fn rejected(&self, mut next: Status, rng: &mut dyn RngCore) -> Status {
        next.rejections = next.rejections.saturating_add(1);
        if self.verdict.credible || next.rejections >= 3 {
            return self.job.buried(next, Reason::Rejected, self.now);
        }
        let nth = next.rejections;
        self.back_off(next, nth, rng)
    }

    pub(super) fn failed(&self, mut next: Status, rng: &mut dyn RngCore) -> Status {
        if self.verdict.store_away {
            return self.uncharged_backoff(next, rng);
        }
        if self.verdict.source_missing {
            next.phase = Phase::Backoff;
            next.reason = Reason::SourceUnavailable;
            next.next_attempt = Some((self.now + SOURCE_RECHECK).ceil_second());
            if self.job.spec.own_source {
                return next;
            }
        }
        next.uncharged = 0;
        next.failures = next.failures.saturating_add(1);
        if next.failures >= self.job.max_failures(self.policy) {
            return self.job.buried(next, Reason::FailuresExhausted, self.now);
        }
        if self.verdict.source_missing {
            return next;
        }
        let nth = next.failures;
        self.back_off(next, nth, rng)
    }

    pub(super) fn interrupted(&self, mut next: Status, rng: Option<&mut dyn RngCore>) -> Status {
        next.uncharged = 0;
        next.interruptions = next.interruptions.saturating_add(1);
        if rng.is_none() {
            // Nobody reported: whoever says so later is not believed, at the last interruption neither.
            next.worker = None;
        }
        if next.interruptions >= self.policy.interruption_limit.max(1) {
            return self.job.buried(next, Reason::Poison, self.now);
        }
        let nth = next.interruptions;
        match rng {
            Some(rng) => self.back_off(next, nth, rng),
            None => {
                next.next_attempt = None;
                next
            }
        }
    }

    pub(super) fn uncharged_backoff(&self, mut next: Status, rng: &mut dyn RngCore) -> Status {
        next.uncharged = next.uncharged.saturating_add(1);
        let nth = next.uncharged;
        self.back_off(next, nth, rng)
    }

    /// Until the breaker's next probe, whatever came before: it is not the job that fails.
    pub(super) fn misconfigured(&self, mut next: Status, rng: &mut dyn RngCore) -> Status {
        next.uncharged = next.uncharged.saturating_add(1);
        self.back_off(next, 1, rng)
    }

    /// Lost and Released: at once again, but from the third in a row with a wait.
    pub(super) fn given_back(&self, mut next: Status, rng: &mut dyn RngCore) -> Status {
        next.uncharged = next.uncharged.saturating_add(1);
        if next.uncharged < 3 {
            next.next_attempt = None;
            return next;
        }
        let nth = next.uncharged - 2;
        self.back_off(next, nth, rng)
    }

    fn back_off(&self, mut next: Status, nth: u32, rng: &mut dyn RngCore) -> Status {
        let delay = backoff::delay(
            nth,
            self.policy.backoff_base,
            self.policy.backoff_cap,
            self.verdict.retry_after,
            rng,
        );
        next.phase = Phase::Backoff;
        next.reason = Reason::Backoff;
        next.next_attempt = Some((self.now + delay).ceil_second());
        next
    }
}
