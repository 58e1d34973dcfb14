//! Decides, from the stored lease and a local monotonic clock, what this replica does about leadership.
//!
//! Pure: no client, no clock. Wall-clock times in the lease are for people; only *changes* of the record, seen here, count.

use std::time::Duration;

use tokio::time::Instant;

/// How long a lease is good for, and how it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// An unchanged lease of another holder may be taken after this.
    pub duration: Duration,
    /// A leader that could not renew for this long no longer acts.
    pub renew_deadline: Duration,
    /// One that could not renew for this long lets its workers go: by then another leads, unless nobody can.
    pub let_go: Duration,
    /// Pause between two tries.
    pub retry: Duration,
    /// Longest wait for one answer of the API server.
    pub request_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(6),
            renew_deadline: Duration::from_secs(4),
            let_go: Duration::from_secs(9),
            retry: Duration::from_secs(1),
            request_timeout: Duration::from_millis(1500),
        }
    }
}

/// The parts of the stored lease that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `<pod>_<uid>` of the holder; `None` when released.
    pub holder: Option<String>,
    /// Where the holder's dispatch port is, `ip:port`.
    pub address: Option<String>,
    /// As stored; a change of it proves that somebody renewed.
    pub renew_time: Option<String>,
    /// How long the holder asked to be trusted.
    pub duration: Option<Duration>,
    /// How often the holder changed.
    pub transitions: i32,
    /// Fence of the next write.
    pub resource_version: Option<String>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No lease object: create it with this replica as holder.
    Create,
    /// This replica holds it: write a new renew time.
    Renew,
    /// Free or expired: write this replica as holder.
    TakeOver,
    /// Somebody else holds it and may be alive.
    Wait {
        /// When it would expire if nothing changes.
        until: Instant,
    },
}

/// Where this replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Never led, or no longer.
    Standby,
    /// Renewed within the deadline.
    Leading,
    /// Led, could not renew in time, and no other holder was seen.
    Doubtful,
    /// That for so long that another may lead unseen.
    CutOff,
    /// Led, and another holder was seen: the process must start afresh.
    Deposed,
}

/// What one replica remembers between two looks at the lease.
#[derive(Clone, Debug)]
pub struct Elector {
    me: String,
    timing: Timing,
    seen: Option<(Record, Instant)>,
    renewed: Option<Instant>,
}

impl Elector {
    /// A replica that has looked at nothing yet. `me` is its holder identity.
    pub fn new(me: String, timing: Timing) -> Self {
        Self {
            me,
            timing,
            seen: None,
            renewed: None,
        }
    }

    /// The record as it was last read or written.
    pub fn record(&self) -> Option<&Record> {
        self.seen.as_ref().map(|(record, _)| record)
    }

    /// When the last successful write of this replica was *started*; `None` before the first.
    pub fn renewed_at(&self) -> Option<Instant> {
        self.renewed
    }

    /// The lease was read; `None`: it does not exist. The clock of an unchanged record goes on running.
    pub fn observed(&mut self, record: Option<Record>, now: Instant) {
        match record {
            None => self.seen = None,
            Some(record) => {
                let unchanged = self.record() == Some(&record);
                if !unchanged {
                    self.seen = Some((record, now));
                }
            }
        }
    }

    /// A write of this replica was answered with success. `started` is the time before it was sent.
    pub fn written(&mut self, record: Record, started: Instant) {
        self.seen = Some((record, started));
        self.renewed = Some(started);
    }

    /// What to do about the lease now.
    pub fn step(&self, now: Instant) -> Step {
        let Some((record, since)) = &self.seen else {
            return Step::Create;
        };
        match &record.holder {
            None => Step::TakeOver,
            Some(holder) if *holder == self.me => Step::Renew,
            Some(_) => {
                let trusted = record
                    .duration
                    .map_or(self.timing.duration, |d| d.max(self.timing.duration));
                let until = *since + trusted;
                if now >= until {
                    Step::TakeOver
                } else {
                    Step::Wait { until }
                }
            }
        }
    }

    /// Where this replica stands at `now`.
    pub fn standing(&self, now: Instant) -> Standing {
        let Some(renewed) = self.renewed else {
            return Standing::Standby;
        };
        let other_holds = self
            .record()
            .is_some_and(|r| r.holder.as_ref().is_some_and(|holder| *holder != self.me));
        let since = now.duration_since(renewed);
        if other_holds {
            Standing::Deposed
        } else if since < self.timing.renew_deadline {
            Standing::Leading
        } else if since < self.timing.let_go {
            Standing::Doubtful
        } else {
            Standing::CutOff
        }
    }

    /// Address of another holder, for workers that ask here.
    pub fn other_address(&self) -> Option<String> {
        let record = self.record()?;
        let other = record.holder.as_ref().filter(|holder| **holder != self.me);
        other.and(record.address.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, version: &str) -> Record {
        Record {
            holder: Some(holder.to_owned()),
            address: Some("10.0.0.9:8443".to_owned()),
            renew_time: Some(version.to_owned()),
            duration: Some(Duration::from_secs(6)),
            transitions: 1,
            resource_version: Some(version.to_owned()),
        }
    }

    fn free(version: &str) -> Record {
        Record {
            holder: None,
            address: None,
            ..held_by("x", version)
        }
    }

    #[test]
    fn the_next_step_follows_from_the_record_and_the_local_clock() {
        let t0 = Instant::now();
        let at = |seconds: u64| t0 + Duration::from_secs(seconds);
        let slow = Record {
            duration: Some(Duration::from_secs(15)),
            ..held_by("other", "1")
        };
        let wait = |seconds| Step::Wait { until: at(seconds) };
        let table: Vec<(&str, Option<Record>, u64, Step)> = vec![
            ("no lease is created", None, 0, Step::Create),
            (
                "a released lease is taken at once",
                Some(free("1")),
                0,
                Step::TakeOver,
            ),
            (
                "its own lease is renewed, also after a restart in the same pod",
                Some(held_by("me", "1")),
                0,
                Step::Renew,
            ),
            (
                "its own lease is renewed however old it is",
                Some(held_by("me", "1")),
                100,
                Step::Renew,
            ),
            (
                "a fresh lease of another is respected",
                Some(held_by("other", "1")),
                0,
                wait(6),
            ),
            (
                "just before expiry it still waits",
                Some(held_by("other", "1")),
                5,
                wait(6),
            ),
            (
                "unchanged for its duration it is taken",
                Some(held_by("other", "1")),
                6,
                Step::TakeOver,
            ),
            (
                "a holder that asked for more is trusted for more",
                Some(slow.clone()),
                6,
                wait(15),
            ),
            ("and not for ever", Some(slow), 15, Step::TakeOver),
        ];
        for (name, record, after, want) in table {
            let mut elector = Elector::new("me".to_owned(), Timing::default());
            elector.observed(record, t0);
            assert_eq!(elector.step(at(after)), want, "{name}");
        }
    }

    /// covers: F30
    #[test]
    fn a_change_seen_here_restarts_the_clock_and_an_equal_record_does_not() {
        let t0 = Instant::now();
        let at = |seconds: u64| t0 + Duration::from_secs(seconds);
        let mut elector = Elector::new("me".to_owned(), Timing::default());
        elector.observed(Some(held_by("other", "1")), t0);
        elector.observed(Some(held_by("other", "1")), at(5));
        assert_eq!(elector.step(at(6)), Step::TakeOver);
        elector.observed(Some(held_by("other", "2")), at(6));
        assert_eq!(elector.step(at(11)), Step::Wait { until: at(12) });
    }

    #[test]
    fn standing_falls_from_leading_to_doubtful_and_cut_off_and_to_deposed_only_on_sight() {
        let t0 = Instant::now();
        let at = |millis: u64| t0 + Duration::from_millis(millis);
        let mut elector = Elector::new("me".to_owned(), Timing::default());
        assert_eq!(elector.standing(t0), Standing::Standby);
        elector.observed(Some(held_by("other", "1")), t0);
        assert_eq!(
            elector.standing(t0),
            Standing::Standby,
            "another leads and we never did"
        );
        elector.written(held_by("me", "2"), t0);
        assert_eq!(elector.standing(at(3999)), Standing::Leading);
        assert_eq!(elector.standing(at(4000)), Standing::Doubtful);
        assert_eq!(elector.standing(at(8999)), Standing::Doubtful);
        assert_eq!(
            elector.standing(at(60_000)),
            Standing::CutOff,
            "no other was seen"
        );
        elector.written(held_by("me", "3"), at(60_000));
        assert_eq!(
            elector.standing(at(60_001)),
            Standing::Leading,
            "nobody came between"
        );
        elector.observed(Some(held_by("other", "4")), at(60_002));
        assert_eq!(elector.standing(at(60_003)), Standing::Deposed);
    }

    #[test]
    fn the_address_given_to_workers_is_never_ones_own() {
        let mut elector = Elector::new("me".to_owned(), Timing::default());
        assert_eq!(elector.other_address(), None);
        elector.observed(Some(held_by("me", "1")), Instant::now());
        assert_eq!(elector.other_address(), None);
        elector.observed(Some(held_by("other", "2")), Instant::now());
        assert_eq!(elector.other_address().as_deref(), Some("10.0.0.9:8443"));
    }
}
