//! A service that throttles the fewest calls there can be is left alone for as long as it asks, or longer and longer.
//! covers: F45, T19

use std::time::Duration;

use kinora_engine::action::PodAction;
use kinora_engine::event::Lead;
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::{Class, Fact, grpc};
use kinora_engine::policy::{Adaptive, BreakerPolicy};
use kinora_engine::schedule::Pool;
use kinora_engine::schedule::adapt::Adapt;
use kinora_engine::schedule::breaker::State;
use kinora_engine::*;

use crate::attempt_pods::{pod_says_hello, pods};
use crate::fixtures::*;

/// What the service answers, and what it asks for.
type Answers = (Fact, Option<Duration>);

const THROTTLED: Fact = Fact::Grpc(grpc::RESOURCE_EXHAUSTED);
/// How long each call takes.
const CALL: Duration = Duration::from_millis(20);

fn some_secs(n: u64) -> Option<Duration> {
    Some(secs(n))
}

/// Every call of this worker ends so. Tells when those began that began meanwhile.
fn serve(
    world: &mut World,
    session: SessionId,
    duration: Duration,
    answers: Answers,
) -> Vec<Duration> {
    let (began, mut starts) = (world.now.mono, Vec::new());
    let mut known = world.leases().len();
    while world.now.mono.since(began) < duration {
        for id in world.holds[&session].clone() {
            world.report_with(session, id, answers.0, answers.1);
        }
        let leases = world.leases().len();
        starts.extend((known..leases).map(|_| world.now.mono.since(began)));
        known = leases;
        world.now = world.now.after(CALL);
        world.feed(Event::Alive);
        world.feed(Event::Tick);
        world.beat(session, u64::MAX, &world.holds[&session].clone());
    }
    starts
}

/// Sends one call after the other, and has so many jobs that wait.
fn backlog(policy: PoolPolicy, jobs: u128) -> (World, SessionId) {
    let mut world = World::with_pool(policy);
    (1..=jobs).for_each(|uid| world.put(job(uid)));
    let session = world.hello(1, 1, 1);
    (world, session)
}

/// At most one call at once: the limit is at its least from the beginning.
fn one_at_once() -> PoolPolicy {
    PoolPolicy {
        max_in_flight: Some(1),
        ..pool()
    }
}

#[test]
fn a_service_with_a_used_up_quota_gets_a_call_as_often_as_it_asks_for() {
    let (mut world, session) = backlog(pool(), 1000);
    let starts = serve(&mut world, session, secs(300), (THROTTLED, some_secs(60)));
    assert!((4..=7).contains(&starts.len()), "{starts:?}");
    let view = world.engine.pools(world.now.wall)[&POOL].clone();
    assert_eq!(view.effective_limit, Some(1), "workers for one call");
    assert!(view.claimable > 900, "and not for none: {view:?}");
    assert!(view.paused_until > Some(world.now.mono), "{view:?}");
}

#[test]
fn a_service_that_asks_for_nothing_gets_a_call_after_twice_the_last_pause_up_to_a_minute() {
    let (mut world, session) = backlog(one_at_once(), 1000);
    let starts = serve(&mut world, session, secs(240), (THROTTLED, None));
    let gaps: Vec<u64> = starts
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs())
        .collect();
    assert_eq!(gaps, [2, 4, 8, 16, 32, 60, 60], "{starts:?}");
}

#[test]
fn after_the_first_success_the_calls_are_back_in_one_ramp() {
    let policy = PoolPolicy {
        max_in_flight: Some(8),
        ..pool()
    };
    let mut world = World::with_pool(policy);
    world.put(job(1));
    let session = world.hello(1, 1, 8);
    world.report(session, attempt(1, 1), THROTTLED);
    world.put(job(2));
    world.report(session, attempt(2, 1), THROTTLED);
    (3..=200).for_each(|uid| world.put(job(uid)));
    assert_eq!(world.leases().len(), 2);
    let starts = serve(&mut world, session, secs(3), (Fact::Succeeded, None));
    assert!(starts.len() > 190, "{starts:?}");
    assert!(starts[0] >= secs(1), "not before the pause is over");
    assert!(starts[190] < secs(2), "and then at once: {starts:?}");
    let view = world.engine.pools(world.now.wall)[&POOL].clone();
    assert_eq!(view.effective_limit, Some(8));
    assert_eq!(view.paused_until, None);
}

#[test]
fn other_pools_go_on() {
    let (mut world, session) = backlog(one_at_once(), 2);
    world.feed(Event::Pool(
        OTHER,
        Box::new(PoolPolicy {
            is_default: false,
            ..one_at_once()
        }),
    ));
    world.report_with(session, attempt(1, 1), THROTTLED, some_secs(60));
    world.hello_in(OTHER, 2, 2, 1, 200, &[]);
    let mut theirs = job(9);
    theirs.spec.pool = Some(OTHER.name);
    world.put(theirs);
    assert_eq!(world.phase(9), Phase::Running);
    assert_eq!(world.phase(2), Phase::Queued);
}

#[test]
fn a_new_leader_begins_without_the_pause() {
    let (mut world, session) = backlog(one_at_once(), 2);
    world.report_with(session, attempt(1, 1), THROTTLED, some_secs(3600));
    world.pass(secs(5), &[session]);
    assert_eq!(world.phase(2), Phase::Queued);
    world.feed(Event::Lead(Lead::Standby));
    world.feed(Event::Lead(Lead::Leader));
    world.hello(2, 2, 1);
    assert_eq!(world.phase(2), Phase::Running);
}

#[test]
fn a_call_under_way_goes_on_and_its_success_ends_the_pause() {
    let mut world = World::with_pool(PoolPolicy {
        max_in_flight: Some(2),
        adaptive: Adaptive {
            min_in_flight: 2,
            ..Adaptive::default()
        },
        ..pool()
    });
    let session = world.hello(1, 1, 2);
    (1..=3).for_each(|uid| world.put(job(uid)));
    world.report_with(session, attempt(1, 1), THROTTLED, some_secs(600));
    world.pass(secs(30), &[session]);
    assert_eq!(
        (world.phase(2), world.phase(3)),
        (Phase::Running, Phase::Queued)
    );
    assert_eq!(world.cancels(), []);
    world.report(session, attempt(2, 1), Fact::Succeeded);
    assert_eq!(world.phase(2), Phase::Succeeded);
    assert_eq!(world.phase(3), Phase::Running);
}

#[test]
fn a_probe_that_is_throttled_holds_back_the_next_one_and_no_more_than_that() {
    let (mut world, session) = backlog(
        PoolPolicy {
            breaker: BreakerPolicy {
                min_calls: 1,
                probes: 1,
                ..BreakerPolicy::default()
            },
            ..one_at_once()
        },
        4,
    );
    let breaker = |world: &World| world.engine.pools(world.now.wall)[&POOL].breaker;
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::UNAVAILABLE));
    world.pass(secs(31), &[session]);
    assert_eq!(
        (breaker(&world), world.leases().len()),
        (State::HalfOpen, 2)
    );
    let probe = world.holds[&session][0];
    // Longer than what a probe is waited for.
    world.report_with(session, probe, THROTTLED, some_secs(400));
    world.pass(secs(399), &[session]);
    assert_eq!(
        (breaker(&world), world.leases().len()),
        (State::HalfOpen, 2)
    );
    world.pass(secs(2), &[session]);
    assert_eq!(world.leases().len(), 3);
    let probe = world.holds[&session][0];
    world.report(session, probe, Fact::Succeeded);
    assert_eq!((breaker(&world), world.leases().len()), (State::Closed, 4));
}

#[test]
fn neither_is_a_pod_made_nor_one_that_waits_given_its_call() {
    let mut world = World::with_pool(PoolPolicy {
        adaptive: Adaptive {
            min_in_flight: 2,
            ..Adaptive::default()
        },
        ..pods()
    });
    world.put(job(1));
    let mut short = job(2);
    // It counts from the call, not from the claim.
    short.spec.active_deadline = Some(secs(30));
    world.put(short);
    world.put(job(3));
    let first = pod_says_hello(&mut world, 7, attempt(1, 1));
    world.report_with(first, attempt(1, 1), THROTTLED, some_secs(60));
    let second = pod_says_hello(&mut world, 8, attempt(2, 1));
    let beating = [first, second];
    let made = |world: &World| {
        let pods = world.pods.iter();
        pods.filter(|action| matches!(action, PodAction::Make { .. }))
            .count()
    };
    world.pass(secs(59), &beating);
    assert_eq!(world.leases(), [attempt(1, 1)]);
    assert_eq!((world.status(2).worker, made(&world)), (None, 2));
    world.pass(secs(2), &beating);
    assert_eq!(world.leases(), [attempt(1, 1), attempt(2, 1)]);
    assert_eq!((world.status(2).attempt, made(&world)), (1, 3));
    world.pass(secs(20), &beating);
    assert_eq!(world.phase(2), Phase::Running);
    world.pass(secs(11), &beating);
    assert_eq!(world.status(2).reason, Reason::DeadlineExceeded);
}

/// Its quota, or its tenant's, may be its own.
#[test]
fn what_one_job_is_asked_to_wait_does_not_stop_others_that_succeed() {
    let (mut world, session) = backlog(one_at_once(), 3);
    world.report(session, attempt(1, 1), Fact::Succeeded);
    world.report_with(session, attempt(2, 1), THROTTLED, some_secs(3600));
    world.pass(secs(3), &[session]);
    assert_eq!(world.phase(3), Phase::Running);
    world.report(session, attempt(3, 1), Fact::Succeeded);
    assert_eq!(world.phase(2), Phase::Backoff);
}

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1000)
}

#[test]
fn above_its_least_the_limit_is_lowered_and_nothing_stops() {
    let mut adapt = Adapt::default();
    let mut second = 0;
    while adapt.allowed(2, None).is_none_or(|allowed| allowed > 2) {
        assert!(adapt.may_begin(at(second)), "{adapt:?}");
        adapt.throttled(50, 2, None, some_secs(60), at(second));
        assert!(adapt.may_begin(at(second)), "{adapt:?}");
        second += 5;
    }
    assert!(second > 20);
    adapt.throttled(2, 2, None, some_secs(60), at(second));
    assert!(!adapt.may_begin(at(second + 59)));
    assert!(adapt.may_begin(at(second + 60)));
}

#[test]
fn a_pause_is_as_long_as_what_is_asked_for_but_for_an_hour_at_most_and_a_second_at_least() {
    let table = [
        ("nothing", None, 1),
        ("no time at all", some_secs(0), 1),
        ("some time", some_secs(90), 90),
        ("for ever", Some(Duration::MAX), 3600),
    ];
    for (name, asked, want) in table {
        let mut adapt = Adapt::default();
        adapt.throttled(1, 1, Some(1), asked, at(0));
        assert!(!adapt.may_begin(Mono(want * 1000 - 1)), "{name}");
        assert!(adapt.may_begin(at(want)), "{name}");
        adapt.throttled(1, 1, Some(1), asked, at(0));
        adapt.succeeded(Some(1));
        assert!(adapt.may_begin(at(0)), "{name}: until a call succeeds");
    }
}

#[test]
fn calls_that_began_before_the_pause_make_the_next_no_longer() {
    let mut adapt = Adapt::default();
    (0..10).for_each(|_| adapt.throttled(10, 10, Some(10), None, at(0)));
    assert!(adapt.may_begin(at(1)));
    adapt.throttled(10, 10, Some(10), some_secs(9), at(0));
    adapt.throttled(10, 10, Some(10), None, at(0));
    assert!(!adapt.may_begin(at(8)), "nor take back what one was told");
    adapt.throttled(10, 10, Some(10), None, at(9));
    assert!(!adapt.may_begin(at(10)));
    assert!(adapt.may_begin(at(11)));
}

#[test]
fn a_pool_that_does_not_follow_its_service_makes_no_pause() {
    for (enabled, want) in [(true, false), (false, true)] {
        let mut known = Pool::default();
        known.policy = Some(PoolPolicy {
            adaptive: Adaptive {
                enabled,
                ..Adaptive::default()
            },
            ..one_at_once()
        });
        known.ended(Uid(1), Some(Class::Throttled), None, None, 1, at(0));
        assert_eq!(known.has_permit(0, at(0)), want);
    }
}

#[test]
fn after_a_success_the_pauses_are_short_again() {
    let mut adapt = Adapt::default();
    for second in [0, 10, 20, 30, 40] {
        adapt.throttled(1, 1, None, None, at(second));
    }
    assert!(!adapt.may_begin(at(47)), "the fourth pause");
    adapt.succeeded(None);
    adapt.throttled(2, 1, None, None, at(50));
    assert!(adapt.may_begin(at(50)), "the limit had begun to grow");
    adapt.throttled(1, 1, None, None, at(51));
    assert!(!adapt.may_begin(Mono(51_999)));
    assert!(adapt.may_begin(at(52)));
}

#[test]
fn no_more_calls_are_allowed_than_the_pool_has_and_no_fewer_than_its_least() {
    let table = [
        (
            "a service that was never throttled",
            0,
            3,
            Some(100),
            Some(100),
        ),
        ("nor limited", 0, 3, None, None),
        ("throttled", 50, 3, Some(100), Some(3)),
        ("with a least of nothing", 50, 0, Some(100), Some(1)),
        ("above its most", 50, 9, Some(4), Some(4)),
        ("whose pool makes no pods", 50, 3, Some(0), Some(0)),
    ];
    for (name, throttled, min, max, want) in table {
        let mut adapt = Adapt::default();
        for step in 0..throttled {
            adapt.throttled(100, min, max, None, Mono(step * 6000));
        }
        assert_eq!(adapt.allowed(min, max), want, "{name}");
    }
}
