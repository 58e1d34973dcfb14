//! A control plane that was lost or restored from a backup, and a clock that cannot sign. covers: F25, I1, I6

use kinora_engine::event::{Answer, History, Lead};
use kinora_engine::outcome::Fact;
use kinora_engine::*;

use crate::fixtures::*;

/// A leader that compares the past before it touches an upload.
fn comparing() -> World {
    let mut world = World::new();
    world.feed(Event::Lead(Lead::Standby));
    world.feed(Event::History(History::Unknown));
    world.feed(Event::Lead(Lead::Leader));
    world
}

/// Job 1 as a backup has it: running on worker 1, which is long done with it.
fn restored() -> Job {
    let mut old = job(1);
    old.status = old.claimed(Uid(1), POOL.name, START);
    old
}

#[test]
fn no_upload_is_claimed_before_the_past_was_compared_and_declared_jobs_are() {
    let mut world = comparing();
    world.hello(1, 1, 4);
    world.put(job(1));
    let mut declared = job(2);
    declared.spec.declared = true;
    world.put(declared);
    assert_eq!(world.leases(), [attempt(2, 1)]);
    world.feed(Event::History(History::Unbroken));
    assert_eq!(world.leases(), [attempt(2, 1), attempt(1, 1)]);
    assert!(!world.asked.contains(&"read record"));
}

#[test]
fn after_a_rewind_older_uploads_are_run_only_when_the_store_has_no_final_record_of_them() {
    let rewound = History::Rewound(Wall(START.0 + 5000));
    let table = [
        ("no record: it goes on", Answer::No, 0, true, false),
        (
            "ended before: deleted unrun",
            Answer::Record(0),
            0,
            false,
            true,
        ),
        ("ended by a later life", Answer::Record(3), 1, false, true),
        (
            "only an earlier life ended",
            Answer::Record(0),
            1,
            true,
            false,
        ),
        ("the store is away: it waits", Answer::Away, 0, false, false),
    ];
    for (name, record, redrives, want_run, want_deleted) in table {
        let mut world = comparing();
        world.hello(1, 1, 1);
        world.store.record = record;
        let mut old = job(1);
        old.status.redrives = redrives;
        world.put(old);
        world.feed(Event::History(rewound));
        assert_eq!(!world.leases().is_empty(), want_run, "{name}");
        assert_eq!(!world.deleted.is_empty(), want_deleted, "{name}");
    }
}

#[test]
fn a_job_made_after_the_rewind_is_not_looked_for() {
    let mut world = comparing();
    world.feed(Event::History(History::Rewound(START)));
    world.hello(1, 1, 1);
    let mut young = job(1);
    young.spec.created = Wall(START.0 + 1000);
    world.put(young);
    assert_eq!(world.leases(), [attempt(1, 1)]);
    assert!(!world.asked.contains(&"read record"));
}

#[test]
fn a_running_job_of_a_backup_is_adopted_only_after_its_record_was_looked_for() {
    // It ended in the past that was lost.
    let mut world = comparing();
    world.store.record = Answer::Record(0);
    world.put(restored());
    let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 1)]);
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert!(world.writes.is_empty() && world.deleted.is_empty());
    world.feed(Event::History(History::Rewound(START)));
    assert_eq!(world.deleted, [Uid(1)]);
    assert!(world.writes.is_empty());
    // It did not: its worker's report counts.
    let mut world = comparing();
    world.store.record = Answer::No;
    world.put(restored());
    let session = world.hello_with(1, 1, 1, 100, &[attempt(1, 1)]);
    world.report(session, attempt(1, 1), Fact::Succeeded);
    world.feed(Event::History(History::Rewound(START)));
    assert_eq!(world.phase(1), Phase::Succeeded);
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
}

#[test]
fn a_cancel_does_not_overtake_the_look_for_the_record() {
    let mut world = comparing();
    world.store.record = Answer::Record(0);
    let mut old = job(1);
    old.spec.cancel = true;
    world.put(old);
    world.feed(Event::History(History::Rewound(START)));
    assert_eq!(world.deleted, [Uid(1)]);
    assert!(world.writes.is_empty());
}

#[test]
fn final_jobs_of_a_backup_are_archived_anew_before_they_are_deleted() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), Fact::Succeeded);
    world.asked.clear();
    world.store.record = Answer::No;
    world.feed(Event::History(History::Rewound(world.now.wall)));
    assert_eq!(world.asked, ["read record", "write record", "clean"]);
}

#[test]
fn a_quorum_read_older_than_the_decision_proves_that_the_past_came_back() {
    let mut world = World::new();
    world.hold_writes = true;
    world.hello(1, 1, 1);
    world.put(job(1));
    let Action::Write {
        job: uid,
        token,
        rv,
        ..
    } = world.held.remove(0)
    else {
        panic!("a claim");
    };
    let older = world.etcd.get_mut(&uid).expect("there");
    older.rv = Rv(rv.0 - 1);
    assert!(!world.engine.history_went_back());
    world.feed(Event::Answer {
        job: uid,
        token,
        answer: Answer::Unknown,
    });
    assert!(world.engine.history_went_back());
}

#[test]
fn a_plain_conflict_is_no_rewind() {
    let mut world = World::new();
    world.hold_writes = true;
    world.hello(1, 1, 1);
    world.put(job(1));
    let Action::Write {
        job: uid, token, ..
    } = world.held.remove(0)
    else {
        panic!("a claim");
    };
    let changed = world.etcd[&uid].clone();
    world.put_unseen(changed);
    world.feed(Event::Answer {
        job: uid,
        token,
        answer: Answer::Unknown,
    });
    assert!(!world.engine.history_went_back());
}

/// covers: F60
#[test]
fn nothing_is_leased_while_this_clock_and_the_stores_differ_and_results_are_still_taken() {
    let (mut world, session) = World::running();
    world.feed(Event::ClockTrusted(false));
    world.put(job(2));
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Succeeded);
    assert_eq!(world.leases(), [attempt(1, 1)]);
    world.feed(Event::ClockTrusted(true));
    assert_eq!(world.leases(), [attempt(1, 1), attempt(2, 1)]);
}

#[test]
fn a_deletion_is_somebodys_wish_only_if_the_job_was_open_and_we_did_not_ask_for_it() {
    let (mut world, session) = World::running();
    assert!(world.engine.is_foreign_deletion(Uid(1)));
    assert!(!world.engine.is_foreign_deletion(Uid(2)), "not known");
    world.feed(Event::Lead(Lead::Doubtful));
    assert!(
        !world.engine.is_foreign_deletion(Uid(1)),
        "not our judgement"
    );
    world.feed(Event::Lead(Lead::Leader));
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert!(!world.engine.is_foreign_deletion(Uid(1)), "it has ended");
}
