//! From the end to the deletion. covers: F3, T25

use kinora_engine::event::Answer;
use kinora_engine::outcome::Fact;
use kinora_engine::*;

use crate::fixtures::*;

#[test]
fn a_finished_job_goes_after_its_ttl_and_only_once_its_record_was_read_back() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.asked, ["outputs", "write record", "clean"]);
    world.pass(secs(899), &[session]);
    assert!(world.deleted.is_empty());
    world.pass(secs(2), &[session]);
    assert_eq!(world.asked[3..], ["read record"]);
    assert_eq!(world.deleted, [Uid(1)]);
    assert_eq!(world.engine.jobs(), 0);
}

#[test]
fn a_record_that_cannot_be_read_back_keeps_the_job() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), Fact::Succeeded);
    world.store.record = Answer::Away;
    world.pass(secs(960), &[session]);
    assert!(world.deleted.is_empty());
    // Lost from the store: written again before anything is deleted.
    world.store.record = Answer::No;
    world.asked.clear();
    world.pass(secs(10), &[session]);
    assert_eq!(world.asked[..2], ["read record", "write record"]);
    assert_eq!(world.deleted, [Uid(1)]);
}

#[test]
fn a_record_that_was_there_before_is_no_lag_while_its_cleaning_is_undone() {
    let mut ended = job(1);
    ended.status.observed = 1;
    ended.status.phase = Phase::Succeeded;
    ended.status.finished = Some(START);
    for (record, want) in [(Answer::Record(0), None), (Answer::No, Some(START))] {
        let mut world = World::new();
        world.store.record = record;
        world.store.clean = Answer::Away;
        world.put(ended.clone());
        assert_eq!(world.asked.last(), Some(&"clean"));
        let backlog = world.engine.archive_backlog();
        assert_eq!((backlog.pending, backlog.oldest), (1, want));
    }
}

#[test]
fn a_declared_job_without_ttl_stays_also_as_a_dead_letter() {
    let mut declared = job(1);
    declared.spec.declared = true;
    declared.spec.ttl = None;
    declared.spec.start_deadline = Some(secs(1));
    let mut world = World::new();
    world.put(declared);
    world.pass(secs(2), &[]);
    assert_eq!(world.phase(1), Phase::DeadLettered);
    world.now = world.now.after(secs(40 * 24 * 3600));
    world.pass(secs(2), &[]);
    assert!(world.deleted.is_empty());
}

#[test]
fn a_dead_letter_of_an_upload_stays_for_the_pools_retention() {
    let mut upload = job(1);
    upload.spec.start_deadline = Some(secs(1));
    let mut world = World::new();
    world.put(upload);
    world.pass(secs(2), &[]);
    world.now = world.now.after(secs(13 * 24 * 3600));
    world.pass(secs(2), &[]);
    assert!(world.deleted.is_empty());
    world.now = world.now.after(secs(24 * 3600));
    world.pass(secs(2), &[]);
    assert_eq!(world.deleted, [Uid(1)]);
}

#[test]
fn a_job_made_long_after_its_outbox_entry_is_deleted_unrun_when_its_record_is_final() {
    let mut late = job(1);
    late.spec.late = true;
    let mut world = World::new();
    world.hello(1, 1, 1);
    world.store.record = Answer::Record(0);
    world.put(late.clone());
    assert_eq!(world.deleted, [Uid(1)]);
    assert!(world.leases().is_empty());

    let mut world = World::new();
    world.hello(1, 1, 1);
    world.store.record = Answer::Away;
    world.put(late.clone());
    assert!(world.leases().is_empty());
    world.store.record = Answer::No;
    world.pass(secs(6), &[]);
    assert_eq!(world.leases(), [attempt(1, 1)]);

    // A redrive of it is no repetition.
    let mut world = World::new();
    world.hello(1, 1, 1);
    world.store.record = Answer::Record(0);
    late.status.redrives = 1;
    world.put(late);
    assert!(world.deleted.is_empty());
    assert_eq!(world.leases(), [attempt(1, 1)]);
}

#[test]
fn a_delete_that_is_refused_is_tried_less_and_less_whatever_it_was_for() {
    let (mut ended, session) = World::running();
    ended.store.delete = Some(Answer::Unknown);
    ended.report(session, attempt(1, 1), Fact::Succeeded);
    ended.pass(secs(899), &[session]);
    let mut unrun = World::new();
    unrun.store.delete = Some(Answer::Unknown);
    unrun.store.record = Answer::Record(0);
    let mut late = job(1);
    late.spec.late = true;
    unrun.put(late);
    for (name, mut world) in [("past its TTL", ended), ("made late", unrun)] {
        world.pass(secs(600), &[]);
        let tries = world.asked.iter().filter(|a| **a == "delete").count();
        assert!((3..20).contains(&tries), "{name}: {tries} tries");
        world.store.delete = None;
        world.pass(secs(301), &[]);
        assert_eq!(world.deleted, [Uid(1)], "{name}");
    }
}

#[test]
fn a_job_changed_between_decision_and_delete_is_looked_at_again() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), Fact::Succeeded);
    world.pass(secs(890), &[session]);
    let changed = world.etcd[&Uid(1)].clone();
    world.put_unseen(changed);
    world.pass(secs(12), &[session]);
    assert_eq!(world.deleted, [Uid(1)]);
    assert_eq!(world.asked.iter().filter(|a| **a == "read").count(), 1);
}

/// A million a day with a TTL of a day would fill etcd.
#[test]
fn beyond_fifty_thousand_finished_uploads_the_oldest_go_once_their_records_are_there() {
    let many = u128::try_from(archive::MAX_FINISHED).unwrap() + 3;
    let mut world = World::new();
    world.store.record = Answer::Record(0);
    for uid in 1..=many {
        let mut old = job(uid);
        old.spec.ttl = Some(secs(86_400));
        old.status.phase = Phase::Succeeded;
        old.status.observed = 1;
        old.status.finished =
            Some(START + std::time::Duration::from_millis(u64::try_from(uid).unwrap()));
        world.put(old);
    }
    let mut declared = job(many + 1);
    declared.spec.declared = true;
    declared.status.phase = Phase::Succeeded;
    declared.status.observed = 1;
    declared.status.finished = Some(Wall(START.0 - 1));
    declared.spec.ttl = None;
    world.put(declared);
    world.pass(secs(60), &[]);
    assert!(world.deleted.is_empty(), "none sooner than after 15 min");
    world.now.wall = START + secs(1000);
    world.pass(secs(5), &[]);
    assert_eq!(world.deleted, [Uid(1), Uid(2), Uid(3)]);
}
