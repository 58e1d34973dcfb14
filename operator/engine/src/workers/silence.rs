//! Streams that drop, workers that say nothing: who is given how long, and who is given up.

use std::time::Duration;

use super::Workers;
use crate::ids::{SessionId, Uid};
use crate::time::Mono;

/// A connected worker that says nothing for this long is lost.
pub const SILENCE: Duration = Duration::from_secs(12);
/// A dropped stream has this long to come back.
pub const DROP_GRACE: Duration = Duration::from_secs(2);
/// After a fail-over a worker has this long to come to the new leader.
pub const ADOPTION_HOLD: Duration = Duration::from_secs(10);

/// Many drops at once are the network's fault, or ours: nobody is given up quickly.
const STORM_WINDOW: Duration = Duration::from_secs(2);
const STORM_PERCENT: usize = 30;
/// With fewer workers than this a share says nothing.
const STORM_LEAST: usize = 3;

impl Workers {
    /// A stream is over. Answers with its worker, unless a newer stream took its place.
    pub fn closed(&mut self, session: SessionId, now: Mono) -> Option<Uid> {
        let worker = self.sessions.remove(&session)?;
        let connected = self.sessions.len();
        self.drops.retain(|at| now.since(*at) <= STORM_WINDOW);
        self.drops.push(now);
        let dropped = self.drops.len();
        let storm = dropped >= STORM_LEAST
            && dropped.saturating_mul(100) > (connected + dropped).saturating_mul(STORM_PERCENT);
        let grace = if storm { SILENCE } else { DROP_GRACE };
        self.update(worker, |w| {
            w.session = None;
            w.absent_until = Some(now + grace);
        });
        if storm {
            self.extend_absent(now + SILENCE);
        }
        Some(worker)
    }

    /// A stream that we end ourselves; its worker may come back until then. No sign of a storm, as a drop would be.
    pub fn end(&mut self, worker: Uid, session: SessionId, until: Mono) {
        self.sessions.remove(&session);
        self.update(worker, |w| {
            w.session = None;
            w.absent_until = Some(until);
        });
    }

    /// A stream ended from the other side: what was sent down it had reached that side.
    pub fn cut(&mut self, session: SessionId) {
        let Some(worker) = self.of_session(session) else {
            return;
        };
        self.update(worker, |w| {
            for lease in w.leases.values_mut() {
                lease.cut |= lease.pushed && !lease.doubtful;
            }
        });
    }

    /// It was our own fault: every wait starts again.
    pub fn excuse(&mut self, now: Mono) {
        for worker in self.all.values_mut() {
            if let Some(session) = &mut worker.session {
                session.heard = session.heard.max(now);
            }
        }
        self.extend_absent(now + SILENCE);
    }

    fn extend_absent(&mut self, until: Mono) {
        for worker in self.all.values_mut() {
            worker.absent_until = worker.absent_until.map(|at| at.max(until));
        }
    }

    /// Workers whose stream was silent for too long.
    #[must_use]
    pub fn silent(&self, now: Mono) -> Vec<(Uid, SessionId)> {
        let silent = |w: &super::Worker| {
            w.session
                .as_ref()
                .filter(|s| now.since(s.heard) > SILENCE)
                .map(|s| s.id)
        };
        self.all
            .iter()
            .filter_map(|(uid, w)| silent(w).map(|id| (*uid, id)))
            .collect()
    }

    /// Workers without a stream whose time to come back is over.
    #[must_use]
    pub fn given_up(&self, now: Mono) -> Vec<Uid> {
        self.all
            .iter()
            .filter(|(_, w)| w.session.is_none() && w.absent_until.is_some_and(|at| at <= now))
            .map(|(uid, _)| *uid)
            .collect()
    }
}
