//! Dead letters that are brought back: once for one request, with whole budgets, fenced from the old life. covers: T5, T7, I4

use kinora_engine::action::{Action, Cause, Redrive};
use kinora_engine::event::{Answer, Lead};
use kinora_engine::job::machine::is_legal;
use kinora_engine::outcome::{Fact, grpc};
use kinora_engine::schedule::queue::Queue;
use kinora_engine::*;

use crate::fixtures::*;

/// What happens to a world.
type Change = fn(&mut World);

const REQUEST: Uid = Uid(501);

fn redrive(world: &mut World, by: Uid) {
    world.feed(Event::Redrive { job: Uid(1), by });
}

/// Job 1 was rejected three times and is archived.
fn dead() -> World {
    let (mut world, session) = World::running();
    for n in 1..=3 {
        world.until_running(1, session);
        world.report(session, attempt(1, n), Fact::Grpc(grpc::INVALID_ARGUMENT));
    }
    assert_eq!(world.status(1).reason, Reason::Rejected);
    assert!(world.engine.is_archived(Uid(1)));
    world.asked.clear();
    world.writes.clear();
    world
}

/// Its deletion by age met a change, and it got another life: who deletes that now means it.
#[test]
fn a_deletion_of_the_operator_that_failed_excuses_no_later_one() {
    let mut world = dead();
    world.store.delete = Some(Answer::Unknown);
    world.pass(pool().dead_letter_ttl + secs(1), &[]);
    assert!(world.asked.contains(&"delete"));
    redrive(&mut world, REQUEST);
    // It waits as a write that was refused does.
    world.pass(secs(300), &[]);
    assert_eq!(world.redriven, [(Uid(1), REQUEST, Redrive::Done)]);
    assert!(world.engine.is_foreign_deletion(Uid(1)));
}

#[test]
fn a_dead_letter_starts_a_new_life_after_its_active_entry_says_so() {
    let mut world = dead();
    world.feed(Event::PodGone {
        worker: Uid(1),
        by_itself: false,
    });
    redrive(&mut world, REQUEST);
    assert_eq!(world.asked, ["reactivate"]);
    let (_, cause, status) = world.writes[0].clone();
    assert_eq!(cause, Cause::Redriven);
    let want = Status {
        observed: 1,
        phase: Phase::Queued,
        reason: Reason::Queued,
        attempt: 3,
        redrives: 1,
        redriven_by: Some(REQUEST),
        pool: Some(POOL.name),
        since: status.since,
        mode_since: status.mode_since,
        ..Status::default()
    };
    assert_eq!(status, want);
    assert_eq!(world.redriven, [(Uid(1), REQUEST, Redrive::Done)]);
    // The attempt goes on: what the old life left behind stays fenced.
    world.hello(7, 7, 1);
    assert_eq!(world.leases().last(), Some(&attempt(1, 4)));
}

#[test]
fn what_cannot_be_brought_back_is_said_and_not_written() {
    let table: [(&str, Change, Redrive); 5] = [
        (
            "it runs",
            |world| {
                let (running, _) = World::running();
                *world = running;
            },
            Redrive::Skipped,
        ),
        (
            "it is not there",
            |world| *world = World::new(),
            Redrive::Gone,
        ),
        (
            "this request brought it back before",
            |world| {
                let mut again = world.etcd[&Uid(1)].clone();
                again.status.redriven_by = Some(REQUEST);
                world.put(again);
            },
            Redrive::Skipped,
        ),
        (
            "its active entry is not ours to write",
            |world| world.store.reactivated = Answer::No,
            Redrive::Refused,
        ),
        (
            "this replica does not lead",
            |world| world.feed(Event::Lead(Lead::Doubtful)),
            Redrive::NotLeader,
        ),
    ];
    for (name, given, want) in table {
        let mut world = dead();
        given(&mut world);
        world.writes.clear();
        redrive(&mut world, REQUEST);
        assert_eq!(world.redriven, [(Uid(1), REQUEST, want)], "{name}");
        assert!(world.writes.is_empty(), "{name}");
    }
}

/// Whoever asked reads that it failed: nothing does it later, though what refused is mended.
#[test]
fn of_a_redrive_that_is_refused_no_active_entry_stays() {
    let refuse = |store: Answer| {
        let mut world = dead();
        world.hold_writes = true;
        redrive(&mut world, REQUEST);
        let Action::Write { job, token, .. } = world.held.remove(0) else {
            panic!("a write");
        };
        world.store.reactivated = store;
        let answer = Answer::Refused;
        world.feed(Event::Answer { job, token, answer });
        world.hold_writes = false;
        world.store.reactivated = Answer::Yes;
        assert_eq!(world.redriven, [(Uid(1), REQUEST, Redrive::Refused)]);
        world
    };
    for (store, again) in [(Answer::Yes, 0), (Answer::Away, 1)] {
        let mut world = refuse(store.clone());
        world.pass(secs(300), &[]);
        let mut asked = vec!["reactivate", "take back"];
        asked.extend(vec!["take back"; again]);
        assert_eq!(world.asked, asked);
        assert_eq!(world.phase(1), Phase::DeadLettered);

        let mut world = refuse(store);
        redrive(&mut world, Uid(502));
        world.pass(secs(300), &[]);
        let last = world.asked.last();
        assert_eq!(last, Some(&"reactivate"), "the next begins with its entry");
        assert_eq!(world.status(1).redriven_by, Some(Uid(502)));
    }
}

/// Other letters wait behind it.
#[test]
fn a_dead_letter_whose_documents_are_not_ours_to_touch_is_refused() {
    let mut buried = job(1);
    buried.status = buried.dead(Reason::Poison, START);
    buried.status.observed = 1;
    let refused = [(Uid(1), REQUEST, Redrive::Refused)];

    let mut unreadable = World::new();
    unreadable.store.record = Answer::Refused;
    unreadable.put(buried.clone());
    redrive(&mut unreadable, REQUEST);
    unreadable.pass(secs(61), &[]);
    assert_eq!(unreadable.redriven, refused);

    let mut unwritable = World::new();
    unwritable.hold_records = true;
    unwritable.put(buried);
    redrive(&mut unwritable, REQUEST);
    let Action::WriteRecord { job, token } = unwritable.held.remove(0) else {
        panic!("a record");
    };
    let answer = Answer::No;
    unwritable.feed(Event::Answer { job, token, answer });
    assert_eq!(unwritable.redriven, refused);
    for world in [unreadable, unwritable] {
        assert_eq!(world.phase(1), Phase::DeadLettered);
    }
}

#[test]
fn a_leader_that_has_not_listed_all_jobs_yet_cannot_say_that_one_is_gone() {
    let mut world = World::new();
    world.engine = Engine::new();
    world.feed(Event::Lead(Lead::Leader));
    redrive(&mut world, REQUEST);
    world.feed(Event::JobsSynced);
    redrive(&mut world, REQUEST);
    let answers: Vec<Redrive> = world.redriven.iter().map(|r| r.2).collect();
    assert_eq!(answers, [Redrive::NotLeader, Redrive::Gone]);
}

#[test]
fn a_store_that_is_away_delays_a_redrive_and_loses_nothing() {
    let mut world = dead();
    world.store.reactivated = Answer::Away;
    redrive(&mut world, REQUEST);
    assert!(world.writes.is_empty() && world.redriven.is_empty());
    world.store.reactivated = Answer::Yes;
    world.pass(secs(6), &[]);
    assert_eq!(world.redriven, [(Uid(1), REQUEST, Redrive::Done)]);
}

#[test]
fn a_redrive_whose_answer_was_lost_is_done_once() {
    let mut world = dead();
    world.hold_writes = true;
    redrive(&mut world, REQUEST);
    let write = world.held.remove(0);
    let (job, token, _lost) = world.perform(write).unwrap();
    world.feed(Event::Answer {
        job,
        token,
        answer: Answer::Unknown,
    });
    assert_eq!(world.redriven, [(Uid(1), REQUEST, Redrive::Done)]);
    assert_eq!(world.status(1).redrives, 1);
}

#[test]
fn a_new_leader_finds_a_redrive_half_done_and_does_it_once() {
    // `active/` was written, the control plane was not.
    let mut world = dead();
    world.hold_writes = true;
    redrive(&mut world, REQUEST);
    world.held.clear();
    world.feed(Event::Lead(Lead::Standby));
    world.hold_writes = false;
    world.feed(Event::Lead(Lead::Leader));
    redrive(&mut world, REQUEST);
    assert_eq!(world.status(1).redrives, 1);
    redrive(&mut world, REQUEST);
    assert_eq!(world.status(1).redrives, 1);
    assert_eq!(world.redriven.last().map(|r| r.2), Some(Redrive::Skipped));
}

#[test]
fn a_declared_job_has_no_active_entry_to_write() {
    let mut declared = job(1);
    declared.spec.declared = true;
    declared.spec.start_deadline = Some(secs(1));
    let mut world = World::new();
    world.put(declared);
    world.pass(secs(2), &[]);
    assert_eq!(world.status(1).reason, Reason::DeadlineExceeded);
    redrive(&mut world, REQUEST);
    assert!(!world.asked.contains(&"reactivate"));
    assert_eq!(
        world.phase(1),
        Phase::Queued,
        "the deadline was the first life's"
    );
    world.pass(secs(2), &[]);
    assert_eq!(world.phase(1), Phase::Queued);
}

#[test]
fn a_redriven_job_that_its_author_holds_is_suspended() {
    let mut world = dead();
    world.edit(1, |spec| spec.suspend = true);
    redrive(&mut world, REQUEST);
    assert_eq!(world.phase(1), Phase::Suspended);
    assert_eq!(world.status(1).redrives, 1);
}

#[test]
fn only_a_redrive_leaves_the_dead_letters_and_only_as_one() {
    let world = dead();
    let old = world.status(1).clone();
    let good = world.etcd[&Uid(1)].redriven(REQUEST, world.now.wall);
    let edited = |change: fn(&mut Status)| {
        let mut status = good.clone();
        change(&mut status);
        status
    };
    let table = [
        ("a redrive", good.clone(), true),
        ("without a count", edited(|s| s.redrives = 0), false),
        ("two at once", edited(|s| s.redrives = 2), false),
        ("by nobody", edited(|s| s.redriven_by = None), false),
        (
            "straight to a worker",
            edited(|s| s.phase = Phase::Running),
            false,
        ),
        ("with old failures", edited(|s| s.failures = 5), false),
    ];
    for (name, new, want) in table {
        assert_eq!(is_legal(&old, &new), want, "{name}");
    }
    let mut succeeded = old;
    succeeded.phase = Phase::Succeeded;
    assert!(!is_legal(&succeeded, &good), "a success stays one");
}

#[test]
fn beyond_twenty_thousand_dead_letters_the_oldest_go_once_their_records_are_there() {
    let mut world = World::new();
    let many = u128::try_from(archive::MAX_DEAD_LETTERS).unwrap() + 3;
    for uid in 1..=many {
        let mut old = job(uid);
        old.status = old.dead(
            Reason::Rejected,
            Wall(START.0 + i64::try_from(uid).unwrap() * 1000),
        );
        world.store.record = Answer::Record(0);
        world.put(old);
    }
    assert!(world.deleted.is_empty());
    world.pass(secs(1), &[]);
    assert_eq!(world.deleted, [Uid(1), Uid(2), Uid(3)]);
    world.pass(secs(5), &[]);
    assert_eq!(world.deleted.len(), 3);
}

#[test]
fn a_job_that_was_brought_back_has_waited_since_then() {
    let (made, back) = (START, START + secs(5000));
    let table = [
        ("in its first life", made, 0, Some(back), made),
        ("not written yet", made, 0, None, made),
        ("brought back", made, 1, Some(back), back),
        ("by a clock that is behind", back, 2, Some(made), back),
    ];
    for (name, created, redrives, since, want) in table {
        let mut waits = job(1);
        waits.spec.created = created;
        waits.status.redrives = redrives;
        waits.status.since = since;
        let mut queue = Queue::default();
        queue.insert(&waits, false);
        assert_eq!(queue.oldest(), Some(want), "{name}");
    }
}
