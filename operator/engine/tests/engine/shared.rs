//! Two leaders that made the same claim, and what either may take for granted. covers: F29, I5, I7

use kinora_engine::action::Action;
use kinora_engine::event::Answer;
use kinora_engine::ids::SessionId;
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixtures::*;

/// The answer to a claim for worker 1 that is stored, before it comes.
fn claimed() -> (World, SessionId, Event) {
    let mut world = World::new();
    world.hold_writes = true;
    let session = world.hello(1, 1, 1);
    world.put(job(1));
    let claim = world.held.remove(0);
    let (job, token, answer) = world.perform(claim).expect("a claim");
    world.hold_writes = false;
    (world, session, Event::Answer { job, token, answer })
}

/// Another leader did not know of the claim when it made its own, and found it stored; it has the worker now.
fn claimed_again(first: &mut World, session: SessionId) {
    let mut second = World::new();
    second.put(job(1));
    second.etcd = first.etcd.clone();
    second.hello(2, 1, 1);
    assert_eq!(second.leases(), [attempt(1, 1)]);
    first.etcd = second.etcd;
    first.feed(Event::Closed(session));
}

fn seen(world: &World) -> Event {
    Event::Job(Box::new(world.etcd[&Uid(1)].clone()))
}

#[test]
fn a_lease_that_another_leader_sent_on_the_same_claim_leaves_a_ghost() {
    for watch_first in [false, true] {
        let (mut world, session, stored) = claimed();
        let mut rng = StdRng::seed_from_u64(1);
        let actions = world.engine.step(stored, world.now, &mut rng);
        let [Action::Prepare { token, .. }] = actions[..] else {
            panic!("{actions:?}");
        };
        claimed_again(&mut world, session);
        if watch_first {
            world.feed(seen(&world));
        }
        world.feed(Event::Answer {
            job: Uid(1),
            token,
            answer: Answer::Yes,
        });
        assert!(world.leases().is_empty());
        assert_eq!(world.phase(1), Phase::Queued);
        assert_eq!(world.status(1).ghosts.len(), 1, "watch: {watch_first}");
    }
}

#[test]
fn a_new_date_of_our_own_is_not_another_leader_s_when_the_watch_is_faster_than_its_answer() {
    let (mut world, session, stored) = claimed();
    world.pass(secs(11), &[session]);
    world.hold_writes = true;
    world.feed(stored);
    let dated = world.held.remove(0);
    let (job, token, answer) = world.perform(dated).expect("a new date");
    world.hold_writes = false;
    world.feed(seen(&world));
    world.feed(Event::Closed(session));
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(world.phase(1), Phase::Queued);
    assert!(world.status(1).ghosts.is_empty(), "no call ever ran");
}

#[test]
fn a_claim_that_another_leader_dated_anew_before_its_answer_came_is_not_ours_alone() {
    let (mut world, session, stored) = claimed();
    claimed_again(&mut world, session);
    world.feed(seen(&world));
    world.feed(stored);
    assert!(world.leases().is_empty());
    assert_eq!(world.phase(1), Phase::Queued);
    assert_eq!(world.status(1).ghosts.len(), 1);
}
