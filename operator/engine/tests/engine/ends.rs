//! Cancel, suspend, deadlines, deletes.

use kinora_engine::action::Cause;
use kinora_engine::event::Answer;
use kinora_engine::job::decide::{self, Beside, Look, Loss, Next, Report};
use kinora_engine::outcome::{Class, Fact, grpc};
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixtures::*;

#[test]
fn a_cancel_is_stored_first_then_told_and_the_late_outcome_is_stale() {
    let (mut world, session) = World::running();
    world.edit(1, |spec| spec.cancel = true);
    assert_eq!(world.phase(1), Phase::Cancelled);
    assert_eq!(world.cancels(), [attempt(1, 1)]);
    assert_eq!(world.status(1).ghosts.len(), 1);
    // Its slot stays taken until the worker confirms.
    world.put(job(2));
    assert_eq!(world.phase(2), Phase::Queued);
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.acks(), [(attempt(1, 1), false)]);
    assert_eq!(world.phase(1), Phase::Cancelled);
    assert_eq!(world.phase(2), Phase::Running);
}

#[test]
fn a_cancel_of_a_waiting_job_needs_no_worker() {
    let mut world = World::new();
    world.put(job(1));
    world.edit(1, |spec| spec.cancel = true);
    assert_eq!(world.phase(1), Phase::Cancelled);
    assert!(world.status(1).ghosts.is_empty());
    world.hello(1, 1, 1);
    assert!(world.leases().is_empty());
}

#[test]
fn a_suspended_job_is_not_claimed_and_goes_on_when_it_is_let_go() {
    let mut world = World::new();
    let mut held = job(1);
    held.spec.suspend = true;
    world.put(held);
    world.hello(1, 1, 1);
    assert_eq!(world.phase(1), Phase::Suspended);
    assert_eq!(world.writes.len(), 1);
    world.edit(1, |spec| spec.suspend = false);
    assert_eq!(world.phase(1), Phase::Running);
}

#[test]
fn a_running_attempt_of_a_suspended_job_finishes_and_counts() {
    let (mut world, session) = World::running();
    world.edit(1, |spec| spec.suspend = true);
    assert_eq!(world.phase(1), Phase::Running);
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::INTERNAL));
    assert_eq!(world.phase(1), Phase::Suspended);
    assert_eq!(world.status(1).failures, 1);
    let due = world.status(1).next_attempt.unwrap();
    world.edit(1, |spec| spec.suspend = false);
    assert_eq!(
        world.phase(1),
        if due > world.now.wall {
            Phase::Backoff
        } else {
            Phase::Running
        }
    );
}

#[test]
fn an_edit_after_the_end_only_moves_observed_generation() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), Fact::Succeeded);
    let before = world.status(1).clone();
    world.edit(1, |spec| {
        spec.cancel = true;
        spec.suspend = true;
    });
    let want = Status {
        observed: 2,
        ..before
    };
    assert_eq!(*world.status(1), want);
}

#[test]
fn a_job_not_started_in_time_is_dead_and_one_that_started_is_not() {
    let mut late = job(1);
    late.spec.start_deadline = Some(secs(30));
    let mut world = World::new();
    world.put(late.clone());
    world.pass(secs(31), &[]);
    assert_eq!(world.status(1).reason, Reason::DeadlineExceeded);
    let (mut world, session) = World::running_with(late, pool());
    world.pass(secs(60), &[session]);
    assert_eq!(world.phase(1), Phase::Running);
}

#[test]
fn the_active_deadline_counts_running_time_only() {
    let mut short = job(1);
    short.spec.active_deadline = Some(secs(20));
    let (mut world, session) = World::running_with(short, pool());
    world.pass(secs(10), &[session]);
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::INTERNAL));
    world.feed(Event::PodDraining(Uid(1)));
    world.pass(secs(100), &[session]);
    assert_eq!(world.phase(1), Phase::Backoff);
    let other = world.hello(2, 2, 1);
    assert_eq!(world.status(1).attempt, 2);
    world.pass(secs(12), &[other]);
    assert_eq!(world.status(1).reason, Reason::DeadlineExceeded);
    assert_eq!(world.cancels(), [attempt(1, 2)]);
}

/// covers: F33
#[test]
fn a_job_deleted_while_it_runs_is_cancelled_on_its_worker_and_its_slot_waits() {
    let (mut world, session) = World::running();
    world.etcd.remove(&Uid(1));
    world.feed(Event::JobDeleted(Uid(1)));
    assert_eq!(world.cancels(), [attempt(1, 1)]);
    world.put(job(2));
    assert_eq!(world.phase(2), Phase::Queued);
    world.beat(session, 9, &[]);
    assert_eq!(world.phase(2), Phase::Running);
}

#[test]
fn the_report_of_a_job_that_was_deleted_is_settled_at_once_and_frees_slot_and_permit() {
    let one = PoolPolicy {
        max_in_flight: Some(1),
        ..pool()
    };
    let (mut world, session) = World::running_with(job(1), one);
    world.etcd.remove(&Uid(1));
    world.feed(Event::JobDeleted(Uid(1)));
    world.put(job(2));
    assert_eq!(world.phase(2), Phase::Queued);
    world.report(session, attempt(1, 1), Fact::Released);
    assert_eq!(world.acks(), [(attempt(1, 1), false)]);
    assert_eq!(world.phase(2), Phase::Running);
}

#[test]
fn a_report_that_comes_while_the_record_is_written_is_answered_right_after_it() {
    let (mut world, session) = World::running();
    world.hold_records = true;
    world.edit(1, |spec| spec.cancel = true);
    world.report(session, attempt(1, 1), Fact::Released);
    assert_eq!(world.acks(), []);
    let record = world.held.remove(0);
    let (job, token, answer) = world.perform(record).unwrap();
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(world.acks(), [(attempt(1, 1), false)]);
}

#[test]
fn a_job_that_names_a_key_that_is_not_its_own_is_dead_before_anybody_gets_a_lease() {
    let mut world = World::new();
    world.store.lease = Answer::No;
    world.hello(1, 1, 1);
    world.put(job(1));
    assert!(world.leases().is_empty());
    let status = world.status(1);
    assert_eq!(status.phase, Phase::DeadLettered);
    assert_eq!(status.reason, Reason::InvalidSource);
    assert_eq!((status.attempt, status.worker), (1, None));
    assert!(status.ghosts.is_empty(), "no call ever ran");
    world.store.lease = Answer::Yes;
    world.put(job(2));
    assert_eq!(world.leases(), [attempt(2, 1)], "the slot is free");
}

#[test]
fn a_cancelled_call_leaves_a_ghost_unless_somebody_knows_that_it_is_over() {
    let report = |by_operator| Report {
        attempt: 1,
        worker: Uid(1),
        fact: Fact::Succeeded,
        retry_after: None,
        by_operator,
        outputs: Look::Away,
        source: Look::Unasked,
    };
    let loss = |call_may_run| Loss {
        attempt: 1,
        class: Class::Lost,
        call_may_run,
    };
    let (worker, nobody) = (Some(Uid(1)), None);
    let table = [
        ("nobody knows", worker, None, None, 1),
        ("its worker reported", worker, Some(report(false)), None, 0),
        ("its time is over", worker, Some(report(true)), None, 1),
        ("its process is dead", worker, None, Some(loss(false)), 0),
        ("its worker is silent", worker, None, Some(loss(true)), 1),
        ("no pod came yet", nobody, None, None, 0),
    ];
    for (name, worker, report, loss, want) in table {
        let mut given_up = job(1);
        given_up.status = given_up.claimed(worker, POOL.name, START);
        given_up.spec.cancel = true;
        let beside = Beside {
            pools_known: true,
            report,
            loss,
            ..Beside::default()
        };
        let mut rng = StdRng::seed_from_u64(1);
        let next = decide::next(&given_up, &beside, START, &mut rng);
        let Next::Write(after, Cause::Cancelled) = next else {
            panic!("{name}: {next:?}");
        };
        assert_eq!(after.ghosts.len(), want, "{name}");
    }
}
