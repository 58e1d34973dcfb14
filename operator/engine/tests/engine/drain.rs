//! Workers that have to go are told so, and those that stay after all get leases again. covers: F34, F44

use kinora_engine::action::{CloseReason, ToWorker};
use kinora_engine::event::Lead;
use kinora_engine::ids::SessionId;
use kinora_engine::*;

use crate::fixtures::*;

fn cordon(world: &mut World, on: bool) {
    let worker = Uid(1);
    world.feed(Event::Cordon { worker, on });
}

/// How often this stream was told to drain.
fn told(world: &World, session: SessionId) -> usize {
    let drain = |(to, _, message): &&(SessionId, u64, ToWorker)| {
        *to == session && *message == ToWorker::Drain
    };
    world.sent.iter().filter(drain).count()
}

#[test]
fn a_worker_whose_pod_is_being_deleted_is_told_once_on_each_of_its_streams() {
    let (mut world, first) = World::running();
    world.feed(Event::PodDraining(Uid(1)));
    world.feed(Event::PodDraining(Uid(1)));
    assert_eq!(told(&world, first), 1);
    let second = world.hello_with(2, 1, 1, 100, &[attempt(1, 1)]);
    assert_eq!(told(&world, second), 1);
    assert_eq!(world.status(1).attempt, 1, "it keeps what it has");
}

#[test]
fn a_pod_that_was_being_deleted_before_its_hello_is_told_with_it() {
    let mut world = World::new();
    world.feed(Event::PodDraining(Uid(1)));
    assert!(world.sent.is_empty());
    let session = world.hello(1, 1, 1);
    assert_eq!(told(&world, session), 1);
}

#[test]
fn a_cordoned_worker_is_not_told_and_a_dismissed_one_is() {
    let mut world = World::new();
    let session = world.hello(1, 1, 1);
    cordon(&mut world, true);
    assert_eq!(told(&world, session), 0, "it may be given back");
    world.feed(Event::Drain(Uid(1)));
    world.feed(Event::Drain(Uid(1)));
    assert_eq!(told(&world, session), 1);
    world.put(job(1));
    assert_eq!(world.phase(1), Phase::Queued);
}

#[test]
fn a_dismissed_worker_that_stays_gets_a_new_stream_and_leases_on_it() {
    let mut world = World::new();
    let first = world.hello(1, 1, 1);
    cordon(&mut world, true);
    world.feed(Event::Drain(Uid(1)));
    world.feed(Event::Draining(first));
    world.put(job(1));
    cordon(&mut world, false);
    assert_eq!(world.closed, [(first, CloseReason::Recalled)]);
    assert_eq!(world.phase(1), Phase::Queued, "not before it is back");
    let second = world.hello_with(2, 1, 1, 100, &[]);
    assert_eq!(told(&world, second), 0);
    assert_eq!(world.phase(1), Phase::Running);
}

#[test]
fn giving_back_a_worker_that_was_only_cordoned_keeps_its_stream() {
    let mut world = World::new();
    world.hello(1, 1, 1);
    cordon(&mut world, true);
    cordon(&mut world, false);
    assert!(world.closed.is_empty());
    world.put(job(1));
    assert_eq!(world.phase(1), Phase::Running);
}

#[test]
fn a_dismissed_worker_whose_stream_broke_is_told_again_and_gets_nothing() {
    let mut world = World::new();
    let first = world.hello(1, 1, 1);
    world.feed(Event::Drain(Uid(1)));
    world.feed(Event::Draining(first));
    world.feed(Event::Closed(first));
    let second = world.hello_with(2, 1, 1, 100, &[]);
    assert_eq!(told(&world, second), 1);
    world.put(job(1));
    assert_eq!(world.phase(1), Phase::Queued);
}

#[test]
fn a_worker_that_leaves_by_itself_is_not_called_back() {
    let mut world = World::new();
    let session = world.hello(1, 1, 1);
    world.feed(Event::Draining(session));
    cordon(&mut world, false);
    world.put(job(1));
    assert!(world.closed.is_empty());
    assert_eq!(world.phase(1), Phase::Queued);
}

#[test]
fn a_standby_tells_nobody() {
    let mut world = World::new();
    world.feed(Event::Lead(Lead::Standby));
    world.feed(Event::PodDraining(Uid(1)));
    world.feed(Event::Drain(Uid(1)));
    assert!(world.sent.is_empty());
}

#[test]
fn a_worker_whose_eviction_is_taken_back_gets_leases_on_a_new_stream() {
    let mut world = World::new();
    let first = world.hello(1, 1, 1);
    world.feed(Event::PodDraining(Uid(1)));
    world.feed(Event::Draining(first));
    world.put(job(1));
    world.feed(Event::PodStays(Uid(1)));
    assert_eq!(world.closed, [(first, CloseReason::Recalled)]);
    let second = world.hello_with(2, 1, 1, 100, &[]);
    assert_eq!(told(&world, second), 0);
    assert_eq!(world.phase(1), Phase::Running);
}

/// We end its stream ourselves: a worker that comes back slowly has done nothing wrong, and its call runs on.
#[test]
fn a_worker_whose_eviction_is_taken_back_keeps_the_call_that_it_has() {
    let (mut world, first) = World::running();
    world.feed(Event::PodDraining(Uid(1)));
    world.feed(Event::PodStays(Uid(1)));
    assert_eq!(world.closed, [(first, CloseReason::Recalled)]);
    world.pass(secs(5), &[]);
    assert_eq!(world.phase(1), Phase::Running);
    let second = world.hello_with(2, 1, 1, 100, &[attempt(1, 1)]);
    world.pass(secs(30), &[second]);
    assert_eq!(world.leases(), [attempt(1, 1)]);
    // One that does not come back is given up.
    world.feed(Event::PodDraining(Uid(1)));
    world.feed(Event::PodStays(Uid(1)));
    world.pass(secs(13), &[]);
    assert_eq!(world.phase(1), Phase::Queued);
}
