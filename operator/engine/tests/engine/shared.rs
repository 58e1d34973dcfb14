//! Two leaders that made the same claim, and what either may take for granted. covers: F29, I5, I7

use kinora_engine::action::Action;
use kinora_engine::event::Answer;
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::Fact;
use kinora_engine::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixtures::*;

/// A claim is under way, and another leader has made the same one.
pub(crate) fn claimed_by_another_too() -> (World, SessionId, Uid, Token) {
    let mut world = World::new();
    world.hold_writes = true;
    let session = world.hello(1, 1, 1);
    world.put(job(1));
    let Action::Write {
        job: uid, token, ..
    } = world.held.remove(0)
    else {
        panic!("a claim");
    };
    let mut theirs = world.etcd[&uid].clone();
    theirs.status = theirs.claimed(Uid(1), POOL.name, START);
    world.put_unseen(theirs);
    (world, session, uid, token)
}

/// The answer to a claim for worker 1 that is stored, before it comes.
fn claimed() -> (World, SessionId, Event) {
    let mut world = World::new();
    world.hold_writes = true;
    let session = world.hello(1, 1, 1);
    world.put(job(1));
    let claim = world.held.remove(0);
    let (job, token, answer) = world.perform(claim).expect("a claim");
    world.hold_writes = false;
    (world, session, Event::Answer { job, token, answer })
}

/// Another leader did not know of the claim when it made its own, and found it stored; it has the worker now.
fn claimed_again(first: &mut World, session: SessionId) {
    let mut second = World::new();
    second.put(job(1));
    second.etcd = first.etcd.clone();
    second.hello(2, 1, 1);
    assert_eq!(second.leases(), [attempt(1, 1)]);
    first.etcd = second.etcd;
    first.feed(Event::Closed(session));
}

fn seen(world: &World) -> Event {
    Event::Job(Box::new(world.etcd[&Uid(1)].clone()))
}

#[test]
fn a_lease_that_another_leader_sent_on_the_same_claim_leaves_a_ghost() {
    for watch_first in [false, true] {
        let (mut world, session, stored) = claimed();
        let mut rng = StdRng::seed_from_u64(1);
        let actions = world.engine.step(stored, world.now, &mut rng);
        let [Action::Prepare { token, .. }] = actions[..] else {
            panic!("{actions:?}");
        };
        claimed_again(&mut world, session);
        if watch_first {
            world.feed(seen(&world));
        }
        world.feed(Event::Answer {
            job: Uid(1),
            token,
            answer: Answer::Yes,
        });
        assert!(world.leases().is_empty());
        assert_eq!(world.phase(1), Phase::Queued);
        assert_eq!(world.status(1).ghosts.len(), 1, "watch: {watch_first}");
    }
}

#[test]
fn a_new_date_of_our_own_is_not_another_leader_s_when_the_watch_is_faster_than_its_answer() {
    let (mut world, session, stored) = claimed();
    world.pass(secs(11), &[session]);
    world.hold_writes = true;
    world.feed(stored);
    let dated = world.held.remove(0);
    let (job, token, answer) = world.perform(dated).expect("a new date");
    world.hold_writes = false;
    world.feed(seen(&world));
    world.feed(Event::Closed(session));
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(world.phase(1), Phase::Queued);
    assert!(world.status(1).ghosts.is_empty(), "no call ever ran");
}

#[test]
fn a_claim_that_another_leader_dated_anew_before_its_answer_came_is_not_ours_alone() {
    let (mut world, session, stored) = claimed();
    claimed_again(&mut world, session);
    world.feed(seen(&world));
    world.feed(stored);
    assert!(world.leases().is_empty());
    assert_eq!(world.phase(1), Phase::Queued);
    assert_eq!(world.status(1).ghosts.len(), 1);
}

/// The process that had its lease may be over, and another of the same pod would call for the same attempt.
#[test]
fn a_claim_that_another_leader_made_before_ours_is_not_leased_again() {
    let mut world = World::new();
    let mut theirs = job(1);
    theirs.status = theirs.claimed(Uid(1), POOL.name, START);
    world.pass(secs(2), &[]);
    world.hold_writes = true;
    let session = world.hello(1, 1, 1);
    world.put(job(1));
    let claim = world.held.remove(0);
    world.put_unseen(theirs);
    let (job, token, answer) = world.perform(claim).expect("a claim");
    world.hold_writes = false;
    world.feed(Event::Answer { job, token, answer });
    assert!(world.leases().is_empty());
    assert_eq!(world.status(1).attempt, 1);
    world.beat(session, 1, &[]);
    assert_eq!(world.leases(), [attempt(1, 2)]);
}

#[test]
fn what_a_worker_reported_before_another_leader_leased_to_it_anew_is_asked_again() {
    let (mut world, session) = World::running();
    world.store.outputs = Answer::Away;
    world.report(session, attempt(1, 1), Fact::Succeeded);
    let mut theirs = world.etcd[&Uid(1)].clone();
    theirs.status = theirs.delayed(world.now.wall);
    world.put(theirs);
    world.store.outputs = Answer::Yes;
    world.pass(secs(10), &[session]);
    assert_eq!(world.phase(1), Phase::Running, "of a process that is over");
    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Succeeded);
}

/// The answer to a write tells what was stored then, and its way back may be long.
#[test]
fn a_report_that_came_after_a_write_is_not_judged_by_its_answer() {
    let (mut world, session) = World::running();
    world.feed(Event::Closed(session));
    world.hold_writes = true;
    world.pass(secs(3), &[]);
    let verdict = world.held.remove(0);
    let (job, token, answer) = world.perform(verdict).expect("a loss");
    let mut theirs = world.etcd[&job].clone();
    theirs.status = theirs.claimed(Uid(2), POOL.name, world.now.wall);
    world.put_unseen(theirs);
    world.hold_writes = false;
    let other = world.hello_with(2, 2, 1, 200, &[attempt(1, 2)]);
    world.report(other, attempt(1, 2), Fact::Grpc(13));
    assert!(world.acks().is_empty());
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(world.acks(), [(attempt(1, 2), true)]);
    assert_eq!(world.status(1).failures, 1);
}
