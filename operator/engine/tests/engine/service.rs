//! What a pool remembers of its service, and for how long: outcomes, the mean call, the breaker's window; and what it shows.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use kinora_engine::outcome::Class;
use kinora_engine::policy::BreakerPolicy;
use kinora_engine::schedule::Pool;
use kinora_engine::schedule::breaker::{Breaker, Sign, State};
use kinora_engine::*;

use crate::attempt_pods::pods;
use crate::fixtures::*;

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1000)
}

fn ends(pool: &mut Pool, class: Class, count: usize) {
    for _ in 0..count {
        pool.ended(Uid(1), Some(class), None, None, 0, at(0));
    }
}

#[test]
fn a_service_is_believed_as_long_as_one_of_its_last_twenty_answers_was_a_success() {
    let table = [
        ("it never succeeded", 0, 5, false),
        ("just now", 1, 0, true),
        ("the success is the twentieth", 1, 19, true),
        ("the success is the twenty-first", 1, 20, false),
        ("what came before is forgotten", 60, 20, false),
        ("however much that was", 60, 19, true),
    ];
    for (name, successes, failures, want) in table {
        let mut pool = Pool::default();
        ends(&mut pool, Class::Succeeded, successes);
        ends(&mut pool, Class::Failed, failures);
        assert_eq!(pool.is_credible(), want, "{name}");
        // None of these came from the service.
        ends(&mut pool, Class::Lost, 30);
        ends(&mut pool, Class::Unavailable, 30);
        assert_eq!(pool.is_credible(), want, "{name}, and losses");
    }
}

#[test]
fn the_mean_call_is_in_seconds_and_follows_by_a_tenth() {
    let mut pool = Pool::default();
    let mut call = |class, duration| {
        pool.ended(Uid(1), Some(class), duration, None, 0, at(0));
        pool.call_seconds()
    };
    assert_eq!(call(Class::Succeeded, None), None, "nobody measured it");
    assert_eq!(call(Class::Succeeded, Some(secs(12))), Some(12.0));
    assert_eq!(
        call(Class::Failed, Some(secs(500))),
        Some(12.0),
        "how long a failure took says nothing"
    );
    let mean = call(Class::Succeeded, Some(Duration::from_millis(2_500)));
    assert!(mean.is_some_and(|m| (m - 11.05).abs() < 1e-9), "{mean:?}");
    for _ in 0..200 {
        call(Class::Succeeded, Some(secs(3)));
    }
    let mean = pool.call_seconds();
    assert!(mean.is_some_and(|m| (m - 3.0).abs() < 1e-3), "{mean:?}");
}

/// So many of a sign, at that second.
type Calls = (Sign, u32, u64);

fn after(calls: &[Calls]) -> State {
    let policy = BreakerPolicy::default();
    let mut breaker = Breaker::default();
    for (sign, count, second) in calls {
        for _ in 0..*count {
            breaker.ended(Uid(1), *sign, &policy, at(*second));
        }
    }
    breaker.state()
}

#[test]
fn a_breaker_opens_on_half_of_the_last_hundred_calls_of_the_last_minute() {
    use Sign::{Down, Refuses, Up};
    use State::{Closed, Open};
    let table: [(&str, &[Calls], State); 9] = [
        ("too few to say", &[(Down, 19, 0)], Closed),
        ("enough", &[(Down, 20, 0)], Open),
        (
            "at a minute they count",
            &[(Down, 19, 0), (Down, 1, 60)],
            Open,
        ),
        (
            "after it they do not, few as they are",
            &[(Down, 19, 0), (Down, 1, 61)],
            Closed,
        ),
        ("less than half", &[(Up, 21, 0), (Down, 20, 0)], Closed),
        ("half", &[(Up, 20, 0), (Down, 20, 0)], Open),
        (
            "half of the last hundred",
            &[(Up, 1000, 0), (Down, 50, 0)],
            Open,
        ),
        (
            "one less, whatever came before",
            &[(Up, 1000, 0), (Down, 49, 0)],
            Closed,
        ),
        (
            "a refusal is enough",
            &[(Up, 1000, 0), (Refuses, 1, 0)],
            Open,
        ),
    ];
    for (name, calls, want) in table {
        assert_eq!(after(calls), want, "{name}");
    }
}

#[test]
fn a_pool_shows_who_waits_who_could_go_soon_and_since_when() {
    let mut world = World::new();
    let waiting = |uid, age: i64, due: Option<u64>| {
        let mut job = job(uid);
        job.spec.created = Wall(START.0 - age);
        if let Some(due) = due {
            job.status.phase = Phase::Backoff;
            job.status.next_attempt = Some(START + secs(due));
        }
        job
    };
    for uid in 1..=3 {
        world.put(waiting(uid, 1000 * uid as i64, None));
    }
    world.put(waiting(4, 9000, Some(30)));
    world.put(waiting(5, 9000, Some(31)));
    let mut held = job(6);
    held.spec.suspend = true;
    world.put(held);
    let view = world.engine.pools(world.now.wall)[&POOL].clone();
    assert_eq!((view.queued, view.claimable), (5, 4));
    assert_eq!((view.running, view.unfinished), (0, 5));
    assert_eq!(view.oldest, Some(Wall(START.0 - 3000)));

    world.hello(1, 1, 1);
    let view = world.engine.pools(world.now.wall)[&POOL].clone();
    assert_eq!((view.queued, view.claimable), (4, 3));
    assert_eq!((view.running, view.unfinished), (1, 5));
    assert_eq!(view.oldest, Some(Wall(START.0 - 2000)), "the oldest runs");
}

#[test]
fn of_a_suspended_pool_nothing_could_be_claimed_until_it_is_resumed() {
    let mut world = World::new();
    world.put(job(1));
    world.put(job(2));
    let mut due = job(3);
    due.status.phase = Phase::Backoff;
    due.status.next_attempt = Some(START + secs(10));
    world.put(due);
    for (suspended, want) in [(false, 3), (true, 0), (false, 3)] {
        let policy = PoolPolicy {
            suspended,
            ..pool()
        };
        world.feed(Event::Pool(POOL, Box::new(policy)));
        let view = world.engine.pools(world.now.wall)[&POOL].clone();
        assert_eq!((view.queued, view.unfinished), (3, 3));
        assert_eq!(view.claimable, want);
    }
}

/// Of which job, and how.
type End = (u128, Class);

#[test]
fn a_pool_is_refused_until_its_service_answers_or_is_away() {
    use Class::{Failed, Lost, Misconfigured, Succeeded, Throttled, Unavailable};
    let table: [(&str, &[End], bool); 7] = [
        ("nobody else succeeds", &[(1, Misconfigured)], true),
        ("others do", &[(2, Succeeded), (1, Misconfigured)], false),
        (
            "its own success is no other's",
            &[(1, Succeeded), (1, Misconfigured)],
            true,
        ),
        (
            "another is refused",
            &[(1, Succeeded), (1, Misconfigured), (2, Misconfigured)],
            true,
        ),
        ("it is away", &[(1, Misconfigured), (2, Unavailable)], false),
        ("it answers", &[(1, Misconfigured), (2, Failed)], false),
        (
            "it says nothing about us",
            &[(1, Misconfigured), (2, Throttled), (3, Lost)],
            true,
        ),
    ];
    for (name, ends, want) in table {
        let mut service = Pool::default();
        service.policy = Some(crate::fixtures::pool());
        for (job, class) in ends {
            service.ended(Uid(*job), Some(*class), None, None, 0, at(0));
        }
        assert_eq!(service.is_refused(), want, "{name}");
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The model checker takes states of one hash for one: a hash that forgets something hides what follows from it.
#[test]
fn a_pool_is_another_one_to_the_model_when_it_decides_otherwise_about_a_job() {
    type Change = fn(&mut Pool);
    let known = || {
        let mut known = Pool::default();
        known.policy = Some(pool());
        known.bucket.drain(at(1));
        known
    };
    let table: [(&str, Change, bool); 8] = [
        ("nothing", |_| {}, true),
        ("it is gone", |pool| pool.policy = None, false),
        (
            "it claims no more",
            |pool| pool.policy.as_mut().unwrap().suspended = true,
            false,
        ),
        (
            "a claim is under way",
            |pool| pool.reserve_permit(Uid(1)),
            false,
        ),
        ("tokens", |pool| pool.bucket.drain(at(2)), false),
        (
            "a call may still run",
            |pool| pool.ghosts.add(attempt(1, 1), Uid(7), START),
            false,
        ),
        ("a failure", |pool| ends(pool, Class::Failed, 1), false),
        (
            "a service that is away stops calls, not a job",
            |pool| ends(pool, Class::Unavailable, 50),
            true,
        ),
    ];
    for (name, change, same) in table {
        let mut other = known();
        change(&mut other);
        assert_eq!(hash(&other) == hash(&known()), same, "{name}");
    }
}

/// A pod that waits for its call waits longer.
#[test]
fn a_pool_with_pods_is_another_one_to_the_model_when_its_service_throttles_or_refuses() {
    let known = |policy: PoolPolicy| {
        let mut known = Pool::default();
        known.policy = Some(policy);
        known
    };
    for class in [Class::Throttled, Class::Misconfigured] {
        for (policy, same) in [(pool(), true), (pods(), false)] {
            let mut other = known(policy.clone());
            ends(&mut other, class, 1);
            assert_eq!(hash(&other) == hash(&known(policy)), same, "{class:?}");
        }
    }
}
