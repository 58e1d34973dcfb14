//! The worker that is kept for a job which needs one for itself stays kept, and who becomes such a job while it waits.
//! covers: F42

use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::schedule::ALONE_FROM;
use kinora_engine::*;

use crate::fixtures::*;
use crate::queue::of;
use crate::schedule::{capped, suspect};

/// Two workers with two slots each; worker 2 is full, worker 1 runs job 2 and is kept for job 9 of tenant 1.
fn kept(mut world: World) -> World {
    world.hello(1, 1, 2);
    world.hello(2, 2, 2);
    for (uid, worker) in [(1, 2), (2, 1), (3, 2)] {
        world.put(of(2, uid));
        assert_eq!(world.status(uid).worker, Some(Uid(worker)));
    }
    world.put(Job {
        spec: of(1, 9).spec,
        ..suspect(9)
    });
    world.put(of(2, 4));
    assert_eq!(world.leases().len(), 3, "worker 1 is kept");
    world
}

#[test]
fn a_claim_that_the_watch_shows_before_its_answer_counts_once_below_its_tenants_cap() {
    let mut world = kept(capped(2));
    world.report(SessionId(2), attempt(1, 1), Fact::Succeeded);
    world.report(SessionId(2), attempt(3, 1), Fact::Succeeded);
    assert_eq!(world.status(4).worker, Some(Uid(2)));
    world.hold_writes = true;
    world.put(of(1, 5));
    world.hold_writes = false;
    let claim = world.held.remove(0);
    let (job, token, answer) = world.perform(claim).expect("a claim");
    assert_eq!(world.status(5).worker, Some(Uid(2)));
    let stored = world.etcd[&job].clone();
    world.feed(Event::Job(Box::new(stored)));
    world.put(of(2, 50));
    assert_eq!(world.phase(50), Phase::Queued, "worker 1 is still kept");
    world.feed(Event::Answer { job, token, answer });
    world.report(SessionId(1), attempt(2, 1), Fact::Succeeded);
    assert_eq!(world.status(9).worker, Some(Uid(1)));
    assert_eq!(world.phase(50), Phase::Queued, "nobody joins it");
}

/// Nothing was granted while it was away, so nobody noticed.
#[test]
fn a_kept_worker_that_was_forgotten_and_is_back_is_kept_anew() {
    let mut world = kept(World::new());
    world.feed(Event::ClockTrusted(false));
    world.report(SessionId(1), attempt(2, 1), Fact::Succeeded);
    world.feed(Event::Closed(SessionId(1)));
    world.pass(secs(3), &[SessionId(2)]);
    world.hello(3, 1, 2);
    assert_eq!(world.leases().len(), 3);
    world.feed(Event::ClockTrusted(true));
    assert_eq!(world.leases()[3..], [attempt(9, 1)]);
    assert_eq!(world.phase(4), Phase::Queued);
}

/// Attempt 1 of a job with two interruptions is lost with worker 1; worker 2 has these others, and two slots.
fn lost_beside(others: &[u128]) -> (World, SessionId) {
    let mut world = World::new();
    let lost = world.hello(1, 1, 1);
    let mut twice = suspect(1);
    twice.status.interruptions = ALONE_FROM - 1;
    world.put(twice);
    let session = world.hello(2, 2, 2);
    others.iter().for_each(|uid| world.put(job(*uid)));
    world.feed(Event::Closed(lost));
    world.pass(secs(3), &[session]);
    (world, session)
}

/// That loss was an interruption, says the next process of worker 1, which takes nothing itself.
fn prove(world: &mut World) {
    let (worker, on) = (Uid(1), true);
    world.feed(Event::Cordon { worker, on });
    let writes = world.writes.len();
    world.hello_with(3, 1, 1, 777, &[]);
    assert_eq!(world.writes.len(), writes, "no write of its own");
}

#[test]
fn a_job_that_late_proof_makes_a_suspect_while_it_waits_does_not_join_others() {
    let (mut world, session) = lost_beside(&[2, 3]);
    prove(&mut world);
    world.report(session, attempt(2, 1), Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Queued, "job 3 is there");
    world.report(session, attempt(3, 1), Fact::Succeeded);
    let status = world.status(1);
    assert_eq!((status.worker, status.attempt), (Some(Uid(2)), 2));
    assert_eq!(status.interruptions, ALONE_FROM);
}

#[test]
fn a_job_that_late_proof_made_a_suspect_while_it_ran_does_not_join_others_when_it_is_lost() {
    let (mut world, session) = lost_beside(&[2]);
    assert_eq!(world.status(1).attempt, 2);
    prove(&mut world);
    world.beat(session, u64::MAX, &[attempt(2, 1)]);
    let status = world.status(1);
    assert_eq!(
        (status.phase, status.interruptions),
        (Phase::Queued, ALONE_FROM)
    );
    world.report(session, attempt(2, 1), Fact::Succeeded);
    assert_eq!(world.status(1).attempt, 3);
}
