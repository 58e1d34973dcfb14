//! Caps, workers for oneself, and how limiter and breaker follow a service.
//! covers: F36, F42, F45, F46, F49, T8, T19, T20

use kinora_engine::ids::SessionId;
use kinora_engine::limits::Bucket;
use kinora_engine::outcome::{Class, Fact, grpc};
use kinora_engine::policy::{Adaptive, BreakerPolicy, Fairness};
use kinora_engine::schedule::adapt::Adapt;
use kinora_engine::schedule::breaker::{Breaker, Sign, State};
use kinora_engine::schedule::{ALONE_FROM, Pool};
use kinora_engine::*;
use proptest::prelude::*;

use crate::fixtures::*;
use crate::queue::{of, share};

/// A pool that gives tenant 1 so many calls at most.
pub(crate) fn capped(most: u32) -> World {
    World::with_pool(PoolPolicy {
        fairness: Fairness {
            tenants: vec![share(1, 1, Some(most))],
            ..Fairness::default()
        },
        ..pool()
    })
}

#[test]
fn a_tenants_cap_holds_over_all_workers_and_lets_the_others_pass() {
    let mut world = capped(2);
    world.hello(1, 1, 3);
    world.hello(2, 2, 3);
    for uid in 1..=6 {
        world.put(of(1, uid));
    }
    assert_eq!(world.leases().len(), 2);
    world.put(of(2, 11));
    assert_eq!(world.leases().last(), Some(&attempt(11, 1)));
    let session = if world.status(1).worker == Some(Uid(1)) {
        1
    } else {
        2
    };
    world.report(SessionId(session), attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.leases().len(), 4);
}

#[test]
fn from_the_third_interruption_on_a_job_gets_a_worker_for_itself() {
    let mut world = World::new();
    let one = world.hello(1, 1, 3);
    world.put(job(1));
    world.put(suspect(9));
    world.put(job(2));
    world.put(job(3));
    let first = [attempt(1, 1), attempt(2, 1)];
    assert_eq!(world.leases(), first, "the worker is kept for the suspect");
    for leased in first {
        world.report(one, leased, Fact::Succeeded);
    }
    assert_eq!(world.leases()[2..], [attempt(9, 1)]);
    world.put(job(4));
    assert_eq!(world.leases().len(), 3, "nobody joins it");
    world.report(one, attempt(9, 1), Fact::Succeeded);
    assert_eq!(world.leases().len(), 5);
}

/// Their workers are busy for as long as they run: of two workers one is theirs, of more than two one is at most.
#[rstest::rstest]
#[case::the_only_worker_one_grant_in_four(1, 1, 3)]
#[case::two_workers(2, 1, 7)]
#[case::five_workers(5, 1, 4)]
#[case::five_workers_with_slots(5, 4, 4)]
fn suspects_do_not_get_all_of_a_pool(
    #[case] workers: u128,
    #[case] slots: u32,
    #[case] most: usize,
) {
    const GRANTS: usize = 12;
    let mut world = World::new();
    let sessions: Vec<SessionId> = (1..=workers)
        .map(|worker| world.hello(u64::try_from(worker).unwrap(), worker, slots))
        .collect();
    for uid in 1..=40 {
        world.put(job(uid));
        world.put(suspect(100 + uid));
    }
    let full = world.leases().len();
    for done in 0..full + GRANTS {
        let running = world.leases()[done];
        let worker = world.status(running.job.0).worker.unwrap().0;
        let session = sessions[usize::try_from(worker - 1).unwrap()];
        world.report(session, running, Fact::Succeeded);
    }
    let granted = &world.leases()[full..];
    let suspects = granted.iter().filter(|leased| leased.job.0 > 100).count();
    assert!(suspects > 0, "they are granted too: {granted:?}");
    assert!(
        suspects * GRANTS <= most * granted.len(),
        "{suspects} of {}: {granted:?}",
        granted.len()
    );
}

#[test]
fn a_suspect_does_not_hold_up_a_pool_with_other_workers() {
    let mut world = World::new();
    world.hello(1, 1, 2);
    world.hello(2, 2, 2);
    world.put(job(1));
    world.put(job(2));
    world.put(suspect(9));
    assert_eq!(world.leases().len(), 2);
    world.put(job(3));
    assert_eq!(
        world.leases().len(),
        3,
        "one worker is kept, the other goes on"
    );
}

pub(crate) fn suspect(uid: u128) -> Job {
    let mut suspect = job(uid);
    suspect.status.interruptions = ALONE_FROM;
    suspect.status.since = Some(START);
    suspect.status.observed = 1;
    suspect
}

#[test]
fn a_suspect_whose_worker_was_lost_gets_another_one_though_the_pool_is_full() {
    let mut world = World::new();
    let lost = world.hello(1, 1, 2);
    world.put(suspect(9));
    assert_eq!(world.leases(), [attempt(9, 1)]);
    let other = world.hello(2, 2, 2);
    (1..=9).for_each(|uid| world.put(job(uid + 10)));
    world.feed(Event::Closed(lost));
    for _ in 0..200 {
        world.pass(secs(1), &[other]);
        let ends = world.holds[&other].first().copied().expect("it has work");
        if ends.job == Uid(9) {
            return;
        }
        world.report(other, ends, Fact::Succeeded);
        world.put(job(100 + world.leases().len() as u128));
    }
    panic!("the suspect never ran again: {:?}", world.status(9));
}

#[test]
fn no_worker_is_kept_for_a_suspect_whose_tenant_is_at_its_cap() {
    let mut world = capped(1);
    world.hello(1, 1, 1);
    world.hello(2, 2, 1);
    world.put(of(1, 1));
    world.put(Job {
        spec: of(1, 9).spec,
        ..suspect(9)
    });
    world.put(of(2, 2));
    assert_eq!(world.leases(), [attempt(1, 1), attempt(2, 1)]);
}

#[test]
fn a_suspect_of_a_tenant_with_a_backlog_at_its_cap_gets_its_turn() {
    let mut world = capped(2);
    for worker in 1..=10 {
        world.hello(worker, worker.into(), 8);
    }
    let more = |world: &mut World, n: u128| {
        world.put(of(1, 1000 + n));
        world.put(of(2, 10_000 + n));
    };
    (0..100).for_each(|n| more(&mut world, n));
    world.put(Job {
        spec: of(1, 9).spec,
        ..suspect(9)
    });
    for ended in 0..1000 {
        let oldest = world.leases()[ended];
        if oldest.job == Uid(9) {
            return;
        }
        let worker = world.status(oldest.job.0).worker.expect("it runs").0;
        let session = SessionId(worker.try_into().expect("small"));
        world.report(session, oldest, Fact::Succeeded);
        more(&mut world, 100 + ended as u128);
    }
    panic!("it never ran");
}

#[test]
fn a_throttled_service_gets_fewer_calls_at_once_and_slowly_more_again() {
    let at = |ms: u64| Mono(ms);
    let mut adapt = Adapt::default();
    assert_eq!(adapt.allowed(1, Some(100)), Some(100));
    adapt.throttled(50, 1, Some(100), None, at(0));
    assert_eq!(adapt.allowed(1, Some(100)), Some(35));
    adapt.throttled(50, 1, Some(100), None, at(4999));
    assert_eq!(
        adapt.allowed(1, Some(100)),
        Some(35),
        "those calls began before the step"
    );
    adapt.throttled(35, 1, Some(100), None, at(5000));
    assert_eq!(adapt.allowed(1, Some(100)), Some(24));
    for _ in 0..24 {
        adapt.succeeded(Some(100));
    }
    assert_eq!(
        adapt.allowed(1, Some(100)),
        Some(26),
        "a tenth for a round of calls"
    );
    for _ in 0..2000 {
        adapt.succeeded(Some(100));
    }
    assert_eq!(adapt.allowed(1, Some(100)), Some(100));
    for step in 0..50 {
        adapt.throttled(100, 3, Some(100), None, at(10_000 + step * 6000));
    }
    assert_eq!(
        adapt.allowed(3, Some(100)),
        Some(3),
        "never below the minimum"
    );
}

fn calls(world: &mut World, session: SessionId, uids: std::ops::RangeInclusive<u128>, fact: Fact) {
    for uid in uids {
        let n = world.status(uid).attempt;
        world.report(session, attempt(uid, n), fact);
    }
}

#[test]
fn a_service_that_is_away_is_left_alone_and_probed_with_few_calls() {
    let mut world = World::with_pool(PoolPolicy {
        breaker: BreakerPolicy {
            min_calls: 5,
            ..BreakerPolicy::default()
        },
        max_in_flight: Some(40),
        backoff_base: secs(1),
        backoff_cap: secs(1),
        ..pool()
    });
    let session = world.hello(1, 1, 40);
    for uid in 1..=5 {
        world.put(job(uid));
    }
    calls(&mut world, session, 1..=5, Fact::Grpc(grpc::UNAVAILABLE));
    for uid in 6..=40 {
        world.put(job(uid));
    }
    world.pass(secs(29), &[session]);
    assert_eq!(world.leases().len(), 5, "open");
    world.pass(secs(2), &[session]);
    assert_eq!(world.leases().len(), 8, "three probes and no more");
    world.pass(secs(20), &[session]);
    assert_eq!(world.leases().len(), 8);
    for id in world.leases()[5..].to_vec() {
        world.report(session, id, Fact::Succeeded);
    }
    let back = world.leases().len();
    assert!((9..=12).contains(&back), "a slow start: {back}");
    for _ in 0..8 {
        for id in world.holds[&session].clone() {
            world.report(session, id, Fact::Succeeded);
        }
        world.pass(secs(1), &[session]);
    }
    assert!((1..=40).all(|uid| world.phase(uid) == Phase::Succeeded));
    assert!((1..=40).all(|uid| world.status(uid).failures == 0));
}

#[test]
fn a_service_that_does_not_know_us_stops_the_pool_at_once_and_its_jobs_wait_for_the_next_probe() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), Fact::Http(401));
    let due = world.status(1).next_attempt.unwrap();
    let wait = due - world.now.wall;
    assert!((secs(30)..=secs(31)).contains(&wait), "{wait:?}");
    assert_eq!(world.status(1).failures + world.status(1).interruptions, 0);
    world.put(job(2));
    world.pass(secs(25), &[session]);
    assert_eq!(world.phase(2), Phase::Queued);
    let view = world.engine.pools(world.now.wall)[&POOL].clone();
    assert_eq!(view.breaker, State::Open);
    assert!(view.refused);
    world.pass(secs(7), &[session]);
    assert_eq!(world.leases().len(), 2);
}

/// The watch is often faster than the answer to the write it shows; the service's verdict must count all the same.
#[test]
fn an_end_that_the_watch_shows_before_its_write_is_answered_counts_for_the_breaker() {
    let (mut world, session) = World::running();
    world.hold_writes = true;
    world.report(session, attempt(1, 1), Fact::Http(401));
    let finish = world.held.remove(0);
    let (job, token, answer) = world.perform(finish).unwrap();
    let stored = world.etcd[&job].clone();
    world.feed(Event::Job(Box::new(stored)));
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(world.phase(1), Phase::Backoff);
    let view = world.engine.pools(world.now.wall)[&POOL].clone();
    assert_eq!((view.breaker, view.refused), (State::Open, true));
}

#[test]
fn one_odd_job_does_not_stop_the_others() {
    let mut world = World::new();
    let session = world.hello(1, 1, 2);
    world.put(job(1));
    world.report(session, attempt(1, 1), Fact::Succeeded);
    world.put(job(2));
    world.report(session, attempt(2, 1), Fact::Http(404));
    world.put(job(3));
    assert_eq!(world.phase(3), Phase::Running);
    assert_eq!(
        world.engine.pools(world.now.wall)[&POOL].breaker,
        State::Closed
    );
}

#[test]
fn probes_that_are_lost_are_replaced_and_failed_ones_open_the_breaker_for_longer() {
    let policy = BreakerPolicy {
        min_calls: 1,
        probes: 2,
        ..BreakerPolicy::default()
    };
    let at = |seconds: u64| Mono(seconds * 1000);
    let mut breaker = Breaker::default();
    breaker.ended(Uid(0), Sign::Down, &policy, at(0));
    breaker.poll(secs(90), at(29));
    assert_eq!(breaker.state(), State::Open);
    breaker.poll(secs(90), at(30));
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.granted(Uid(1));
    breaker.granted(Uid(2));
    assert!(!breaker.allows(&policy));
    breaker.ended(Uid(1), Sign::None, &policy, at(31));
    assert!(breaker.allows(&policy), "a lost probe says nothing");
    breaker.granted(Uid(1));
    breaker.ended(Uid(0), Sign::None, &policy, at(31));
    assert!(
        !breaker.allows(&policy),
        "nor does a call from before the outage, and it was no probe"
    );
    breaker.ended(Uid(2), Sign::Down, &policy, at(32));
    assert_eq!(breaker.next_probe_in(&policy, at(32)), secs(60));
    breaker.poll(secs(90), at(92));
    breaker.granted(Uid(3));
    breaker.granted(Uid(4));
    breaker.poll(secs(90), at(183));
    assert!(
        breaker.allows(&policy),
        "probes that never came back are given up"
    );
    assert!(!breaker.ended(Uid(3), Sign::Up, &policy, at(184)));
    assert!(breaker.ended(Uid(4), Sign::Up, &policy, at(185)));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn throughput_is_back_soon_after_an_outage() {
    let mut pool = Pool::default();
    pool.policy = Some(PoolPolicy {
        max_in_flight: Some(100),
        adaptive: Adaptive::default(),
        ..crate::fixtures::pool()
    });
    let mut now = Mono(0);
    for uid in 0..20 {
        pool.ended(Uid(uid), Some(Class::Unavailable), None, None, 0, now);
    }
    assert_eq!(pool.breaker(), State::Open);
    let mut rounds = 0;
    while pool.effective_limit() != Some(100) || pool.breaker() != State::Closed {
        now = now + secs(30);
        pool.poll(now);
        let limit = pool.effective_limit().unwrap_or(1);
        for uid in 0..limit {
            if pool.has_permit(uid, now) && pool.reserve(Uid(uid.into()), now) {
                pool.settle();
                pool.ended(Uid(uid.into()), Some(Class::Succeeded), None, None, 0, now);
            }
        }
        rounds += 1;
        assert!(rounds < 20, "{:?}", pool.effective_limit());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// covers: T19
    #[test]
    fn limits_stay_within_their_bounds(
        signs in prop::collection::vec((0..4u8, 0..20_000u64), 1..200),
        max in 1..200u32,
    ) {
        let policy = BreakerPolicy { min_calls: 3, ..BreakerPolicy::default() };
        let (mut adapt, mut breaker, mut now) = (Adapt::default(), Breaker::default(), Mono(0));
        for (sign, ms) in signs {
            now = now + std::time::Duration::from_millis(ms);
            breaker.poll(secs(60), now);
            let sign = [Sign::Up, Sign::Down, Sign::Refuses, Sign::None][usize::from(sign)];
            if sign == Sign::Down { adapt.throttled(max, 1, Some(max), None, now); }
            if sign == Sign::Up { adapt.succeeded(Some(max)); }
            if breaker.ended(Uid(1), sign, &policy, now) { adapt.restart(policy.probes, Some(max)); }
            let allowed = adapt.allowed(1, Some(max)).unwrap();
            prop_assert!((1..=max).contains(&allowed));
        }
    }

    /// Calls end at any time, those from before the outage and those that were given up, too. covers: T19
    #[test]
    fn while_half_open_probes_that_are_out_and_good_ones_are_never_more_than_the_probe_set(
        steps in prop::collection::vec((0..9usize, any::<prop::sample::Index>(), 0..20_000u64), 1..300),
        probes in 1..6u32,
    ) {
        const PATIENCE: u64 = 60;
        let policy = BreakerPolicy { min_calls: 3, probes, ..BreakerPolicy::default() };
        let (mut breaker, mut now, mut given_up) = (Breaker::default(), Mono(0), Mono(0));
        // What runs, and whether as a probe.
        let (mut calls, mut good) = (Vec::new(), 0);
        for (n, (what, which, ms)) in (0..).zip(steps) {
            now = now + std::time::Duration::from_millis(ms);
            let before = breaker.state();
            breaker.poll(secs(PATIENCE), now);
            if breaker.state() == State::HalfOpen && (before == State::Open || given_up <= now) {
                given_up = now + secs(PATIENCE);
                calls.iter_mut().for_each(|(_, is_probe)| *is_probe = false);
                good = if before == State::Open { 0 } else { good };
            }
            let is_open = breaker.state() == State::HalfOpen;
            match [Sign::Up, Sign::Up, Sign::None, Sign::Down].get(what) {
                None if breaker.allows(&policy) => {
                    breaker.granted(Uid(n));
                    calls.push((Uid(n), is_open));
                }
                Some(sign) if !calls.is_empty() => {
                    let (job, is_probe) = calls.swap_remove(which.index(calls.len()));
                    breaker.ended(job, *sign, &policy, now);
                    good += usize::from(is_open && is_probe && *sign == Sign::Up);
                }
                None | Some(_) => {}
            }
            let out = calls.iter().filter(|(_, is_probe)| *is_probe).count();
            if breaker.state() == State::HalfOpen {
                prop_assert!(out + good <= probes as usize, "{out} out, {good} good of {probes}");
            }
        }
    }

    /// covers: T20
    #[test]
    fn in_every_window_no_more_calls_start_than_rate_and_burst_allow(
        steps in prop::collection::vec((0..3_000u64, 1..10u32), 1..100),
        rate in 0.1..20.0f64,
        burst in 1..10u32,
    ) {
        let policy = PoolPolicy { rate_per_second: Some(rate), burst, ..pool() };
        let mut bucket = Bucket::default();
        bucket.drain(Mono(0));
        let (mut now, mut starts) = (Mono(0), Vec::new());
        for (ms, tries) in steps {
            now = now + std::time::Duration::from_millis(ms);
            for _ in 0..tries {
                if bucket.take(&policy, now) { starts.push(now); }
            }
        }
        for (i, from) in starts.iter().enumerate() {
            for (j, to) in starts.iter().enumerate().skip(i) {
                let window = to.since(*from).as_secs_f64();
                #[allow(clippy::cast_precision_loss)]
                let count = (j - i + 1) as f64;
                prop_assert!(count <= rate * window + f64::from(burst) + 1e-6);
            }
        }
    }
}

/// covers: T19
#[test]
fn a_second_outage_within_the_ramp_keeps_the_goal_of_the_first() {
    let max = Some(100);
    let calls_until_back = |outages: u32| {
        let mut adapt = Adapt::default();
        for _ in 0..outages {
            adapt.restart(3, max);
            (0..4).for_each(|_| adapt.succeeded(max));
        }
        (1..100_000).find(|_| {
            adapt.succeeded(max);
            adapt.allowed(1, max) == max
        })
    };
    assert!(calls_until_back(1).is_some());
    assert_eq!(calls_until_back(3), calls_until_back(1));
}
