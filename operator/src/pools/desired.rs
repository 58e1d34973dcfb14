//! How many workers a pool wants: a pure function of backlog and limits. covers: T21

use std::time::Duration;

/// Head room over the measured length of a call.
const HEAD_ROOM: f64 = 1.05;

/// What the number follows from.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// Jobs that run.
    pub running: u32,
    /// Jobs that could be claimed now or within 30 s.
    pub claimable: u32,
    /// Jobs that are neither final nor suspended.
    pub unfinished: u32,
    /// No new claims in this pool.
    pub suspended: bool,
    /// The service is away: what waits is nobody's work now. The scale-down window holds the number, then it falls.
    pub breaker_open: bool,
    /// Length of a call, measured or expected.
    pub call: Duration,
    /// Calls a second that the service takes; `None`: any.
    pub rate_per_second: Option<f64>,
    /// Calls at once that the service takes.
    pub limit: u32,
    /// Calls at once of one worker, at least 1.
    pub slots: u32,
    /// Fewest workers.
    pub min: u32,
    /// Most workers.
    pub max: u32,
}

/// What holds the number below what the backlog asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// `scaling.maxReplicas`.
    MaxReplicas,
    /// Rate or concurrency of the service.
    Service,
}

/// The number, and what it was held down by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Workers.
    pub replicas: u32,
    /// `None`: the backlog alone decided.
    pub capped_by: Option<Cap>,
}

/// `ceil(min(running + claimable, what the service takes) / slots)`, at least one while a job is unfinished, clamped.
pub fn desired(demand: &Demand) -> Desired {
    let waiting = if demand.suspended || demand.breaker_open {
        0
    } else {
        demand.claimable
    };
    let asked = demand.running.saturating_add(waiting);
    let fed = asked.min(service_takes(demand));
    let slots = demand.slots.max(1);
    let alive = demand.unfinished > 0 && !demand.suspended;
    let by_backlog = asked.div_ceil(slots).max(u32::from(alive));
    let by_service = fed.div_ceil(slots).max(u32::from(alive));
    // With min above max (the CRD refuses it) the maximum wins.
    let replicas = by_service.max(demand.min).min(demand.max);
    let capped_by = if by_service > demand.max {
        Some(Cap::MaxReplicas)
    } else if by_service < by_backlog && replicas < by_backlog {
        Some(Cap::Service)
    } else {
        None
    };
    Desired {
        replicas,
        capped_by,
    }
}

/// Calls at once that the service takes, at least one.
fn service_takes(demand: &Demand) -> u32 {
    let by_rate = demand.rate_per_second.map_or(f64::INFINITY, |rate| {
        rate * demand.call.as_secs_f64() * HEAD_ROOM
    });
    let by_rate = by_rate.ceil().clamp(1.0, f64::from(u32::MAX));
    // In range by the clamp; a cast from a float saturates anyway.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let by_rate = by_rate as u32;
    by_rate.min(demand.limit.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demand() -> Demand {
        Demand {
            running: 0,
            claimable: 0,
            unfinished: 0,
            suspended: false,
            breaker_open: false,
            call: Duration::from_secs(60),
            rate_per_second: None,
            limit: 100,
            slots: 1,
            min: 0,
            max: 10,
        }
    }

    #[test]
    fn the_number_follows_from_backlog_limits_and_bounds() {
        let backlog = |running, claimable| Demand {
            running,
            claimable,
            unfinished: running + claimable,
            ..demand()
        };
        let table = [
            ("nothing to do needs nobody", demand(), 0, None),
            (
                "a job in a long backoff keeps one worker",
                Demand {
                    unfinished: 1,
                    ..demand()
                },
                1,
                None,
            ),
            ("one job, one worker", backlog(0, 1), 1, None),
            (
                "slots are filled before workers are added",
                Demand {
                    slots: 4,
                    ..backlog(3, 6)
                },
                3,
                None,
            ),
            (
                "the maximum holds",
                backlog(2, 100),
                10,
                Some(Cap::MaxReplicas),
            ),
            ("the minimum holds", Demand { min: 2, ..demand() }, 2, None),
            (
                "concurrency of the service holds",
                Demand {
                    limit: 3,
                    ..backlog(2, 100)
                },
                3,
                Some(Cap::Service),
            ),
            (
                "0.1 calls a second of a minute each feed seven",
                Demand {
                    rate_per_second: Some(0.1),
                    ..backlog(0, 100)
                },
                7,
                Some(Cap::Service),
            ),
            (
                "a very slow service still gets one",
                Demand {
                    rate_per_second: Some(0.001),
                    ..backlog(0, 100)
                },
                1,
                Some(Cap::Service),
            ),
            (
                "a suspended pool only keeps what runs",
                Demand {
                    suspended: true,
                    ..backlog(2, 100)
                },
                2,
                None,
            ),
            (
                "and nobody for jobs that wait",
                Demand {
                    suspended: true,
                    ..backlog(0, 5)
                },
                0,
                None,
            ),
            (
                "while the service is away what waits needs nobody, and one worker stays",
                Demand {
                    breaker_open: true,
                    ..backlog(0, 50)
                },
                1,
                None,
            ),
            (
                "a maximum of zero is obeyed",
                Demand {
                    max: 0,
                    ..backlog(0, 5)
                },
                0,
                Some(Cap::MaxReplicas),
            ),
        ];
        for (name, demand, replicas, capped_by) in table {
            assert_eq!(
                desired(&demand),
                Desired {
                    replicas,
                    capped_by
                },
                "{name}"
            );
        }
    }

    prop_compose! {
        fn demands()(
            running in 0..5_000u32, claimable in 0..5_000u32, idle in 0..50u32,
            suspended: bool, call_ms in 1..600_000u64, rate in prop::option::of(0.001..1_000.0f64),
            limit in 1..2_000u32, slots in 1..64u32, min in 0..20u32, extra in 0..1_000u32,
        ) -> Demand {
            let call = Duration::from_millis(call_ms);
            let unfinished = running + claimable + idle;
            Demand { running, claimable, unfinished, suspended, breaker_open: false, call, rate_per_second: rate, limit, slots, min, max: min + extra }
        }
    }

    proptest! {
        /// covers: T21
        #[test]
        fn bounds_hold_and_more_backlog_never_means_fewer_workers(demand in demands(), more in 0..1_000u32) {
            let now = desired(&demand).replicas;
            prop_assert!((demand.min..=demand.max).contains(&now));
            let bigger = Demand {
                claimable: demand.claimable + more,
                unfinished: demand.unfinished + more,
                ..demand.clone()
            };
            prop_assert!(desired(&bigger).replicas >= now);
        }

        /// covers: T21
        #[test]
        fn an_unfinished_job_keeps_a_worker_and_the_service_is_never_outgrown(demand in demands()) {
            let now = desired(&demand).replicas;
            if demand.unfinished > 0 && !demand.suspended && demand.max > 0 {
                prop_assert!(now >= 1);
            }
            let fed = service_takes(&demand).div_ceil(demand.slots);
            prop_assert!(now <= fed.max(demand.min).max(1));
        }
    }
}
