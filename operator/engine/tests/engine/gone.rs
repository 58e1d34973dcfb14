//! Pods that go while a write still names them: what is stored then never ran, and costs nobody anything.

use kinora_engine::event::{Answer, Lead};
use kinora_engine::*;

use crate::attempt_pods::{pod_says_hello, pods};
use crate::fixtures::*;

/// One call at once, and one in a hundred seconds.
fn slow(policy: PoolPolicy) -> PoolPolicy {
    PoolPolicy {
        rate_per_second: Some(0.01),
        max_in_flight: Some(1),
        ..policy
    }
}

fn go(world: &mut World, worker: u128, by_itself: bool) {
    let worker = Uid(worker);
    world.feed(Event::PodGone { worker, by_itself });
    // Both were in one update.
    world.feed(Event::PodDraining(worker));
}

fn workers(world: &World) -> Vec<u128> {
    world.engine.workers().map(|(uid, _)| uid.0).collect()
}

fn costs(world: &World) -> (u32, u32, usize) {
    let status = world.status(1);
    let ghosts = status.ghosts.len();
    (status.failures, status.interruptions, ghosts)
}

/// A worker went while it was claimed for, and another is there.
fn gone_while_claimed(policy: PoolPolicy, by_itself: bool) -> (World, (Uid, Token, Answer)) {
    let mut world = World::with_pool(policy);
    let first = world.hello(1, 1, 1);
    world.pass(secs(101), &[first]);
    world.hold_writes = true;
    world.put(job(1));
    let claim = world.held.remove(0);
    go(&mut world, 1, by_itself);
    world.hello(2, 2, 1);
    world.hold_writes = false;
    let stored = world.perform(claim).expect("an answer");
    (world, stored)
}

#[test]
fn a_claim_whose_pod_goes_while_it_is_stored_spends_no_token_and_leaves_no_ghost() {
    for by_itself in [false, true] {
        let (mut world, (job, token, answer)) = gone_while_claimed(slow(pool()), by_itself);
        world.feed(Event::Answer { job, token, answer });
        world.pass(secs(11), &[ids::SessionId(2)]);
        assert_eq!(world.leases(), [attempt(1, 2)]);
        assert_eq!(world.status(1).worker, Some(Uid(2)));
        assert_eq!((costs(&world), workers(&world)), ((0, 0, 0), vec![2]));
    }
}

#[test]
fn nor_does_one_whose_answer_is_lost_leave_a_ghost() {
    let (mut world, (job, token, _)) = gone_while_claimed(pool(), false);
    let answer = Answer::Unknown;
    world.feed(Event::Answer { job, token, answer });
    world.pass(secs(11), &[ids::SessionId(2)]);
    assert_eq!(world.leases(), [attempt(1, 2)]);
    assert_eq!((costs(&world), workers(&world)), ((0, 0, 0), vec![2]));
}

#[test]
fn a_pod_that_goes_while_it_is_made_the_holder_spends_no_token_and_leaves_no_ghost() {
    let mut world = World::with_pool(slow(pods()));
    world.pass(secs(101), &[]);
    world.put(job(1));
    world.hold_writes = true;
    pod_says_hello(&mut world, 7, attempt(1, 1));
    let placed = world.held.remove(0);
    go(&mut world, 7, false);
    world.hold_writes = false;
    let (job, token, answer) = world.perform(placed).unwrap();
    world.feed(Event::Answer { job, token, answer });
    world.pass(secs(11), &[]);
    assert_eq!((costs(&world), workers(&world)), ((0, 0, 0), vec![]));
    pod_says_hello(&mut world, 8, attempt(1, 2));
    assert_eq!(world.leases(), [attempt(1, 2)]);
}

#[test]
fn a_new_leader_waits_for_no_pod_that_it_saw_go() {
    let (old, _) = World::running();
    let mut world = World::cold();
    world.feed(Event::Pool(POOL, Box::new(slow(pool()))));
    world.feed(Event::PoolsSynced);
    world.put(old.etcd[&Uid(1)].clone());
    world.feed(Event::JobsSynced);
    go(&mut world, 1, false);
    world.feed(Event::Lead(Lead::Leader));
    assert_eq!(world.phase(1), Phase::Queued);
    let session = world.hello(2, 2, 1);
    world.pass(secs(101), &[session]);
    assert_eq!(world.leases(), [attempt(1, 2)]);
    assert_eq!((costs(&world), workers(&world)), ((0, 0, 0), vec![2]));
}
