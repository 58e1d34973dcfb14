//! Several pools beside each other: which one a job waits in, and what the trouble of one means for the others.
//! covers: F27, I2, I7

use kinora_engine::action::Action;
use kinora_engine::event::{Answer, Lead};
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::*;

use crate::fixtures::*;

fn with_default(is_default: bool) -> Box<PoolPolicy> {
    Box::new(PoolPolicy {
        is_default,
        ..pool()
    })
}

/// A job that names this pool.
fn of(pool: PoolName, uid: u128) -> Job {
    let mut job = job(uid);
    job.spec.pool = Some(pool.name);
    job
}

#[test]
fn a_job_that_waits_goes_with_the_default_and_waits_nowhere_else() {
    let mut world = World::new();
    world.feed(Event::Pool(OTHER, with_default(false)));
    let busy = world.hello(1, 1, 1);
    world.put(job(1));
    world.put(job(2));
    world.feed(Event::Pool(POOL, with_default(false)));
    world.feed(Event::Pool(OTHER, with_default(true)));
    world.hello_in(OTHER, 2, 2, 1, 200, &[]);
    assert_eq!(world.status(2).worker, Some(Uid(2)));
    world.report(busy, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.status(2).attempt, 1, "its old pool knows it no more");
    assert_eq!(world.cancels(), []);
    world.report(SessionId(2), attempt(2, 1), Fact::Succeeded);
    world.pass(secs(5), &[busy, SessionId(2)]);
    let pools = world.engine.pools(world.now.wall);
    for name in [POOL, OTHER] {
        assert_eq!((pools[&name].queued, pools[&name].claimable), (0, 0));
    }
    world.put(of(POOL, 3));
    assert_eq!(world.status(3).worker, Some(Uid(1)), "its slot is free");
}

#[test]
fn who_waits_for_a_pool_that_does_not_exist_is_counted_until_it_comes_or_the_wait_ends() {
    let mut world = World::new();
    let without = |world: &World| world.engine.jobs_without_pool();
    (1..=5).for_each(|uid| world.put(of(OTHER, uid)));
    world.put(job(6));
    assert_eq!(world.status(1).reason, Reason::PoolNotFound);
    assert_eq!(without(&world), 5, "all but the one with a default pool");
    world.edit(1, |spec| spec.cancel = true);
    assert_eq!(without(&world), 4, "it ended");
    world.edit(2, |spec| spec.suspend = true);
    assert_eq!(without(&world), 3, "it is held");
    world.edit(2, |spec| spec.suspend = false);
    assert_eq!(without(&world), 4, "it waits again");
    world.feed(Event::JobDeleted(Uid(2)));
    world.feed(Event::JobDeleted(Uid(2)));
    assert_eq!(without(&world), 3, "it is gone");
    world.feed(Event::Lead(Lead::Standby));
    assert_eq!(without(&world), 3, "whoever leads");
    world.feed(Event::Lead(Lead::Leader));
    world.feed(Event::Pool(OTHER, with_default(false)));
    assert_eq!(without(&world), 0, "the pool came");
    world.hello_in(OTHER, 1, 1, 1, 100, &[]);
    assert_eq!(world.phase(3), Phase::Running);
    for pool in [OTHER, POOL] {
        world.feed(Event::PoolGone(pool));
    }
    assert_eq!(without(&world), 3, "what runs has its claimed pool");
}

#[test]
fn no_job_lacks_a_pool_before_pools_were_listed() {
    let mut world = World::new();
    world.engine = Engine::new();
    world.put(job(1));
    assert_eq!(world.engine.jobs_without_pool(), 0);
    world.feed(Event::PoolsSynced);
    assert_eq!(world.engine.jobs_without_pool(), 1);
}

/// The job that a held write is about.
fn subject(action: &Action) -> Uid {
    let Action::Write { job, .. } = action else {
        panic!("a write");
    };
    *job
}

#[test]
fn a_pool_whose_writes_fail_does_not_stop_the_claims_of_the_others() {
    let mut world = World::new();
    world.feed(Event::Pool(OTHER, with_default(false)));
    world.hold_writes = true;
    world.hello(1, 1, 100);
    (1..=100).for_each(|uid| world.put(of(POOL, uid)));
    assert_eq!(world.held.len(), 32, "all that may be under way");
    world.hello_in(OTHER, 2, 2, 1, 200, &[]);
    world.put(of(OTHER, 1000));
    for _ in 0..3 {
        for failed in std::mem::take(&mut world.held) {
            let Action::Write { job, token, .. } = failed else {
                continue;
            };
            if job == Uid(1000) {
                return;
            }
            let answer = Answer::Unknown;
            world.feed(Event::Answer { job, token, answer });
        }
    }
    let waits: Vec<Uid> = world.held.iter().map(subject).collect();
    panic!("only {waits:?}");
}

#[test]
fn a_job_whose_claim_fails_waits_before_it_is_tried_again_and_the_next_one_comes() {
    let mut world = World::new();
    world.hold_writes = true;
    world.hello(1, 1, 1);
    world.put(job(1));
    world.put(job(2));
    let Action::Write { job, token, .. } = world.held.remove(0) else {
        panic!("a claim");
    };
    let answer = Answer::Unknown;
    world.feed(Event::Answer { job, token, answer });
    assert_eq!((job, subject(&world.held.remove(0))), (Uid(1), Uid(2)));
}

/// Limits hold only for who knows all that runs.
#[test]
fn a_leader_claims_nothing_before_all_jobs_are_listed() {
    let mut world = World::with_pool(PoolPolicy {
        max_in_flight: Some(1),
        ..pool()
    });
    world.engine = Engine::new();
    world.feed(Event::Lead(Lead::Leader));
    let policy = PoolPolicy {
        max_in_flight: Some(1),
        ..pool()
    };
    world.feed(Event::Pool(POOL, Box::new(policy)));
    world.feed(Event::PoolsSynced);
    world.hello(1, 1, 2);
    world.put(job(1));
    assert!(world.writes.is_empty());
    let mut running = job(2);
    running.status = running.claimed(Uid(9), POOL.name, START);
    let listed = world.put_unseen(running);
    world.feed(Event::Job(Box::new(listed)));
    world.feed(Event::JobsSynced);
    assert!(world.writes.is_empty(), "the one permit is taken");
    world.feed(Event::JobDeleted(Uid(2)));
    world.put(of(POOL, 3));
    assert!(world.writes.is_empty(), "its call may still run");
}

#[test]
fn a_leader_claims_as_soon_as_all_jobs_are_listed() {
    let mut world = World::new();
    world.engine = Engine::new();
    world.feed(Event::Lead(Lead::Leader));
    world.feed(Event::Pool(POOL, Box::new(pool())));
    world.feed(Event::PoolsSynced);
    world.hello(1, 1, 1);
    world.put(job(1));
    world.feed(Event::JobsSynced);
    assert_eq!(world.leases(), [attempt(1, 1)]);
}
