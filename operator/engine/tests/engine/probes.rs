//! Probes of a service that was away: how many there are, who takes their place, and what waits for them. covers: T19

use std::collections::BTreeMap;

use kinora_engine::action::{Action, Cause, PodAction};
use kinora_engine::event::Answer;
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::{Class, Fact, grpc};
use kinora_engine::policy::BreakerPolicy;
use kinora_engine::schedule::breaker::State;
use kinora_engine::*;

use crate::attempt_pods::{pod_says_hello, pods};
use crate::fixtures::*;

fn with_probes(probes: u32, policy: PoolPolicy) -> PoolPolicy {
    PoolPolicy {
        breaker: BreakerPolicy {
            min_calls: 1,
            probes,
            ..BreakerPolicy::default()
        },
        ..policy
    }
}

fn breaker(world: &World) -> State {
    world.engine.pools(world.now.wall)[&POOL].breaker
}

/// A pool whose breaker is open, with three jobs that wait for its probe.
fn waiting_for_a_probe() -> World {
    let mut world = World::with_pool(with_probes(1, pods()));
    world.put(job(1));
    let session = pod_says_hello(&mut world, 7, attempt(1, 1));
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::UNAVAILABLE));
    world.put(job(2));
    world.put(job(3));
    world.hold_writes = true;
    world.pass(secs(31), &[]);
    assert_eq!(world.held.len(), 1, "one probe");
    world
}

#[test]
fn a_probe_whose_claim_is_not_stored_makes_room_for_another() {
    let mut world = waiting_for_a_probe();
    let Action::Write { job, token, .. } = world.held.remove(0) else {
        panic!("a claim is a write");
    };
    let answer = Answer::Gone;
    world.feed(Event::Answer { job, token, answer });
    world.pass(secs(1), &[]);
    assert_eq!(world.held.len(), 1);
}

#[test]
fn a_probe_whose_pod_is_not_filled_in_yet_is_still_the_only_one() {
    let mut world = waiting_for_a_probe();
    let claim = world.held.remove(0);
    let (job, token, answer) = world.perform(claim).unwrap();
    world.feed(Event::Answer { job, token, answer });
    let probe = attempt(job.0, world.etcd[&job].status.attempt);
    let session = pod_says_hello(&mut world, 8, probe);
    let Action::Write { job, token, .. } = world.held.remove(0) else {
        panic!("a fill is a write");
    };
    let answer = Answer::NotSent;
    world.feed(Event::Answer { job, token, answer });
    world.pass(secs(3), &[session]);
    let held = world.held.iter().filter_map(|action| match action {
        Action::Write { job, .. } => Some(*job),
        _ => None,
    });
    assert!(held.eq([job]), "only the fill again: {:?}", world.held);
}

#[test]
fn an_attempt_that_is_lost_and_claimed_as_a_probe_by_one_write_is_the_only_probe() {
    let mut world = World::with_pool(with_probes(1, pool()));
    let session = world.hello(1, 7, 4);
    world.put(job(1));
    world.put(job(2));
    world.report(session, attempt(2, 1), Fact::Grpc(grpc::UNAVAILABLE));
    world.edit(2, |spec| spec.cancel = true);
    world.pass(secs(31), &[session]);
    assert_eq!(breaker(&world), State::HalfOpen);
    // Its process died.
    let session = world.hello_with(2, 7, 4, 701, &[]);
    assert!(matches!(
        world.writes.last(),
        Some((Uid(1), Cause::Reclaimed(_), _))
    ));
    world.put(job(3));
    world.pass(secs(1), &[session]);
    assert_eq!(world.phase(3), Phase::Queued);
}

/// The claims of three probes are under way, and more jobs wait.
fn three_probes() -> (World, SessionId) {
    let mut world = World::with_pool(with_probes(3, pool()));
    let session = world.hello(1, 1, 9);
    world.put(job(1));
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::UNAVAILABLE));
    (2..=9).for_each(|uid| world.put(job(uid)));
    world.hold_writes = true;
    world.pass(secs(31), &[session]);
    assert_eq!((breaker(&world), world.held.len()), (State::HalfOpen, 3));
    (world, session)
}

/// What was held back is done, and what follows from it.
fn go_on(world: &mut World) {
    world.hold_writes = false;
    for action in std::mem::take(&mut world.held) {
        let (job, token, answer) = world.perform(action).expect("an answer");
        world.feed(Event::Answer { job, token, answer });
    }
}

fn delete(world: &mut World, uid: Uid) {
    world.etcd.remove(&uid);
    world.feed(Event::JobDeleted(uid));
}

/// The watch shows a write before it is answered.
fn show_first(world: &mut World) -> (Uid, Token, Answer) {
    let action = world.held.remove(0);
    let (uid, token, answer) = world.perform(action).expect("an answer");
    let stored = world.etcd[&uid].clone();
    world.feed(Event::Job(Box::new(stored)));
    (uid, token, answer)
}

#[test]
fn two_good_probes_and_one_that_was_deleted_are_followed_by_another() {
    let (mut world, session) = three_probes();
    go_on(&mut world);
    let probes = world.holds[&session].clone();
    delete(&mut world, probes[0].job);
    for probe in &probes[1..] {
        world.report(session, *probe, Fact::Succeeded);
    }
    world.pass(secs(1), &[session]);
    assert_eq!(breaker(&world), State::HalfOpen);
    let leases = world.leases();
    assert_eq!(leases.len(), 5, "{leases:?}");
    world.report(session, leases[4], Fact::Succeeded);
    assert_eq!(breaker(&world), State::Closed);
}

/// Deletes a probe, at some point of its life.
type Deletion = fn(&mut World, SessionId);

#[test]
fn a_deleted_probe_is_given_back_once_whatever_is_known_of_its_end() {
    let table: [(&str, usize, Deletion); 6] = [
        ("it runs", 5, |world, session| {
            go_on(world);
            let probe = world.holds[&session][0];
            delete(world, probe.job);
        }),
        ("its end is being stored", 5, |world, session| {
            go_on(world);
            let probe = world.holds[&session][0];
            world.hold_writes = true;
            world.report(session, probe, Fact::Released);
            delete(world, probe.job);
        }),
        ("its end was seen, not answered", 5, |world, session| {
            go_on(world);
            let probe = world.holds[&session][0];
            world.hold_writes = true;
            world.report(session, probe, Fact::Released);
            let (job, token, answer) = show_first(world);
            delete(world, probe.job);
            world.feed(Event::Answer { job, token, answer });
        }),
        ("its claim is being stored", 4, |world, _| {
            let Action::Write { job, .. } = world.held[0] else {
                panic!("a claim is a write");
            };
            delete(world, job);
        }),
        ("its claim was seen, not answered", 4, |world, _| {
            let (job, token, answer) = show_first(world);
            delete(world, job);
            world.feed(Event::Answer { job, token, answer });
        }),
        ("its claim was seen, and it is found gone", 4, |world, _| {
            let (job, token, _) = show_first(world);
            world.etcd.remove(&job);
            let answer = Answer::Unknown;
            world.feed(Event::Answer { job, token, answer });
        }),
    ];
    for (name, want, happens) in table {
        let (mut world, session) = three_probes();
        happens(&mut world, session);
        go_on(&mut world);
        world.pass(secs(1), &[session]);
        assert_eq!(breaker(&world), State::HalfOpen, "{name}");
        assert_eq!(world.leases().len(), want, "{name}");
    }
}

/// Somebody asks for fewer while it is half-open, when as many were good already.
#[test]
fn a_breaker_whose_probes_are_lowered_closes_with_the_next_good_call() {
    let (mut world, session) = three_probes();
    go_on(&mut world);
    let probes = world.holds[&session].clone();
    world.report(session, probes[0], Fact::Succeeded);
    world.report(session, probes[1], Fact::Succeeded);
    delete(&mut world, probes[2].job);
    (4..=9).for_each(|uid| delete(&mut world, Uid(uid)));
    let fewer = Box::new(with_probes(1, pool()));
    world.feed(Event::Pool(POOL, fewer));
    assert_eq!(breaker(&world), State::HalfOpen);
    world.put(job(20));
    let next = attempt(20, 1);
    assert!(world.leases().contains(&next), "{:?}", world.leases());
    world.report(session, next, Fact::Succeeded);
    assert_eq!(breaker(&world), State::Closed);
}

fn made(world: &World) -> usize {
    let pods = world.pods.iter();
    pods.filter(|action| matches!(action, PodAction::Make { .. }))
        .count()
}

/// A pod that waits for its call longer than it might have taken to come: its pool is suspended.
fn waiting_for_its_pool() -> (World, SessionId) {
    let mut world = World::with_pool(pods());
    world.put(job(1));
    let suspended = PoolPolicy {
        suspended: true,
        ..pods()
    };
    world.feed(Event::Pool(POOL, Box::new(suspended)));
    let session = pod_says_hello(&mut world, 7, attempt(1, 1));
    world.pass(secs(700), &[session]);
    assert_eq!((world.status(1).worker, world.leases()), (None, vec![]));
    (world, session)
}

#[test]
fn a_pod_that_waits_begins_no_call_while_its_pool_is_suspended() {
    let (mut world, _) = waiting_for_its_pool();
    world.feed(Event::Pool(POOL, Box::new(pods())));
    assert_eq!(world.leases(), [attempt(1, 1)]);
    let causes: Vec<Cause> = world.writes.iter().map(|(_, cause, _)| *cause).collect();
    assert_eq!(causes, [Cause::Claimed, Cause::Placed]);
}

/// Its node died, perhaps: nobody says that the pod is gone.
#[test]
fn a_pod_that_goes_without_a_word_while_it_waits_for_its_call_is_not_waited_for() {
    let (mut world, session) = waiting_for_its_pool();
    world.feed(Event::Closed(session));
    world.pass(secs(9), &[]);
    let session = world.hello(8, 7, 1);
    world.pass(secs(20), &[session]);
    assert_eq!(world.phase(1), Phase::Running, "it was back in time");

    world.feed(Event::Closed(session));
    world.pass(secs(13), &[]);
    let causes = world.writes.iter().map(|(_, cause, _)| *cause);
    assert!(causes.eq([Cause::Claimed, Cause::Ended(Class::Released)]));
    let status = world.status(1);
    let charged = (status.failures, status.interruptions, status.ghosts.len());
    assert_eq!((status.phase, charged), (Phase::Backoff, (0, 0, 0)));
}

#[test]
fn pods_that_waited_for_a_service_that_is_away_are_its_first_probes() {
    let mut world = World::with_pool(PoolPolicy {
        max_in_flight: Some(4),
        ..with_probes(1, pods())
    });
    (1..=3).for_each(|uid| world.put(job(uid)));
    let first = pod_says_hello(&mut world, 7, attempt(1, 1));
    world.report(first, attempt(1, 1), Fact::Grpc(grpc::UNAVAILABLE));
    let second = pod_says_hello(&mut world, 8, attempt(2, 1));
    let third = pod_says_hello(&mut world, 9, attempt(3, 1));
    let beating = [first, second, third];
    world.pass(secs(29), &beating);
    assert_eq!((breaker(&world), world.leases().len()), (State::Open, 1));
    world.pass(secs(11), &beating);
    assert_eq!(breaker(&world), State::HalfOpen);
    assert_eq!((world.leases().len(), made(&world)), (2, 3));
    let (probe, session) = match world.leases()[1] {
        id if id == attempt(2, 1) => (id, second),
        id => (id, third),
    };
    world.report(session, probe, Fact::Succeeded);
    world.pass(secs(1), &beating);
    assert_eq!((breaker(&world), world.leases().len()), (State::Closed, 3));
}

#[test]
fn pods_that_waited_begin_in_steps_once_the_service_is_back() {
    let mut world = World::with_pool(PoolPolicy {
        max_in_flight: Some(8),
        ..with_probes(1, pods())
    });
    (1..=8).for_each(|uid| world.put(job(uid)));
    let first = pod_says_hello(&mut world, 1, attempt(1, 1));
    world.report(first, attempt(1, 1), Fact::Grpc(grpc::UNAVAILABLE));
    let others = (2..=8).map(|n| {
        (
            Uid(n.into()),
            pod_says_hello(&mut world, n, attempt(n.into(), 1)),
        )
    });
    let others: BTreeMap<Uid, SessionId> = others.collect();
    let beating: Vec<SessionId> = others.values().copied().collect();
    assert_eq!((breaker(&world), world.leases().len()), (State::Open, 1));
    world.pass(secs(40), &beating);
    let (mut at_once, mut ended) = (Vec::new(), 1);
    while ended < world.leases().len() {
        let running = world.leases().split_off(ended);
        at_once.push(running.len());
        ended += running.len();
        for call in running {
            world.report(others[&call.job], call, Fact::Succeeded);
        }
        world.pass(secs(1), &beating);
    }
    assert_eq!(
        (breaker(&world), at_once),
        (State::Closed, vec![1, 1, 2, 3])
    );
}
