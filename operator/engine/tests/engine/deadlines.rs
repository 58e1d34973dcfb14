//! How long an attempt may take, and from when on. covers: F22, F23

use kinora_engine::action::Action;
use kinora_engine::event::{Answer, Lead};
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::attempt_pods::{pod_says_hello, pods};
use crate::fixtures::*;
use crate::shared::claimed_by_another_too;

/// The API server was away meanwhile: no time of the call is over before it begins.
#[test]
fn a_claim_that_is_found_stored_late_has_all_its_time_when_its_lease_is_out() {
    let minute = PoolPolicy {
        timeout: secs(60),
        max_in_flight: Some(1),
        ..pool()
    };
    for away in [5, 75, 89, 100, 300] {
        let mut world = World::with_pool(minute.clone());
        let session = world.hello(1, 1, 1);
        world.hold_writes = true;
        let mut made = job(1);
        made.spec.active_deadline = Some(secs(60));
        world.put(made);
        world.put(job(2));
        let claim = world.held.remove(0);
        let (uid, token, _lost) = world.perform(claim).expect("a claim");
        // The read that the answer is followed by takes as long as the API server is away.
        let lost = Event::Answer {
            job: uid,
            token,
            answer: Answer::Unknown,
        };
        let mut rng = StdRng::seed_from_u64(1);
        let actions = world.engine.step(lost, world.now, &mut rng);
        let [Action::Read { token, .. }] = actions[..] else {
            panic!("{actions:?}");
        };
        world.pass(secs(away), &[session]);
        assert!(world.leases().is_empty());
        world.hold_writes = false;
        let answer = Answer::Found(Box::new(world.etcd[&uid].clone()));
        world.feed(Event::Answer {
            job: uid,
            token,
            answer,
        });
        assert_eq!(world.leases(), [attempt(1, 1)], "{away} s");
        let begun = world.now.wall;
        world.pass(secs(3), &[session]);
        let running = world.status(1).clone();
        assert_eq!(running.phase, Phase::Running, "{away} s");
        assert_eq!((running.failures, running.uncharged), (0, 0), "{away} s");

        // Whoever leads next, and what the call leaves behind, count from the lease too.
        let started = running.started.expect("a claim");
        assert!(begun - started <= secs(10), "{away} s");
        world.edit(1, |spec| spec.cancel = true);
        assert_eq!(world.status(1).ghosts, [started + secs(90)], "{away} s");

        world.report(session, attempt(1, 1), outcome::Fact::Succeeded);
        assert_eq!(world.acks(), [(attempt(1, 1), false)]);
        assert_eq!(world.leases().len(), 2, "{away} s");
        world.report(session, attempt(2, 1), outcome::Fact::Succeeded);
        assert_eq!(world.status(2).attempt, 1);
        assert_eq!(world.phase(2), Phase::Succeeded);
    }
}

/// The API server is slow, for hours maybe: work goes on at its pace.
#[test]
fn a_claim_is_dated_anew_once_however_long_its_writes_take() {
    let mut world = World::with_pool(pool());
    let session = world.hello(1, 1, 1);
    world.hold_writes = true;
    world.put(job(1));
    let mut writes = 0;
    while world.leases().is_empty() && writes < 5 {
        let held = world.held.remove(0);
        world.pass(secs(15), &[session]);
        let (job, token, answer) = world.perform(held).expect("a write");
        world.feed(Event::Answer { job, token, answer });
        writes += 1;
    }
    assert_eq!(writes, 2, "the claim and its new date");
    assert_eq!(world.leases(), [attempt(1, 1)]);
}

/// Another leader may have made the same claim, and its lease may be out.
#[test]
fn a_claim_that_is_dated_anew_still_leaves_a_ghost_if_it_may_be_another_s() {
    let (mut world, session, uid, token) = claimed_by_another_too();
    world.pass(secs(60), &[session]);
    let lost = |token| Event::Answer {
        job: uid,
        token,
        answer: Answer::Unknown,
    };
    world.feed(lost(token));
    let anew = world.held.remove(0);
    world.feed(Event::Closed(session));
    let (_, token, _) = world.perform(anew).expect("a write");
    world.hold_writes = false;
    world.feed(lost(token));
    assert!(world.leases().is_empty());
    assert_eq!(world.phase(1), Phase::Queued);
    assert_eq!(world.status(1).ghosts.len(), 1);
}

/// The one that was leader before may still be about to send its lease.
#[test]
fn an_attempt_that_another_leader_dates_anew_has_all_its_time() {
    let mut world = World::with_pool(PoolPolicy {
        timeout: secs(60),
        ..pool()
    });
    let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 1)]);
    let mut theirs = job(1);
    theirs.status = theirs.claimed(Uid(1), POOL.name, START);
    world.put(theirs.clone());
    world.pass(secs(80), &[session]);
    theirs.status = theirs.delayed(world.now.wall);
    world.put(theirs);
    world.pass(secs(89), &[session]);
    assert!(world.writes.is_empty(), "{:?}", world.writes);
    world.pass(secs(2), &[session]);
    assert_eq!(world.status(1).failures, 1);
}

/// Nobody listened while the API server was away: the outcome comes when somebody does.
/// covers: F22
#[test]
fn an_attempt_whose_time_is_over_when_a_leader_begins_is_heard_first() {
    let standby = |limit: u64| {
        let mut world = World::with_pool(PoolPolicy {
            timeout: secs(60),
            ..pool()
        });
        world.feed(Event::Lead(Lead::Standby));
        let mut running = job(1);
        running.status = running.claimed(Uid(1), POOL.name, START);
        world.put(running);
        world.pass(secs(limit), &[]);
        world.feed(Event::Lead(Lead::Leader));
        world
    };
    for away in [80, 91, 300] {
        let mut world = standby(away);
        world.pass(secs(8), &[]);
        assert!(world.writes.is_empty(), "{away} s: {:?}", world.writes);
        let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 1)]);
        world.pass(secs(2), &[session]);
        world.report(session, attempt(1, 1), outcome::Fact::Succeeded);
        assert_eq!(world.phase(1), Phase::Succeeded, "{away} s");
    }
    // Not for ever.
    let mut world = standby(91);
    let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 1)]);
    world.pass(secs(13), &[session]);
    assert_eq!(world.status(1).failures, 1);
}

/// Its URLs would be refused.
/// covers: F60
#[test]
fn no_lease_goes_out_while_the_clock_is_off() {
    let mut world = World::new();
    world.hold_writes = true;
    let session = world.hello(1, 1, 1);
    world.put(job(1));
    world.feed(Event::ClockTrusted(false));
    world.hold_writes = false;
    let claim = world.held.remove(0);
    let (job, token, answer) = world.perform(claim).expect("a claim");
    world.feed(Event::Answer { job, token, answer });
    world.pass(secs(400), &[session]);
    assert!(world.leases().is_empty());
    world.feed(Event::ClockTrusted(true));
    assert_eq!(world.leases(), [attempt(1, 1)]);
    world.pass(secs(300), &[session]);
    assert_eq!(world.phase(1), Phase::Running);
    assert_eq!(world.status(1).attempt, 1);
}

/// Its pod came, or has not reported yet, while the clock was ahead.
/// covers: F60
#[test]
fn a_pod_is_met_and_removed_by_a_clock_that_is_right() {
    let mut world = World::with_pool(pods());
    let mut stays = job(1);
    stays.spec.ttl = None;
    world.put(stays);
    world.now.wall = START + secs(7200);
    world.feed(Event::ClockTrusted(false));
    let session = pod_says_hello(&mut world, 7, attempt(1, 1));
    world.pass(secs(5), &[session]);
    assert_eq!(world.status(1).worker, None);
    world.now.wall = START + secs(5);
    world.feed(Event::ClockTrusted(true));
    assert_eq!(world.leases(), [attempt(1, 1)]);
    assert_eq!(world.status(1).started, Some(START + secs(5)));

    world.edit(1, |spec| spec.cancel = true);
    world.now.wall = START + secs(7200);
    world.feed(Event::ClockTrusted(false));
    world.pods.clear();
    world.pass(secs(5), &[session]);
    assert!(world.pods.is_empty(), "it still calls: {:?}", world.pods);
}
