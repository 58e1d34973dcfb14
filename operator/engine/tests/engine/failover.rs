//! A new leader: what it adopts, what it holds back, what it asks the store. covers: F28, F37

use kinora_engine::event::{Answer, Lead};
use kinora_engine::*;

use crate::fixtures::*;

/// A standby that knows job 1 running attempt 3 on worker 1, then leads.
fn heir() -> World {
    let mut world = World::new();
    world.feed(Event::Lead(Lead::Standby));
    let mut running = job(1);
    running.status.attempt = 2;
    running.status = running.claimed(Uid(1), POOL.name, START);
    world.put(running);
    assert!(world.writes.is_empty());
    world.feed(Event::Lead(Lead::Leader));
    world
}

#[test]
fn a_running_job_is_adopted_when_its_worker_presents_it() {
    let mut world = heir();
    world.pass(secs(5), &[]);
    let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 3)]);
    world.pass(secs(60), &[session]);
    assert!(world.writes.is_empty());
    world.report(session, attempt(1, 3), outcome::Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Succeeded);
    assert_eq!(world.status(1).attempt, 3);
}

#[test]
fn a_running_job_that_nobody_presents_is_requeued_after_ten_seconds() {
    let mut world = heir();
    world.pass(secs(9), &[]);
    assert_eq!(world.phase(1), Phase::Running);
    world.pass(secs(2), &[]);
    assert_eq!(world.phase(1), Phase::Queued);
    assert_eq!(world.status(1).failures, 0);
    assert_eq!(world.status(1).ghosts.len(), 1);
}

/// Pods are seen by standbys, too; one on a node that is dead may stay for long.
#[test]
fn a_running_job_whose_pod_is_known_and_leaving_is_requeued_as_soon() {
    let mut world = World::new();
    world.feed(Event::Lead(Lead::Standby));
    world.feed(Event::PodDraining(Uid(1)));
    let mut running = job(1);
    running.status = running.claimed(Uid(1), POOL.name, START);
    world.put(running);
    world.feed(Event::Lead(Lead::Leader));
    world.pass(secs(9), &[]);
    assert_eq!(world.phase(1), Phase::Running);
    world.pass(secs(2), &[]);
    assert_eq!(world.phase(1), Phase::Queued);
    assert_eq!(world.status(1).failures, 0);
}

#[test]
fn a_worker_that_comes_without_the_job_gets_it_again_after_its_first_beat() {
    let mut world = heir();
    let session = world.hello(1, 1, 1);
    assert_eq!(world.status(1).attempt, 3);
    world.beat(session, 1, &[]);
    assert_eq!(world.status(1).attempt, 4);
    assert_eq!(world.leases(), [attempt(1, 4)]);
}

#[test]
fn queued_jobs_go_at_once_to_workers_that_said_hello() {
    let mut world = heir();
    world.put(job(2));
    world.hello(2, 2, 1);
    assert_eq!(world.leases(), [attempt(2, 1)]);
}

#[test]
fn stored_ghosts_and_running_jobs_of_the_old_leader_take_permits() {
    let mut world = World::with_pool(PoolPolicy {
        max_in_flight: Some(2),
        ..pool()
    });
    world.feed(Event::Lead(Lead::Standby));
    let mut running = job(1);
    running.status = running.claimed(Uid(9), POOL.name, START);
    world.put(running);
    let mut haunted = job(2);
    haunted.status.pool = Some(POOL.name);
    haunted.status.ghosts = vec![Wall(START.0 + 60_000)];
    haunted.spec.suspend = true;
    world.put(haunted);
    world.feed(Event::Lead(Lead::Leader));
    world.put(job(3));
    world.hello(1, 1, 4);
    assert!(world.leases().is_empty());
}

#[test]
fn a_final_job_of_the_old_leader_is_recorded_if_it_was_not() {
    let mut world = World::new();
    world.feed(Event::Lead(Lead::Standby));
    let mut done = job(1);
    done.status = done.claimed(Uid(9), POOL.name, START);
    done.status = done.cancelled(secs(1), false, START);
    world.put(done);
    assert!(world.asked.is_empty());
    world.feed(Event::Lead(Lead::Leader));
    assert_eq!(world.asked, ["read record", "write record", "clean"]);
    assert_eq!(world.store.record, Answer::Record(0));
}

#[test]
fn a_leader_that_steps_down_closes_its_streams_and_decides_nothing() {
    let (mut world, session) = World::running();
    world.feed(Event::Lead(Lead::Standby));
    assert_eq!(world.closed, [(session, action::CloseReason::NotLeader)]);
    let writes = world.writes.len();
    world.put(job(2));
    world.pass(secs(60), &[]);
    assert_eq!(world.writes.len(), writes);
}

#[test]
fn a_claim_by_another_leader_for_our_worker_is_lost_when_the_worker_lacks_it() {
    let mut world = World::new();
    let session = world.hello(1, 1, 1);
    let mut theirs = job(1);
    theirs.status = theirs.claimed(Uid(1), POOL.name, START);
    world.put(theirs);
    assert!(world.leases().is_empty());
    world.beat(session, 1, &[]);
    assert_eq!(world.status(1).attempt, 2);
    assert_eq!(world.leases(), [attempt(1, 2)]);
}

#[test]
fn a_leader_that_doubts_from_the_start_begins_without_tokens_too() {
    let mut world = World::with_pool(PoolPolicy {
        rate_per_second: Some(1.0),
        burst: 5,
        ..pool()
    });
    world.feed(Event::Lead(Lead::Standby));
    world.pass(secs(60), &[]);
    (1..=5).for_each(|uid| world.put(job(uid)));
    // It was stopped between its election and the first look at its lease.
    world.feed(Event::Lead(Lead::Doubtful));
    world.feed(Event::Lead(Lead::Leader));
    world.hello(1, 1, 5);
    assert!(world.leases().is_empty());
}

/// Jobs may be heard of before their pools, and a pool may be gone before its last calls are.
#[test]
fn an_attempt_whose_pool_is_not_known_is_not_ended_before_its_time() {
    let long = PoolPolicy {
        timeout: secs(3600),
        ..pool()
    };
    let mut runs = job(1);
    runs.status.attempt = 2;
    runs.status = runs.claimed(Uid(1), POOL.name, Wall(START.0 - 400_000));
    let adopts = |world: &mut World| {
        let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 3)]);
        world.pass(secs(60), &[session]);
        assert!(world.writes.is_empty(), "{:?}", world.writes);
        assert!(world.asked.is_empty(), "{:?}", world.asked);
        session
    };

    let mut world = World::cold();
    world.feed(Event::Lead(Lead::Leader));
    world.put(runs.clone());
    world.feed(Event::JobsSynced);
    world.pass(secs(5), &[]);
    world.feed(Event::Pool(POOL, Box::new(long.clone())));
    world.feed(Event::PoolsSynced);
    let session = adopts(&mut world);
    world.pass(secs(3630 - 400 - 66), &[session]);
    assert_eq!(world.phase(1), Phase::Running);
    world.pass(secs(2), &[session]);
    assert_eq!(world.status(1).failures, 1, "its own limit is kept");

    let mut world = World::with_pool(long);
    world.feed(Event::Lead(Lead::Standby));
    world.put(runs);
    world.feed(Event::PoolGone(POOL));
    world.feed(Event::Lead(Lead::Leader));
    let session = adopts(&mut world);
    world.feed(Event::Closed(session));
    world.pass(secs(20), &[]);
    let longest = Wall(START.0 - 400_000) + secs(86_430);
    assert_eq!(world.status(1).ghosts, [longest]);
}

#[test]
fn what_is_said_of_a_job_before_its_pool_is_known_waits_for_that() {
    let mut runs = job(1);
    runs.status = runs.claimed(Uid(1), POOL.name, START);
    runs.status.failures = 5;
    let mut world = World::cold();
    world.feed(Event::Lead(Lead::Leader));
    world.put(runs);
    let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 1)]);
    world.report(session, attempt(1, 1), outcome::Fact::Grpc(13));
    world.feed(Event::JobsSynced);
    assert!(world.writes.is_empty());
    let patient = PoolPolicy {
        max_failures: 20,
        ..pool()
    };
    world.feed(Event::Pool(POOL, Box::new(patient)));
    assert_eq!(world.phase(1), Phase::Backoff);
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
}

/// covers: F60
#[test]
fn a_clock_that_is_off_takes_no_time_from_those_that_run() {
    let mut world = World::new();
    world.feed(Event::Lead(Lead::Standby));
    let mut running = job(1);
    let yesterday = Wall(START.0 - 86_400_000);
    running.status = running.claimed(Uid(1), POOL.name, yesterday);
    world.put(running);
    world.feed(Event::ClockTrusted(false));
    world.feed(Event::Lead(Lead::Leader));
    let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 1)]);
    world.pass(secs(60), &[session]);
    assert!(world.writes.is_empty());
    // It is mended; what was left of its time is not known.
    world.feed(Event::ClockTrusted(true));
    world.pass(secs(60), &[session]);
    assert!(world.writes.is_empty());
}

/// covers: F60
#[test]
fn a_clock_that_is_off_ends_nobody_by_a_deadline() {
    let mut world = World::new();
    let session = world.hello(1, 1, 1);
    let mut running = job(1);
    running.spec.declared = true;
    running.spec.active_deadline = Some(secs(3600));
    world.put(running);
    let mut waits = job(2);
    waits.spec.declared = true;
    waits.spec.start_deadline = Some(secs(3600));
    world.put(waits);
    let (right, before) = (world.now.wall, world.writes.len());
    world.feed(Event::ClockTrusted(false));
    world.now.wall = right + secs(7200);
    world.pass(secs(5), &[session]);
    assert_eq!(world.writes.len(), before);
    // It is mended in time.
    world.now.wall = right;
    world.feed(Event::ClockTrusted(true));
    world.pass(secs(5), &[session]);
    assert_eq!(world.writes.len(), before);
    world.now.wall = right + secs(3601);
    world.pass(secs(5), &[session]);
    assert_eq!(world.phase(1), Phase::DeadLettered);
    assert_eq!(world.phase(2), Phase::DeadLettered);
}

/// covers: F60
#[test]
fn an_attempt_that_ends_by_a_clock_that_is_off_is_not_measured_by_it() {
    let one = PoolPolicy {
        max_in_flight: Some(1),
        ..pool()
    };
    let mut limited = job(1);
    limited.spec.active_deadline = Some(secs(3600));
    let (mut world, session) = World::running_with(limited, one);
    let right = world.now.wall;
    world.now.wall = right + secs(7200);
    world.feed(Event::ClockTrusted(false));
    world.report(session, attempt(1, 1), outcome::Fact::Grpc(13));
    assert_eq!(world.phase(1), Phase::Backoff);
    assert_eq!(world.status(1).active, secs(0));
    world.now.wall = right + secs(300);
    world.feed(Event::ClockTrusted(true));
    world.until_running(1, session);
    assert_eq!(world.status(1).attempt, 2);
    world.pass(secs(10), &[session]);
    assert_eq!(world.phase(1), Phase::Running);
    assert_eq!(world.status(1).active, secs(0));
}

/// By its leader, by a new one, or by a deletion: whoever ends the call meanwhile.
/// covers: F60
#[test]
fn a_clock_that_is_off_takes_no_call_for_over() {
    let one = PoolPolicy {
        max_in_flight: Some(1),
        ..pool()
    };
    let lost = |world: &mut World, session| {
        world.feed(Event::Closed(session));
        world.pass(secs(20), &[]);
        assert_eq!(world.status(1).ghosts.len(), 1, "its own");
    };
    let cancelled = |world: &mut World, session| {
        world.edit(1, |spec| spec.cancel = true);
        assert_eq!(world.status(1).ghosts.len(), 1, "its own");
        world.feed(Event::Closed(session));
    };
    let suspended_later = |world: &mut World, session| {
        lost(world, session);
        world.edit(1, |spec| spec.suspend = true);
        assert_eq!(world.phase(1), Phase::Suspended);
        assert_eq!(world.status(1).ghosts.len(), 1, "of an earlier attempt");
    };
    let taken_over = |world: &mut World, session| {
        lost(world, session);
        world.engine = Engine::new();
        world.feed(Event::ClockTrusted(false));
        world.feed(Event::Pool(POOL, Box::new(one.clone())));
        world.feed(Event::PoolsSynced);
        world.feed(Event::Job(Box::new(world.etcd[&Uid(1)].clone())));
        world.feed(Event::JobsSynced);
        world.feed(Event::Lead(Lead::Leader));
    };
    let deleted = |world: &mut World, session| {
        world.etcd.remove(&Uid(1));
        world.feed(Event::JobDeleted(Uid(1)));
        world.feed(Event::Closed(session));
    };
    type Ends<'a> = &'a dyn Fn(&mut World, ids::SessionId);
    let table: [(&str, Ends<'_>); 5] = [
        ("lost", &lost),
        ("cancelled", &cancelled),
        ("lost, then suspended", &suspended_later),
        ("lost, then another leads", &taken_over),
        ("deleted", &deleted),
    ];
    for (name, ends) in table {
        let (mut world, session) = World::running_with(job(1), one.clone());
        let right = world.now;
        world.now.wall = right.wall + secs(7200);
        world.feed(Event::ClockTrusted(false));
        ends(&mut world, session);
        world.now.wall = right.wall + world.now.mono.since(right.mono);
        world.feed(Event::ClockTrusted(true));
        let other = world.hello(2, 2, 1);
        world.put(job(2));
        assert_eq!(world.leases(), [attempt(1, 1)], "{name}");
        world.pass(secs(331), &[other]);
        assert_eq!(world.leases().len(), 2, "{name}: its time is over");
    }
}

/// covers: F60
#[test]
fn what_a_clock_that_was_ahead_wrote_delays_nobody() {
    let month = secs(30 * 86_400);
    let mut waits = job(1);
    waits.status.phase = Phase::Backoff;
    waits.status.reason = Reason::Backoff;
    waits.status.observed = 1;
    waits.status.since = Some(START);
    waits.status.attempt = 1;
    waits.status.failures = 1;
    waits.status.next_attempt = Some(START + month);
    waits.status.ghosts = vec![START + month; 8];
    waits.status.pool = Some(POOL.name);
    let mut world = World::with_pool(PoolPolicy {
        max_in_flight: Some(1),
        ..pool()
    });
    world.hello(1, 1, 1);
    world.put(waits);
    assert_eq!(world.leases(), [attempt(1, 2)]);
}
