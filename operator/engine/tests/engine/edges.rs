//! What holds at the very moment, at the very number: the edges of every rule that compares.

use std::time::Duration;

use kinora_engine::archive::expiry;
use kinora_engine::audit::{self, Entry, Facts, Step, YOUNG};
use kinora_engine::backoff::window;
use kinora_engine::deletions::{Deletions, FLOOD, Verdict, WATCHED};
use kinora_engine::health::{Health, TICK_GAP, WRITE_GAP};
use kinora_engine::job::decide::{self, Beside, Next};
use kinora_engine::job::machine::{MAX_GHOSTS, Verdict as End};
use kinora_engine::limits::{Bucket, Ghosts};
use kinora_engine::outcome::Class;
use kinora_engine::pace::Pace;
use kinora_engine::retention::{Clocks, DAY, MAX_SKEW};
use kinora_engine::schedule::queue::Queue;
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixtures::*;

const MS: Duration = Duration::from_millis(1);

fn ends(phase: Phase, declared: bool, ttl: Option<u64>) -> Option<u64> {
    let spec = Spec {
        declared,
        ttl: ttl.map(secs),
        ..job(1).spec
    };
    let status = Status {
        phase,
        finished: Some(START),
        ..Status::default()
    };
    let policy = PoolPolicy {
        dead_letter_ttl: secs(1000),
        ..pool()
    };
    expiry(&spec, &status, Some(&policy)).map(|at| (at - START).as_secs())
}

#[test]
fn a_final_job_stays_as_long_as_its_end_and_its_author_say() {
    let table = [
        (
            "a success with a TTL",
            Phase::Succeeded,
            false,
            Some(60),
            Some(60),
        ),
        ("a success without", Phase::Succeeded, true, None, None),
        (
            "a cancelled one with a TTL",
            Phase::Cancelled,
            false,
            Some(60),
            Some(60),
        ),
        (
            "a cancelled one without",
            Phase::Cancelled,
            true,
            None,
            None,
        ),
        (
            "a dead letter of an upload: the pool's",
            Phase::DeadLettered,
            false,
            Some(60),
            Some(1000),
        ),
        (
            "or its own if that is longer",
            Phase::DeadLettered,
            false,
            Some(2000),
            Some(2000),
        ),
        (
            "without one: the pool's",
            Phase::DeadLettered,
            false,
            None,
            Some(1000),
        ),
        (
            "a declared dead letter with a TTL: the pool's",
            Phase::DeadLettered,
            true,
            Some(2000),
            Some(1000),
        ),
        (
            "and without one for ever",
            Phase::DeadLettered,
            true,
            None,
            None,
        ),
        ("one that runs", Phase::Running, false, Some(60), None),
    ];
    for (name, phase, declared, ttl, want) in table {
        assert_eq!(ends(phase, declared, ttl), want, "{name}");
    }
}

#[test]
fn an_entry_is_old_enough_at_ten_minutes() {
    let of = |age| {
        audit::next(&Facts {
            age,
            ..Facts::default()
        })
    };
    assert_eq!(of(YOUNG - MS), Step::Leave);
    assert_eq!(of(YOUNG), Step::AskJob);
}

#[test]
fn a_redrive_is_half_done_when_the_store_knows_a_later_life_of_a_dead_letter() {
    let table = [
        ("begun", true, true, 2, 1, true),
        ("not cleaned yet", true, true, 1, 1, false),
        ("an old entry", true, true, 0, 1, false),
        ("done", true, false, 2, 1, false),
        ("never a job", false, true, 2, 1, false),
    ];
    for (name, accepted, dead, redrives, of_job, want) in table {
        let entry = Entry { accepted, redrives };
        assert_eq!(entry.is_half_redriven(dead, of_job), want, "{name}");
    }
}

#[test]
fn a_deletion_is_judged_at_a_minute_and_a_flood_begins_with_its_last() {
    let at = |ms: Duration| Mono(0) + ms;
    let mut one = Deletions::default();
    assert!(one.observed("a", at(Duration::ZERO)));
    assert!(one.due(at(WATCHED - MS)).is_empty());
    assert_eq!(one.due(at(WATCHED)), [("a", Verdict::Cancelled)]);

    // The first is over a minute before the last: one too few within a minute.
    for (gap, want) in [(WATCHED, Verdict::Cancelled), (WATCHED - MS, Verdict::Lost)] {
        let mut many = Deletions::default();
        assert!(many.observed(0, at(Duration::ZERO)));
        assert!((1..FLOOD).all(|n| many.observed(n, at(gap))));
        let all = many.due(at(gap + WATCHED));
        assert_eq!(all.len(), FLOOD);
        assert!(all.iter().all(|(_, it)| *it == want), "{gap:?}: {all:?}");
    }

    // A flood a whole minute later is no company of it.
    let mut before = Deletions::default();
    assert!(before.observed(0, at(Duration::ZERO)));
    assert!((1..=FLOOD).all(|n| before.observed(n, at(WATCHED))));
    assert_eq!(before.due(at(WATCHED)), [(0, Verdict::Cancelled)]);
}

#[test]
fn a_gap_is_our_own_fault_only_when_it_is_longer_than_allowed() {
    let begin = Mono(1_000_000);
    let health = || {
        let mut health = Health::default();
        health.reset(begin);
        health
    };
    assert!(!health().tick(begin + TICK_GAP));
    assert!(health().tick(begin + TICK_GAP + MS));
    let ticking = |until: Duration| {
        let mut health = health();
        let mut at = Duration::ZERO;
        let mut fault = false;
        while at < until {
            at = (at + TICK_GAP).min(until);
            fault = health.tick(begin + at);
        }
        fault
    };
    assert!(!ticking(WRITE_GAP));
    assert!(ticking(WRITE_GAP + MS));
    let mut wrote = health();
    wrote.wrote(begin + TICK_GAP);
    wrote.wrote(begin);
    assert!(
        !wrote.tick(begin + TICK_GAP),
        "an older write takes nothing back"
    );
}

#[test]
fn a_window_doubles_from_its_base_to_its_cap() {
    let table = [
        (0, 10),
        (1, 10),
        (2, 20),
        (3, 40),
        (6, 320),
        (7, 600),
        (33, 600),
        (u32::MAX, 600),
    ];
    for (nth, want) in table {
        assert_eq!(window(nth, secs(10), secs(600)), secs(want), "the {nth}th");
    }
}

#[test]
fn a_bucket_gives_a_token_the_moment_it_is_full_and_never_more_than_its_burst() {
    let policy = PoolPolicy {
        rate_per_second: Some(2.0),
        burst: 3,
        ..pool()
    };
    let mut bucket = Bucket::default();
    bucket.drain(Mono(0));
    assert!(!bucket.take(&policy, Mono(499)));
    assert!(bucket.take(&policy, Mono(500)));
    assert!(!bucket.take(&policy, Mono(999)));
    bucket.give_back(&policy);
    assert!(bucket.take(&policy, Mono(999)));
    let mut taken = 0;
    while bucket.take(&policy, Mono(100_000)) {
        taken += 1;
    }
    assert_eq!(taken, 3);
    (0..5).for_each(|_| bucket.give_back(&policy));
    taken = 0;
    while bucket.take(&policy, Mono(100_000)) {
        taken += 1;
    }
    assert_eq!(taken, 3, "what is given back does not gather either");
    let mut free = Bucket::default();
    free.owe(9, &pool(), Mono(0));
    assert!(
        free.take(&pool(), Mono(0)),
        "without a rate there is no debt"
    );
}

#[test]
fn a_ghost_counts_until_its_time_or_its_worker_s_word_and_once() {
    let until = START + secs(10);
    let mut ghosts = Ghosts::default();
    ghosts.sync(Uid(1), &[START, until, until], START);
    assert_eq!(ghosts.count(), 2, "one that is over now is none");
    ghosts.sync(Uid(1), &[until, until], START);
    assert_eq!(ghosts.count(), 2, "known already");
    ghosts.add(attempt(1, 1), Uid(7), until);
    assert_eq!(ghosts.count(), 2, "it is one of them");
    assert!(!ghosts.clear(attempt(1, 2), Uid(7)));
    assert!(!ghosts.clear(attempt(1, 1), Uid(8)), "not its call");
    assert!(ghosts.clear(attempt(1, 1), Uid(7)));
    assert!(!ghosts.clear(attempt(1, 1), Uid(7)), "once");
    assert_eq!(ghosts.count(), 1);
    ghosts.expire(START + (secs(10) - MS));
    assert_eq!(ghosts.count(), 1);
    ghosts.expire(until);
    assert_eq!(ghosts.count(), 0);
}

#[test]
fn a_turn_comes_after_the_one_before_it_and_none_is_saved_up() {
    let mut pace = Pace::new(4.0);
    assert_eq!(pace.turn(Mono(1000)), Duration::ZERO);
    assert_eq!(pace.turn(Mono(1000)), Duration::from_millis(250));
    assert_eq!(pace.turn(Mono(1100)), Duration::from_millis(400));
    assert_eq!(pace.turn(Mono(60_000)), Duration::ZERO);
    assert_eq!(pace.turn(Mono(60_000)), Duration::from_millis(250));
}

#[test]
fn clocks_agree_up_to_five_minutes_and_a_day_is_due_at_its_end() {
    let clocks = |local: Wall, store: Wall| Clocks { local, store };
    assert!(clocks(START + MAX_SKEW, START).agree());
    assert!(clocks(START, START + MAX_SKEW).agree());
    assert!(!clocks(START + MAX_SKEW + MS, START).agree());
    assert!(!clocks(START, START + MAX_SKEW + MS).agree());
    let due = |at: Wall| retention::is_due(START, DAY * 10, clocks(at, at + MS));
    assert!(!due(START + (DAY * 11 - MS)));
    assert!(due(START + DAY * 11));
}

#[test]
fn a_call_that_may_still_run_is_kept_until_its_second_and_never_more_than_eight_are() {
    let policy = pool();
    let end = START + policy.attempt_limit();
    let lost = End {
        call_may_run: true,
        ..End::of(Class::Lost)
    };
    let after = |ghosts: &[Wall], now: Wall| {
        let mut runs = job(1);
        runs.status = runs.claimed(Uid(1), POOL.name, START);
        runs.status.ghosts = ghosts.to_vec();
        let mut rng = StdRng::seed_from_u64(1);
        runs.ended(lost, &policy, now, &mut rng).ghosts
    };
    let (soon, now) = (START + secs(1), START + secs(5));
    assert_eq!(after(&[], now), [end]);
    assert_eq!(after(&[], end + MS), [], "it is over by itself");
    assert_eq!(after(&[], end), []);
    assert_eq!(
        after(&[soon, now, now + secs(1)], now),
        [now + secs(1), end]
    );
    assert_eq!(after(&[end; MAX_GHOSTS - 1], now), [end; MAX_GHOSTS]);
    assert_eq!(after(&[end; MAX_GHOSTS], now), [end; MAX_GHOSTS]);
    // A claim makes room: for what is over, and for what a clock that was ahead wrote.
    let mut waits = job(1);
    waits.status.ghosts = vec![now, now + secs(1), now + DAY * 30];
    let claimed = waits.claimed(Uid(1), POOL.name, now);
    assert_eq!(claimed.ghosts, [now + secs(1)]);
}

#[test]
fn a_job_with_eight_calls_that_may_still_run_waits_for_the_first_to_be_over() {
    let first = START + secs(7);
    let mut ghosts = vec![first + secs(9); MAX_GHOSTS];
    ghosts[3] = first;
    let policy = pool();
    let next = |ghosts: &[Wall], now: Wall| {
        let mut waits = job(1);
        waits.status.ghosts = ghosts.to_vec();
        let beside = Beside {
            policy: Some(&policy),
            pools_known: true,
            ..Beside::default()
        };
        let mut rng = StdRng::seed_from_u64(1);
        decide::next(&waits, &beside, now, &mut rng)
    };
    assert_eq!(next(&ghosts, START), Next::Wait(Some(first)));
    assert_eq!(next(&ghosts, Wall(first.0 - 1)), Next::Wait(Some(first)));
    assert_eq!(next(&ghosts, first), Next::Ready(None));
    assert_eq!(next(&ghosts[1..], START), Next::Ready(None), "seven");
}

#[test]
fn of_many_tenants_that_came_and_went_no_more_than_four_thousand_are_remembered() {
    let of = |tenant: u32| {
        let mut one = job(tenant.into());
        one.spec.tenant = Symbol(tenant);
        one
    };
    let came_and_went = |tenants: std::ops::RangeInclusive<u32>| {
        let mut queue = Queue::default();
        queue.insert(&of(9999), false);
        tenants.clone().for_each(|t| queue.insert(&of(t), false));
        tenants.for_each(|t| queue.remove(&of(t)));
        queue
    };
    assert!(came_and_went(1..=5000) == came_and_went(4098..=5000));
    assert!(came_and_went(1..=4096) != came_and_went(2..=4096));

    let (mut queue, mut waits) = (Queue::default(), Queue::default());
    waits.insert(&of(1), false);
    queue.insert(&of(1), false);
    for tenant in 2..=4098 {
        queue.insert(&of(tenant), false);
        queue.remove(&of(tenant));
    }
    assert!(queue == waits, "whoever waits is");
}
