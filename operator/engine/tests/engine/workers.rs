//! Workers that drop, hang, die, drain, or lack what they should hold. covers: F38, F39, F44, T10, T11

use kinora_engine::action::Cause;
use kinora_engine::event::{Answer, Lead};
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::{Class, Fact, grpc};
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixtures::*;

#[test]
fn a_lease_that_a_later_heartbeat_lacks_is_lost_and_claimed_again_in_one_write() {
    let (mut world, session) = World::running();
    world.beat(session, 1, &[]);
    assert_eq!(world.status(1).attempt, 2);
    assert_eq!(world.writes.len(), 2);
    assert_eq!(world.writes[1].1, Cause::Reclaimed(Class::Lost));
    assert!(world.status(1).ghosts.is_empty());
    assert_eq!(world.status(1).uncharged, 1);
}

#[test]
fn a_heartbeat_made_before_the_lease_arrived_proves_nothing() {
    let (mut world, session) = World::running();
    world.beat(session, 0, &[]);
    assert_eq!(world.status(1).attempt, 1);
    assert_eq!(world.writes.len(), 1);
}

#[test]
fn a_worker_that_lists_its_lease_keeps_it_for_ever() {
    let (mut world, session) = World::running();
    world.pass(secs(200), &[session]);
    assert_eq!(world.status(1).attempt, 1);
}

#[test]
fn silence_of_twelve_seconds_is_lost_and_leaves_a_ghost() {
    let (mut world, _) = World::running();
    world.pass(secs(12), &[]);
    assert_eq!(world.phase(1), Phase::Running);
    world.pass(secs(1), &[]);
    assert_eq!(world.phase(1), Phase::Queued);
    assert_eq!(world.status(1).ghosts.len(), 1);
    assert_eq!(world.status(1).failures, 0);
    assert_eq!(world.status(1).interruptions, 0);
    assert_eq!(world.closed.len(), 1);
}

#[test]
fn workers_that_fall_silent_together_are_lost_as_soon_as_one_alone() {
    let mut world = World::new();
    for n in 1..=3 {
        world.hello(n, n.into(), 1);
        world.put(job(n.into()));
    }
    assert_eq!(world.leases().len(), 3);
    world.pass(secs(13), &[]);
    for uid in 1..=3 {
        assert_eq!(world.phase(uid), Phase::Queued, "{uid}");
    }
}

#[test]
fn a_ghost_keeps_its_permit_until_the_worker_is_back_without_the_call() {
    let one = PoolPolicy {
        max_in_flight: Some(1),
        ..pool()
    };
    let (mut world, _) = World::running_with(job(1), one);
    world.pass(secs(13), &[]);
    let other = world.hello(2, 2, 1);
    world.pass(secs(3), &[other]);
    assert_eq!(world.leases(), [attempt(1, 1)]);
    let back = world.hello_with(3, 1, 1, 100, &[]);
    world.beat(back, 1, &[]);
    assert_eq!(world.leases(), [attempt(1, 1), attempt(1, 2)]);
}

#[test]
fn a_ghost_is_over_when_its_call_must_be() {
    let one = PoolPolicy {
        max_in_flight: Some(1),
        timeout: secs(60),
        ..pool()
    };
    let (mut world, _) = World::running_with(job(1), one);
    world.pass(secs(13), &[]);
    let other = world.hello(2, 2, 1);
    world.pass(secs(75), &[other]);
    assert_eq!(world.leases().len(), 1);
    world.pass(secs(5), &[other]);
    assert_eq!(world.leases().len(), 2);
}

#[test]
fn a_dropped_stream_has_two_seconds_to_come_back() {
    let (mut world, session) = World::running();
    world.feed(Event::Closed(session));
    world.pass(secs(1), &[]);
    let again = world.hello_with(2, 1, 1, 100, &[attempt(1, 1)]);
    world.pass(secs(30), &[again]);
    assert_eq!(world.status(1).attempt, 1);
    world.feed(Event::Closed(again));
    world.pass(secs(3), &[]);
    assert_eq!(world.phase(1), Phase::Queued);
}

#[test]
fn when_many_streams_drop_at_once_nobody_is_given_up_quickly() {
    let mut world = World::new();
    for n in 1..=6 {
        world.hello(n, n.into(), 1);
        world.put(job(n.into()));
    }
    for n in 1..=6 {
        world.feed(Event::Closed(SessionId(n)));
    }
    world.pass(secs(11), &[]);
    assert!((1..=6).all(|uid| world.phase(uid) == Phase::Running));
    world.pass(secs(2), &[]);
    assert!((1..=6).all(|uid| world.phase(uid) == Phase::Queued));
}

#[test]
fn another_process_in_the_same_pod_proves_an_interruption() {
    let (mut world, _) = World::running();
    world.hello_with(2, 1, 1, 999, &[]);
    let status = world.status(1);
    assert_eq!((status.interruptions, status.attempt), (1, 2));
    assert!(status.ghosts.is_empty());
    assert_eq!(world.leases(), [attempt(1, 1), attempt(1, 2)]);
}

#[test]
fn what_dies_with_a_pod_that_is_being_deleted_is_lost_and_not_interrupted() {
    let (mut world, _) = World::running();
    world.feed(Event::PodDraining(Uid(1)));
    world.feed(Event::PodGone {
        worker: Uid(1),
        by_itself: true,
    });
    let status = world.status(1);
    assert_eq!((status.phase, status.interruptions), (Phase::Queued, 0));
    assert!(status.ghosts.is_empty());
}

#[test]
fn a_container_that_ended_after_the_claim_is_an_interruption_and_one_before_is_not() {
    let (mut world, session) = World::running();
    world.feed(Event::Closed(session));
    world.feed(container_ended(-5000));
    world.feed(container_ended(0));
    assert_eq!(world.status(1).interruptions, 0);
    world.feed(container_ended(5000));
    assert_eq!(world.status(1).interruptions, 1);
}

fn container_ended(at: i64) -> Event {
    Event::ContainerEnded {
        worker: Uid(1),
        finished: Wall(START.0 + at),
        by_itself: true,
    }
}

/// Its predecessor ended, and the node's clock is ahead.
#[test]
fn a_lease_on_a_stream_that_is_open_is_nothing_that_a_container_ended_with() {
    let (mut world, _) = World::running();
    let session = world.hello_with(2, 1, 1, 999, &[]);
    assert_eq!(
        world.status(1).interruptions,
        1,
        "its first process is gone"
    );
    world.until_running(1, session);
    assert_eq!(world.leases().last(), Some(&attempt(1, 2)));
    world.feed(container_ended(3_600_000));
    // Nor on one on which its worker said that it has it.
    let session = world.hello_with(3, 1, 1, 999, &[attempt(1, 2)]);
    world.feed(container_ended(3_700_000));
    world.beat(session, u64::MAX, &[attempt(1, 2)]);
    assert_eq!(
        (world.status(1).interruptions, world.phase(1)),
        (1, Phase::Running)
    );
}

#[test]
fn the_last_interruption_of_the_budget_is_the_dead_letter() {
    let twice = PoolPolicy {
        interruption_limit: 2,
        ..pool()
    };
    let (mut world, _) = World::running_with(job(1), twice);
    world.hello_with(2, 1, 1, 999, &[]);
    world.hello_with(3, 1, 1, 998, &[]);
    assert_eq!(world.phase(1), Phase::DeadLettered);
    assert_eq!(world.status(1).reason, Reason::Poison);
    assert_eq!(world.status(1).worker, None, "nobody reported it");
}

#[test]
fn a_draining_worker_gets_nothing_new_and_loses_nothing() {
    let mut world = World::new();
    let session = world.hello(1, 1, 2);
    world.put(job(1));
    world.feed(Event::PodDraining(Uid(1)));
    world.put(job(2));
    world.pass(secs(60), &[session]);
    assert_eq!(world.leases(), [attempt(1, 1)]);
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Succeeded);
    assert_eq!(world.phase(2), Phase::Queued);
}

#[test]
fn a_cordoned_worker_gets_leases_again_when_it_is_let_go() {
    let mut world = World::new();
    world.hello(1, 1, 1);
    let cordon = |on| Event::Cordon { worker: Uid(1), on };
    world.feed(cordon(true));
    world.put(job(1));
    assert!(world.leases().is_empty());
    world.feed(cordon(false));
    assert_eq!(world.leases(), [attempt(1, 1)]);
}

#[test]
fn after_a_pause_of_our_own_nobody_is_expired() {
    let (mut world, session) = World::running();
    world.now = world.now.after(secs(60));
    world.feed(Event::Alive);
    world.feed(Event::Tick);
    world.pass(secs(11), &[]);
    assert_eq!(world.phase(1), Phase::Running);
    world.beat(session, 2, &[attempt(1, 1)]);
    assert_eq!(world.status(1).attempt, 1);
}

#[test]
fn while_our_own_writes_fail_nobody_is_expired() {
    let (mut world, _) = World::running();
    for _ in 0..600 {
        world.now = world.now.after(std::time::Duration::from_millis(100));
        world.feed(Event::Tick);
    }
    assert_eq!(world.phase(1), Phase::Running);
}

/// etcd has no leader for a minute: no write succeeds, the leader lease runs out, and workers may or may not be heard.
/// covers: F23
#[test]
fn a_minute_without_etcd_burns_no_attempt() {
    for heard in [true, false] {
        let (mut world, session) = World::running();
        world.feed(Event::Lead(Lead::Doubtful));
        for tick in 0..600 {
            world.now = world.now.after(std::time::Duration::from_millis(100));
            world.feed(Event::Tick);
            if heard && tick % 30 == 29 {
                world.beat(session, u64::MAX, &[attempt(1, 1)]);
            }
        }
        world.feed(Event::Lead(Lead::Leader));
        // Every timer starts again: nearly its whole length is left.
        world.pass(secs(11), &[]);
        assert_eq!(world.phase(1), Phase::Running, "heard: {heard}");
        world.beat(session, u64::MAX, &[attempt(1, 1)]);
        world.pass(secs(30), &[session]);
        assert_eq!(world.leases(), [attempt(1, 1)], "heard: {heard}");
        assert_eq!(world.writes.len(), 1, "only its claim; heard: {heard}");
        world.report(session, attempt(1, 1), Fact::Succeeded);
        let status = world.status(1);
        let burnt = (status.failures, status.interruptions, status.uncharged);
        assert_eq!((status.phase, burnt), (Phase::Succeeded, (0, 0, 0)));
    }
}

#[test]
fn a_doubtful_leader_claims_nothing_expires_nobody_and_takes_results() {
    let (mut world, session) = World::running();
    world.feed(Event::Lead(Lead::Doubtful));
    world.hello(2, 2, 1);
    world.put(job(2));
    world.pass(secs(20), &[]);
    assert_eq!(world.phase(2), Phase::Queued);
    assert_eq!(world.phase(1), Phase::Running);
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Succeeded);
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
}

/// covers: F41
#[test]
fn an_attempt_without_an_outcome_ends_thirty_seconds_after_its_timeout() {
    let minute = PoolPolicy {
        timeout: secs(60),
        ..pool()
    };
    let (mut world, session) = World::running_with(job(1), minute);
    world.pass(secs(89), &[session]);
    assert_eq!(world.phase(1), Phase::Running);
    world.pass(secs(2), &[session]);
    assert_eq!(world.phase(1), Phase::Backoff);
    assert_eq!(world.status(1).failures, 1);
    assert_eq!(world.cancels(), [attempt(1, 1)]);
    // Its late success is nobody's.
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.acks(), [(attempt(1, 1), false)]);
    assert_ne!(world.phase(1), Phase::Succeeded);
}

#[test]
fn from_the_third_loss_in_a_row_there_is_a_wait_and_a_charged_end_resets_it() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), Fact::Released);
    world.report(session, attempt(1, 2), Fact::Released);
    assert_eq!(world.status(1).attempt, 3);
    world.report(session, attempt(1, 3), Fact::Released);
    assert_eq!(world.phase(1), Phase::Backoff);
    world.pass(secs(11), &[session]);
    let n = world.status(1).attempt;
    world.report(session, attempt(1, n), Fact::Grpc(grpc::INTERNAL));
    assert_eq!(
        (world.status(1).uncharged, world.status(1).failures),
        (0, 1)
    );
}

#[test]
fn a_lease_for_a_worker_that_left_before_the_push_is_lost_uncharged() {
    let mut world = World::new();
    world.hold_writes = true;
    let session = world.hello(1, 1, 1);
    world.put(job(1));
    world.feed(Event::Closed(session));
    world.hold_writes = false;
    let claim = world.held.remove(0);
    let (job, token, answer) = world.perform(claim).unwrap();
    world.feed(Event::Answer { job, token, answer });
    assert!(world.leases().is_empty());
    assert_eq!(world.phase(1), Phase::Queued);
    assert!(world.status(1).ghosts.is_empty());
}

#[test]
fn a_foreign_attempt_in_a_heartbeat_is_told_to_stop_once() {
    let (mut world, session) = World::running();
    let other = world.hello(2, 2, 1);
    let stolen: &[AttemptId] = &[attempt(1, 1)];
    world.beat(other, 1, stolen);
    world.beat(other, 2, stolen);
    assert_eq!(world.cancels(), [attempt(1, 1)]);
    world.beat(session, 9, stolen);
    assert_eq!(world.status(1).worker, Some(Uid(1)));
    assert_eq!(world.status(1).attempt, 1);
}

#[test]
fn a_pod_that_was_leaving_before_it_came_to_this_leader_gets_nothing() {
    let mut world = World::new();
    world.feed(Event::PodDraining(Uid(1)));
    world.hello(1, 1, 1);
    world.put(job(1));
    assert!(world.leases().is_empty());
}

#[test]
fn a_worker_that_is_back_before_its_loss_is_stored_keeps_its_attempt() {
    let cases = [
        ("the same worker", 1, 100, Phase::Running),
        ("another worker that says it had it", 2, 200, Phase::Queued),
    ];
    for (name, worker, instance, want_phase) in cases {
        let (mut world, session) = World::running();
        world.hold_writes = true;
        // Something else is being written about the job.
        world.edit(1, |spec| spec.priority = 1);
        world.feed(Event::Closed(session));
        world.pass(secs(3), &[]);
        world.hello_with(2, worker, 1, instance, &[attempt(1, 1)]);
        world.hold_writes = false;
        let held = world.held.remove(0);
        assert!(world.held.is_empty(), "{name}");
        let (job, token, answer) = world.perform(held).expect("a write");
        world.feed(Event::Answer { job, token, answer });
        world.beat(SessionId(2), 0, &[attempt(1, 1)]);
        world.pass(secs(15), &[SessionId(2)]);
        assert_eq!(world.phase(1), want_phase, "{name}");
    }
}

#[test]
fn a_lease_whose_worker_was_given_up_while_it_was_signed_is_not_sent() {
    let mut world = World::new();
    world.hold_writes = true;
    let session = world.hello(1, 1, 1);
    world.put(job(1));
    let claim = world.held.remove(0);
    let (job, token, answer) = world.perform(claim).expect("a claim");
    let event = Event::Answer { job, token, answer };
    let mut rng = StdRng::seed_from_u64(1);
    let actions = world.engine.step(event, world.now, &mut rng);
    let [Action::Prepare { token, .. }] = actions[..] else {
        panic!("{actions:?}");
    };
    world.feed(Event::Closed(session));
    world.pass(secs(3), &[]);
    world.hello(2, 1, 1);
    world.hold_writes = false;
    let answer = Answer::Yes;
    world.feed(Event::Answer { job, token, answer });
    assert!(!world.leases().contains(&attempt(1, 1)));
    assert!(world.status(1).ghosts.is_empty(), "no call ever ran");
}
