//! Leases that only their worker speaks of: they take its slots, and none of our memory once it is silent about them.

use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixtures::*;

fn busy(world: &World) -> u32 {
    let known = world.engine.workers();
    known.map(|(_, worker)| worker.busy()).sum()
}

fn fresh(round: u128) -> Vec<AttemptId> {
    (0..257).map(|i| attempt(1000 * round + i, 1)).collect()
}

/// covers: S16
#[test]
fn a_liar_that_lists_other_leases_in_every_beat_is_believed_the_last_list_only() {
    let mut world = World::new();
    let session = world.hello(1, 1, 1);
    for round in 1..=100 {
        world.beat(session, 0, &fresh(round));
    }
    assert_eq!(busy(&world), 257);
    world.beat(session, 0, &[]);
    assert_eq!(busy(&world), 0);
}

/// covers: S16
#[test]
fn a_liar_that_comes_again_and_again_is_believed_the_last_list_only() {
    let mut world = World::new();
    for round in 1..=100 {
        world.hello_with(1, 1, 1, 100, &fresh(round));
    }
    assert_eq!(busy(&world), 257);
}

#[test]
fn a_lease_of_another_leader_that_its_job_confirms_needs_the_same_proof_as_any_other() {
    let mut world = World::new();
    let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 1)]);
    let mut claimed = job(1);
    claimed.status = claimed.claimed(Some(Uid(1)), POOL.name, world.now.wall);
    world.put(claimed);
    world.beat(session, 0, &[]);
    assert_eq!(world.phase(1), Phase::Running, "made before our first word");
    world.beat(session, 1, &[]);
    assert_ne!(world.status(1).attempt, 1, "lost, and claimed again");
}

#[test]
fn only_what_runs_there_or_waits_for_a_read_is_worth_its_texts() {
    let (mut world, session) = World::running();
    let other = world.hello(2, 2, 1);
    let takes = |world: &World, session: SessionId, n| {
        let worker = world.engine.worker_of(session).expect("a stream");
        world.engine.takes_report(worker, attempt(1, n))
    };
    assert!(takes(&world, session, 1));
    assert!(!takes(&world, other, 1), "somebody else's");
    assert!(!takes(&world, other, 0), "of the past");
    for n in 2..10 {
        assert!(takes(&world, other, n), "{n}");
        let event = Event::Outcome {
            session: other,
            attempt: attempt(1, n),
            fact: Fact::Succeeded,
            retry_after: None,
        };
        // The read that it leads to is never answered.
        world
            .engine
            .step(event, world.now, &mut StdRng::seed_from_u64(1));
        assert!(!takes(&world, other, n), "{n} twice");
        assert!(world.engine.keeps_report(Uid(2), attempt(1, n)));
    }
    assert!(!takes(&world, other, 10), "more than one job remembers");
    assert!(takes(&world, session, 1));
}
