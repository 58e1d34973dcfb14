//! Proof that comes after the verdict, leases that a dead process never had, answers about jobs that are gone.
//! covers: F20, F38, F42, T7

use kinora_engine::action::Action;
use kinora_engine::event::{Answer, Lead};
use kinora_engine::job::decide::{self, Beside, Next};
use kinora_engine::outcome::Fact;
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixtures::*;

/// What happens to a world.
type Change = fn(&mut World);

/// Silence made attempt 1 of job 1 lost; the job waits for a slot.
fn lost() -> World {
    let (mut world, session) = World::running();
    world.feed(Event::Closed(session));
    world.pass(secs(3), &[]);
    assert_eq!(world.phase(1), Phase::Queued);
    assert_eq!(world.status(1).interruptions, 0);
    world
}

#[test]
fn a_new_process_soon_after_a_loss_makes_it_an_interruption_with_the_next_write() {
    let mut world = lost();
    let writes = world.writes.len();
    world.feed(Event::PodDraining(Uid(9)));
    world.hello_with(3, 1, 1, 777, &[]);
    assert_eq!(world.writes.len(), writes + 1, "no write of its own");
    assert_eq!(world.phase(1), Phase::Running);
    assert_eq!(world.status(1).interruptions, 1);
    assert_eq!(world.status(1).attempt, 2);
}

#[test]
fn a_loss_that_the_watch_shows_before_its_write_is_answered_waits_for_proof_as_any() {
    let (mut world, session) = World::running();
    world.feed(Event::Closed(session));
    world.hold_writes = true;
    world.pass(secs(3), &[]);
    let verdict = world.held.remove(0);
    world.hold_writes = false;
    let (uid, token, answer) = world.perform(verdict).unwrap();
    let stored = world.etcd[&uid].clone();
    world.feed(Event::Job(Box::new(stored)));
    let job = uid;
    world.feed(Event::Answer { job, token, answer });
    world.hello_with(3, 1, 1, 777, &[]);
    assert_eq!(
        (world.status(1).attempt, world.status(1).interruptions),
        (2, 1)
    );
}

/// The write was given up, and arrives after all.
#[test]
fn an_interruption_that_is_owed_is_charged_once_whoever_knows_of_the_write() {
    let mut world = lost();
    world.hold_writes = true;
    let session = world.hello_with(3, 1, 1, 777, &[]);
    let claim = world.held.remove(0);
    let Action::Write { job, token, .. } = claim else {
        panic!("{claim:?}");
    };
    let answer = Answer::Unknown;
    world.feed(Event::Answer { job, token, answer });
    let (job, ..) = world.perform(claim).expect("a claim");
    world.hold_writes = false;
    let late = world.etcd[&job].clone();
    world.feed(Event::Job(Box::new(late)));
    assert_eq!(world.status(1).interruptions, 1);
    world.report(session, attempt(1, 2), Fact::Released);
    assert_eq!(world.status(1).interruptions, 1);
}

#[test]
fn proof_that_comes_too_late_or_from_a_pod_that_was_told_to_go_charges_nobody() {
    let table: [(&str, Change); 4] = [
        ("six minutes later", |world| {
            world.pass(secs(360), &[]);
            world.hello_with(3, 1, 1, 777, &[]);
        }),
        ("the same process is back", |world| {
            world.hello_with(3, 1, 1, 100, &[]);
        }),
        ("the pod was being deleted", |world| {
            world.feed(Event::PodDraining(Uid(1)));
            world.hello_with(3, 1, 1, 777, &[]);
        }),
        ("the pod was deleted", |world| {
            world.feed(Event::PodGone {
                worker: Uid(1),
                by_itself: false,
            });
            world.hello(4, 2, 1);
        }),
    ];
    for (name, then) in table {
        let mut world = lost();
        then(&mut world);
        world.hello(5, 3, 1);
        assert_eq!(world.status(1).interruptions, 0, "{name}");
        assert_eq!(world.status(1).attempt, 2, "{name}");
    }
}

/// A network that flaps: the process is back with what was called lost, ends it as it is told to, and dies of something else.
#[test]
fn what_a_process_has_survived_is_not_charged_with_its_later_death() {
    let over: [(&str, Change); 2] = [
        ("it says that it stopped", |world| {
            let session = world.hello_with(3, 1, 1, 100, &[attempt(1, 1)]);
            world.report(session, attempt(1, 1), Fact::Released);
        }),
        ("it has it no more", |world| {
            let session = world.hello_with(3, 1, 1, 100, &[attempt(1, 1)]);
            world.holds.insert(session, Vec::new());
            world.pass(secs(4), &[session]);
        }),
    ];
    for (name, then) in over {
        let mut world = lost();
        let (worker, on) = (Uid(1), true);
        world.feed(Event::Cordon { worker, on });
        then(&mut world);
        let finished = world.now.wall;
        world.feed(Event::ContainerEnded {
            worker,
            finished,
            by_itself: true,
        });
        world.hello(5, 3, 1);
        let status = world.status(1);
        assert_eq!((status.attempt, status.interruptions), (2, 0), "{name}");
    }
}

/// The new process has its slot, whatever the former one was still to give back.
#[test]
fn a_new_process_holds_nothing_of_what_died_with_the_former_one() {
    let mut world = World::new();
    let session = world.hello_with(1, 1, 2, 100, &[]);
    world.put(job(1));
    world.holds.insert(session, vec![attempt(1, 1)]);
    world.pass(secs(4), &[session]);
    world.feed(Event::Closed(session));
    world.pass(secs(3), &[]);
    assert_eq!(world.phase(1), Phase::Queued);
    let session = world.hello_with(2, 1, 2, 100, &[attempt(1, 1)]);
    assert_eq!(world.status(1).attempt, 2, "beside what it is to stop");
    world
        .holds
        .insert(session, vec![attempt(1, 1), attempt(1, 2)]);
    world.pass(secs(4), &[session]);
    let (worker, on) = (Uid(1), true);
    world.feed(Event::Cordon { worker, on });
    world.hello_with(3, 1, 2, 777, &[]);
    let mut workers = world.engine.workers();
    let (_, known) = workers.find(|(uid, _)| **uid == worker).unwrap();
    assert!(known.leases.is_empty(), "{:?}", known.leases);
    assert_eq!(world.status(1).interruptions, 2, "both ended with it");
}

#[test]
fn a_container_or_pod_that_ended_by_itself_is_late_proof_too() {
    let table: [(&str, Change, u32); 3] = [
        (
            "the pod failed",
            |world| {
                world.feed(Event::PodGone {
                    worker: Uid(1),
                    by_itself: true,
                });
            },
            1,
        ),
        (
            "the container ended after the claim",
            |world| {
                let finished = world.now.wall;
                world.feed(Event::ContainerEnded {
                    worker: Uid(1),
                    finished,
                    by_itself: true,
                });
            },
            1,
        ),
        (
            "an earlier container",
            |world| {
                world.feed(Event::ContainerEnded {
                    worker: Uid(1),
                    finished: START,
                    by_itself: true,
                });
            },
            0,
        ),
    ];
    for (name, then, want_interruptions) in table {
        let mut world = lost();
        then(&mut world);
        world.hello(5, 3, 1);
        assert_eq!(world.status(1).interruptions, want_interruptions, "{name}");
    }
}

#[test]
fn late_proof_of_the_last_interruption_ends_the_job_as_poison() {
    let strict = PoolPolicy {
        interruption_limit: 1,
        ..pool()
    };
    let (mut world, session) = World::running_with(job(1), strict);
    world.feed(Event::Closed(session));
    world.pass(secs(3), &[]);
    world.hello_with(3, 1, 1, 777, &[]);
    let status = world.status(1);
    assert_eq!(
        (status.phase, status.reason, status.interruptions),
        (Phase::DeadLettered, Reason::Poison, 1)
    );
    assert_eq!(world.leases(), [attempt(1, 1)], "not leased once more");
}

#[test]
fn a_lease_that_a_silent_stream_may_never_have_delivered_is_not_charged_late() {
    let (mut world, _) = World::running();
    world.pass(secs(13), &[]);
    assert_eq!(world.phase(1), Phase::Queued);
    world.hello_with(3, 1, 1, 777, &[]);
    assert_eq!(world.status(1).interruptions, 0);
    // One that the worker had listed is.
    let (mut world, session) = World::running();
    world.beat(session, 1, &[attempt(1, 1)]);
    world.pass(secs(13), &[]);
    world.hello_with(3, 1, 1, 777, &[]);
    assert_eq!(world.status(1).interruptions, 1);
}

#[test]
fn a_lease_sent_to_a_silent_stream_is_not_charged_to_its_job_when_the_process_proves_dead() {
    let mut world = World::new();
    world.hello(1, 1, 1);
    // The process died and nobody saw it; the stream looks open.
    world.pass(secs(5), &[]);
    world.put(job(1));
    assert_eq!(world.leases(), [attempt(1, 1)]);
    world.hello_with(2, 1, 1, 777, &[]);
    assert_eq!(world.status(1).interruptions, 0);
    assert_eq!(world.status(1).attempt, 2, "leased again at once");

    // A process that was heard a moment before took the lease down with it.
    let (mut world, _) = World::running();
    world.hello_with(2, 1, 1, 777, &[]);
    assert_eq!(world.status(1).interruptions, 1);
}

/// The process that said Hello did not have it, and may have been over before the other leader's lease went out.
#[test]
fn a_claim_by_another_leader_is_not_charged_to_its_job_when_the_process_without_it_proves_dead() {
    for (has_it, want_interruptions) in [(false, 0), (true, 1)] {
        let mut world = World::new();
        let brings: &[AttemptId] = if has_it { &[attempt(1, 1)] } else { &[] };
        let session = world.hello_with(1, 1, 1, 100, brings);
        world.feed(Event::Closed(session));
        let mut theirs = job(1);
        theirs.status = theirs.claimed(Uid(1), POOL.name, START);
        world.put(theirs);
        world.hello_with(2, 1, 1, 777, &[]);
        assert_eq!(world.status(1).attempt, 2, "has it: {has_it}");
        assert_eq!(world.status(1).interruptions, want_interruptions);
    }
}

#[test]
fn an_answer_that_was_under_way_does_not_bring_a_deleted_job_back() {
    let mut world = World::new();
    world.hold_writes = true;
    world.hello(1, 1, 1);
    world.put(job(1));
    let claim = world.held.remove(0);
    let (uid, token, answer) = world.perform(claim).unwrap();
    assert!(matches!(answer, Answer::Written(_)));
    world.etcd.remove(&uid);
    world.feed(Event::JobDeleted(uid));
    world.feed(Event::Answer {
        job: uid,
        token,
        answer,
    });
    assert_eq!(world.engine.jobs(), 0);
    assert_eq!(world.engine.live_jobs(), 0);
    assert_eq!(world.engine.live_uploads(), 0);
    assert!(world.leases().is_empty());
}

#[test]
fn a_final_job_whose_write_is_answered_after_its_deletion_stays_gone() {
    let (mut world, session) = World::running();
    world.hold_writes = true;
    world.report(session, attempt(1, 1), Fact::Succeeded);
    let finish = world.held.remove(0);
    let (uid, token, answer) = world.perform(finish).unwrap();
    world.etcd.remove(&uid);
    world.feed(Event::JobDeleted(uid));
    world.feed(Event::Lead(Lead::Doubtful));
    world.feed(Event::Answer {
        job: uid,
        token,
        answer,
    });
    assert_eq!(world.engine.jobs(), 0);
}

/// More jobs go within five minutes than are remembered: the oldest are forgotten first, so that whatever is still under way
/// meets a grave.
#[test]
fn an_answer_about_a_job_that_went_just_now_brings_none_back_however_many_went() {
    let mut world = World::new();
    for uid in 1..=20_000 {
        world.feed(Event::JobDeleted(Uid(uid)));
    }
    let mut gone = job(30_000);
    gone.status.phase = Phase::Succeeded;
    gone.status.finished = Some(START);
    world.put(gone.clone());
    gone.rv = Rv(1_000_000);
    world.etcd.remove(&gone.uid);
    world.feed(Event::JobDeleted(gone.uid));
    world.feed(Event::Answer {
        job: gone.uid,
        token: Token(77),
        answer: Answer::Written(Box::new(gone)),
    });
    assert_eq!(world.engine.jobs(), 0);
}

#[test]
fn a_job_that_waits_is_poison_by_late_proof_alone() {
    let table = [
        ("the last one is proved", 2, 1, 3, Some(Reason::Poison)),
        (
            "one of several that are proved",
            1,
            4,
            3,
            Some(Reason::Poison),
        ),
        (
            "the first one, where one is too many",
            0,
            1,
            0,
            Some(Reason::Poison),
        ),
        ("one before the last", 1, 1, 3, None),
        ("a limit that was lowered meanwhile", 3, 0, 3, None),
    ];
    for (name, interruptions, owed, interruption_limit, want) in table {
        let mut waits = job(1);
        waits.status.interruptions = interruptions;
        let policy = PoolPolicy {
            interruption_limit,
            ..pool()
        };
        let beside = Beside {
            policy: Some(&policy),
            pools_known: true,
            owed,
            ..Beside::default()
        };
        let mut rng = StdRng::seed_from_u64(1);
        let reason = match decide::next(&waits, &beside, START, &mut rng) {
            Next::Write(after, _) if after.phase == Phase::DeadLettered => Some(after.reason),
            Next::Ready(None) => None,
            next => panic!("{name}: {next:?}"),
        };
        assert_eq!(reason, want, "{name}");
    }
}
