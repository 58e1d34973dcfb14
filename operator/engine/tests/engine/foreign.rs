//! Claims that another leader still had under way: their calls count against the rate of whoever leads now.

use std::time::Duration;

use kinora_engine::event::Lead;
use kinora_engine::*;
use proptest::prelude::*;

use crate::fixtures::*;

fn limited(rate: f64, burst: u32) -> PoolPolicy {
    PoolPolicy {
        rate_per_second: Some(rate),
        burst,
        ..pool()
    }
}

/// A job that this leader knows and cannot claim for an hour.
fn known(world: &mut World, uid: u128) {
    let mut waits = job(uid);
    waits.status.phase = Phase::Backoff;
    waits.status.next_attempt = Some(START + secs(3600));
    world.put(waits);
}

/// The other leader's claim of it is stored.
fn lands(world: &mut World, uid: u128) {
    let mut claimed = world.etcd[&Uid(uid)].clone();
    claimed.status = claimed.claimed(Uid(9), POOL.name, world.now.wall);
    world.put(claimed);
}

fn own_claims(world: &World) -> usize {
    let claims = |(_, _, after): &&(Uid, action::Cause, Status)| after.phase == Phase::Running;
    world.writes.iter().filter(claims).count()
}

#[test]
fn claims_of_another_leader_are_paid_back_before_the_next_own_one() {
    let mut world = World::with_pool(limited(1.0, 4));
    let session = world.hello(1, 1, 40);
    world.pass(secs(10), &[session]);
    for uid in 1..=7 {
        known(&mut world, uid);
        lands(&mut world, uid);
    }
    world.put(job(100));
    world.pass(secs(3), &[session]);
    assert_eq!(world.phase(100), Phase::Queued, "4 tokens less 7 calls");
    world.pass(secs(1), &[session]);
    assert_eq!(world.phase(100), Phase::Running);
}

#[test]
fn an_own_claim_that_the_watch_shows_first_is_charged_once() {
    let mut world = World::with_pool(limited(0.001, 2));
    world.hello(1, 1, 40);
    world.pass(secs(2000), &[]);
    world.hello_with(2, 1, 40, 100, &[]);
    world.hold_writes = true;
    world.put(job(1));
    let claim = world.held.pop().expect("a claim");
    let (job_uid, token, answer) = world.perform(claim).expect("a write");
    let seen = Box::new(world.etcd[&job_uid].clone());
    world.hold_writes = false;
    world.feed(Event::Job(seen));
    world.feed(Event::Answer {
        job: job_uid,
        token,
        answer,
    });
    assert_eq!(world.phase(1), Phase::Running);
    world.put(job(2));
    assert_eq!(world.phase(2), Phase::Running, "the second token is there");
    world.put(job(3));
    assert_eq!(world.phase(3), Phase::Queued, "and no third");
}

#[test]
fn the_debt_is_never_more_than_one_leader_can_have_under_way() {
    let mut world = World::with_pool(limited(1.0, 1));
    let session = world.hello(1, 1, 200);
    for uid in 1..=100 {
        known(&mut world, uid);
        lands(&mut world, uid);
    }
    let mut next = job(200);
    next.spec.priority = 10;
    world.put(next);
    world.pass(secs(9), &[session]);
    assert_eq!(world.phase(200), Phase::Queued);
    world.pass(secs(25), &[session]);
    assert_eq!(world.phase(200), Phase::Running, "32 and its own");
}

/// It leads before its first listing is through, as one whose process began again does.
#[test]
fn what_a_first_listing_shows_at_work_is_charged_to_nobody() {
    let mut world = World::cold();
    world.feed(Event::Lead(Lead::Leader));
    world.feed(Event::Pool(POOL, Box::new(limited(1.0, 1))));
    world.feed(Event::PoolsSynced);
    for uid in 1..=32 {
        let mut running = job(uid);
        running.status = running.claimed(Uid(9), POOL.name, START);
        world.put(running);
    }
    world.put(job(200));
    world.feed(Event::JobsSynced);
    let session = world.hello(1, 1, 40);
    world.pass(secs(2), &[session]);
    assert_eq!(world.phase(200), Phase::Running);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// What the stopped leader had under way lands whenever it likes: over the time that the next one leads, no call of its own
    /// starts before all of them are within the rate. covers: T20, I7
    #[test]
    fn no_own_call_starts_before_those_of_the_stopped_leader_are_within_the_rate(
        steps in prop::collection::vec((1..9u64, any::<bool>()), 1..60),
        rate in 0.5..20.0f64,
        burst in 1..10u32,
    ) {
        let mut world = World::with_pool(limited(rate, burst));
        let session = world.hello(1, 1, 500);
        let begin = world.now.mono;
        for uid in 1..=32 {
            known(&mut world, uid);
        }
        for uid in 101..=300 {
            world.put(job(uid));
        }
        let mut landed = 0;
        for (tenths, lands_now) in steps {
            let before = own_claims(&world);
            world.pass(Duration::from_millis(tenths * 100), &[session]);
            let own = own_claims(&world);
            if own > before {
                let allowed = rate * world.now.mono.since(begin).as_secs_f64();
                #[allow(clippy::cast_precision_loss)]
                let calls = (own + landed) as f64;
                prop_assert!(calls <= allowed + 1e-6, "{calls} calls, {allowed} allowed");
            }
            if lands_now && landed < 32 {
                landed += 1;
                lands(&mut world, landed as u128);
            }
        }
    }
}
