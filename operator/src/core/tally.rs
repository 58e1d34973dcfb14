//! What a written status adds to the counters.

use std::sync::atomic::{AtomicU64, Ordering};

use kinora_engine::Phase;
use kinora_engine::action::Cause;
use kinora_engine::outcome::Class;

use super::run::Core;

impl Core {
    pub(super) fn count_written(&self, cause: Cause, phase: Phase) {
        let counters = &self.counters;
        match cause {
            Cause::Claimed => count(&counters.claims),
            Cause::Reclaimed(class) => {
                count(&counters.claims);
                self.count_class(class);
            }
            Cause::Ended(class) => self.count_class(class),
            Cause::Observed
            | Cause::Blocked
            | Cause::Suspension
            | Cause::Cancelled
            | Cause::Expired
            | Cause::Placed
            | Cause::Progress(_)
            | Cause::SourceGone => {}
            Cause::Redriven => count(&counters.redriven),
        }
        if ends_a_job(cause) {
            self.count_end(phase);
        }
    }

    fn count_end(&self, phase: Phase) {
        let counters = &self.counters;
        match phase {
            Phase::Succeeded => count(&counters.succeeded),
            Phase::DeadLettered => count(&counters.dead_lettered),
            Phase::Cancelled => count(&counters.cancelled),
            Phase::Queued | Phase::Running | Phase::Backoff | Phase::Suspended => {}
        }
    }

    fn count_class(&self, class: Class) {
        let counters = &self.counters;
        match class {
            Class::Succeeded => {}
            Class::Rejected => count(&counters.rejected),
            Class::Failed => count(&counters.failed),
            Class::Throttled => count(&counters.throttled),
            Class::Unavailable => count(&counters.unavailable),
            Class::Misconfigured => count(&counters.misconfigured),
            Class::Interrupted => count(&counters.interrupted),
            Class::Lost => count(&counters.lost),
            Class::Released => count(&counters.released),
        }
    }
}

/// Whether a final phase is this write's doing. A change of an ended job is no second end.
fn ends_a_job(cause: Cause) -> bool {
    match cause {
        Cause::Ended(_) | Cause::Cancelled | Cause::Expired | Cause::SourceGone => true,
        Cause::Observed
        | Cause::Claimed
        | Cause::Reclaimed(_)
        | Cause::Blocked
        | Cause::Suspension
        | Cause::Placed
        | Cause::Progress(_)
        | Cause::Redriven => false,
    }
}

pub(in crate::core) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
