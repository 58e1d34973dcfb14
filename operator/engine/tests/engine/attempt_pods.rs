//! Pools with a pod for each attempt: made once, met at its Hello, removed when its attempt is over.

use std::time::Duration;

use kinora_engine::action::{Cause, PodAction, ToWorker};
use kinora_engine::event::{Answer, Lead};
use kinora_engine::ids::SessionId;
use kinora_engine::outcome::{Class, Fact, grpc};
use kinora_engine::*;

use crate::fixtures::*;

pub(crate) fn pods() -> PoolPolicy {
    PoolPolicy {
        pod_start: Some(secs(600)),
        max_in_flight: Some(2),
        ..pool()
    }
}

/// What was asked of pods, in words.
fn asked(world: &World) -> Vec<String> {
    let word = |action: &PodAction| match action {
        PodAction::Make { attempt, .. } => format!("make {}/{}", attempt.job.0, attempt.attempt),
        PodAction::Find { attempt, .. } => format!("find {}/{}", attempt.job.0, attempt.attempt),
        PodAction::Remove { worker } => format!("remove {}", worker.0),
    };
    world.pods.iter().map(word).collect()
}

/// The pod of an attempt is seen, and says Hello on a stream of the same number.
pub(crate) fn pod_says_hello(world: &mut World, worker: u64, attempt: AttemptId) -> SessionId {
    world.feed(Event::AttemptPod {
        worker: Uid(worker.into()),
        attempt,
    });
    world.hello(worker, worker.into(), 1)
}

#[test]
fn a_claim_is_stored_before_its_pod_is_made_and_the_pod_becomes_the_holder_at_its_hello() {
    let mut world = World::with_pool(pods());
    world.hold_writes = true;
    world.put(job(1));
    assert_eq!(world.held.len(), 1);
    assert!(
        world.pods.is_empty(),
        "nothing is made before the claim is stored"
    );
    world.hold_writes = false;
    let claim = world.held.remove(0);
    let (job, token, answer) = world.perform(claim).unwrap();
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(asked(&world), ["make 1/1"]);
    assert_eq!(
        (world.phase(1), world.status(1).worker),
        (Phase::Running, None)
    );
    assert_eq!(world.leases(), []);

    world.pass(secs(30), &[]);
    let claimed = world.status(1).started;
    let session = pod_says_hello(&mut world, 7, attempt(1, 1));
    assert_eq!(world.status(1).worker, Some(Uid(7)));
    assert_eq!(world.status(1).attempt, 1);
    assert!(
        world.status(1).started > claimed,
        "its time runs from the Hello on"
    );
    assert_eq!(world.leases(), [attempt(1, 1)]);
    let causes: Vec<Cause> = world.writes.iter().map(|(_, cause, _)| *cause).collect();
    assert_eq!(causes, [Cause::Claimed, Cause::Placed]);

    world.report(session, attempt(1, 1), Fact::Succeeded);
    assert_eq!(world.phase(1), Phase::Succeeded);
    assert_eq!(world.acks(), [(attempt(1, 1), true)]);
    world.pass(secs(1), &[session]);
    assert_eq!(asked(&world), ["make 1/1", "remove 7"]);
}

#[test]
fn a_pod_that_does_not_report_in_time_costs_the_job_nothing_but_a_wait() {
    let mut world = World::with_pool(pods());
    world.put(job(1));
    world.pass(secs(599), &[]);
    assert_eq!(world.phase(1), Phase::Running);
    assert_eq!(world.status(1).attempt, 1);
    world.pass(secs(2), &[]);
    let ended = Cause::Ended(Class::Released);
    let end = world.writes.iter().find(|(_, cause, _)| *cause == ended);
    let status = end.expect("it is given up").2.clone();
    assert_eq!(
        (status.phase, status.reason),
        (Phase::Backoff, Reason::Backoff)
    );
    assert!(status.next_attempt.is_some());
    let charged = (status.failures, status.interruptions, status.ghosts.len());
    assert_eq!((charged, status.uncharged), ((0, 0, 0), 1));
    // The next attempt has a pod of its own; that of the first, should it come up after all, goes.
    world.pass(secs(30), &[]);
    assert_eq!(asked(&world), ["make 1/1", "make 1/2"]);
    let late = pod_says_hello(&mut world, 7, attempt(1, 1));
    world.pass(secs(1), &[late]);
    assert_eq!(world.leases(), []);
    assert_eq!(world.status(1).worker, None);
    assert_eq!(asked(&world), ["make 1/1", "make 1/2", "remove 7"]);
}

#[test]
fn a_fault_of_our_own_does_not_make_us_forget_to_look_for_a_pod() {
    let mut world = World::with_pool(pods());
    world.store.pod = Answer::Away;
    world.put(job(1));
    assert_eq!(asked(&world), ["make 1/1"]);
    world.now = world.now.after(secs(2));
    world.feed(Event::Tick);
    world.pass(secs(4), &[]);
    assert_eq!(asked(&world), ["make 1/1", "find 1/1"]);
}

/// covers: F38
#[test]
fn a_new_leader_looks_for_the_pod_and_never_makes_it_again() {
    let table = [
        ("it is there", Answer::Yes, Phase::Running, 1),
        ("it is missing", Answer::No, Phase::Backoff, 1),
        ("nobody knows", Answer::Away, Phase::Running, 1),
    ];
    for (name, answer, phase, attempts) in table {
        let mut world = World::with_pool(pods());
        world.feed(Event::Lead(Lead::Standby));
        let mut waiting = job(1);
        waiting.status = waiting.claimed(None, POOL.name, START);
        world.put(waiting);
        world.store.pod = answer;
        world.feed(Event::Lead(Lead::Leader));
        assert_eq!(asked(&world), ["find 1/1"], "{name}");
        assert_eq!(world.phase(1), phase, "{name}");
        assert_eq!(world.status(1).attempt, attempts, "{name}");
        world.pass(secs(6), &[]);
        assert!(!asked(&world).contains(&"make 1/1".to_owned()), "{name}");
    }
}

#[test]
fn a_claim_whose_answer_was_lost_may_have_been_another_leader_s_too_so_its_pod_is_only_looked_for()
{
    let mut world = World::with_pool(pods());
    world.hold_writes = true;
    world.put(job(1));
    world.hold_writes = false;
    let claim = world.held.remove(0);
    let (job, token, _) = world.perform(claim).unwrap();
    let answer = Answer::Unknown;
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(asked(&world), ["find 1/1"]);
}

#[test]
fn a_create_without_a_clear_answer_is_not_repeated() {
    let mut world = World::with_pool(pods());
    world.store.pod = Answer::Unknown;
    world.put(job(1));
    assert_eq!(asked(&world), ["make 1/1"]);
    world.store.pod = Answer::Yes;
    world.pass(secs(6), &[]);
    assert_eq!(asked(&world), ["make 1/1", "find 1/1"]);
    assert_eq!(world.phase(1), Phase::Running);
}

#[test]
fn a_pod_that_cannot_be_made_is_not_charged() {
    let mut world = World::with_pool(pods());
    world.store.pod = Answer::No;
    world.put(job(1));
    let status = world.status(1);
    assert_eq!((status.phase, status.failures), (Phase::Backoff, 0));
}

#[test]
fn a_pod_that_goes_before_its_hello_frees_the_attempt_at_once() {
    let mut world = World::with_pool(pods());
    world.put(job(1));
    world.feed(Event::AttemptPod {
        worker: Uid(7),
        attempt: attempt(1, 1),
    });
    world.feed(Event::PodGone {
        worker: Uid(7),
        by_itself: true,
    });
    let status = world.status(1);
    assert_eq!(
        (status.phase, status.failures, status.interruptions),
        (Phase::Backoff, 0, 0)
    );
}

/// covers: F38, F42
#[test]
fn a_pod_that_dies_with_its_lease_is_an_interruption_and_the_next_attempt_has_another_pod() {
    let mut world = World::with_pool(pods());
    world.put(job(1));
    pod_says_hello(&mut world, 7, attempt(1, 1));
    assert_eq!(world.leases(), [attempt(1, 1)]);
    world.feed(Event::PodGone {
        worker: Uid(7),
        by_itself: true,
    });
    let status = world.status(1);
    assert_eq!((status.attempt, status.interruptions), (2, 1));
    assert_eq!((status.phase, status.worker), (Phase::Running, None));
    assert_eq!(asked(&world), ["make 1/1", "make 1/2"]);
}

#[test]
fn a_pod_gets_the_lease_of_its_own_attempt_and_no_other() {
    let mut world = World::with_pool(pods());
    world.put(job(1));
    world.put(job(2));
    // The pod of a job that nobody knows, and one with many slots.
    pod_says_hello(&mut world, 7, attempt(99, 1));
    world.feed(Event::AttemptPod {
        worker: Uid(8),
        attempt: attempt(1, 1),
    });
    world.hello(8, 8, 10);
    assert_eq!(world.leases(), [attempt(1, 1)]);
    world.pass(secs(31), &[SessionId(8)]);
    assert!(asked(&world).contains(&"remove 7".to_owned()));
}

#[test]
fn no_more_pods_wait_or_work_than_the_pool_may_have_calls() {
    let mut world = World::with_pool(pods());
    for uid in 1..=4 {
        world.put(job(uid));
    }
    assert_eq!(asked(&world), ["make 1/1", "make 2/1"]);
    pod_says_hello(&mut world, 7, attempt(1, 1));
    world.report(SessionId(7), attempt(1, 1), Fact::Succeeded);
    assert_eq!(asked(&world), ["make 1/1", "make 2/1", "make 3/1"]);
}

#[test]
fn calls_start_within_the_service_s_rate_however_their_pods_come_up() {
    let mut world = World::with_pool(PoolPolicy {
        rate_per_second: Some(0.1),
        burst: 1,
        max_in_flight: Some(10),
        ..pods()
    });
    for uid in 1..=3 {
        world.put(job(uid));
    }
    assert_eq!(world.pods.len(), 3, "pods may start before they may call");
    world.pass(secs(20), &[]);
    let sessions: Vec<SessionId> = (1..=3_u64)
        .map(|n| pod_says_hello(&mut world, 10 + n, attempt(n.into(), 1)))
        .collect();
    assert_eq!(world.leases().len(), 1);
    world.pass(secs(5), &sessions);
    assert_eq!(world.leases().len(), 1);
    world.pass(secs(6), &sessions);
    assert_eq!(world.leases().len(), 2);

    // The last one waits in vain.
    world.feed(Event::PoolGone(POOL));
    world.pass(secs(1), &sessions);
    assert_ne!(world.phase(3), Phase::Running);
    assert_eq!(world.status(3).failures, 0);
    assert!(
        asked(&world).contains(&"remove 13".to_owned()),
        "{:?}",
        asked(&world)
    );
}

#[test]
fn a_cancelled_job_s_pod_goes_and_leaves_no_ghost() {
    let mut world = World::with_pool(pods());
    world.put(job(1));
    world.feed(Event::AttemptPod {
        worker: Uid(7),
        attempt: attempt(1, 1),
    });
    world.edit(1, |spec| spec.cancel = true);
    assert_eq!(world.phase(1), Phase::Cancelled);
    assert!(world.status(1).ghosts.is_empty());
    world.pass(Duration::from_millis(200), &[]);
    assert_eq!(asked(&world), ["make 1/1", "remove 7"]);
}

/// It died, and its object stays. covers: F38
#[test]
fn a_pod_that_ended_by_itself_is_removed_by_whoever_leads_until_its_object_is_gone() {
    let mut world = World::with_pool(pods());
    world.put(job(1));
    pod_says_hello(&mut world, 7, attempt(1, 1));
    let died = Event::PodGone {
        worker: Uid(7),
        by_itself: true,
    };
    world.feed(died.clone());
    world.pass(secs(1), &[]);
    assert_eq!(asked(&world), ["make 1/1", "make 1/2", "remove 7"]);
    world.pass(secs(5), &[]);
    assert_eq!(asked(&world)[3..], ["remove 7"], "it is still there");
    world.feed(Event::AttemptPodDeleted(Uid(7)));
    world.pass(secs(20), &[]);
    assert_eq!(world.pods.len(), 4);

    // A replica whose first listing shows it dead.
    let mut next = World::with_pool(pods());
    next.feed(Event::Lead(Lead::Standby));
    next.put(world.etcd[&Uid(1)].clone());
    next.feed(Event::AttemptPod {
        worker: Uid(7),
        attempt: attempt(1, 1),
    });
    next.feed(died);
    next.pass(secs(1), &[]);
    assert!(next.pods.is_empty(), "it does not lead");
    next.feed(Event::Lead(Lead::Leader));
    next.pass(secs(1), &[]);
    assert_eq!(asked(&next), ["find 1/2", "remove 7"]);
}

#[test]
fn a_removal_without_effect_is_asked_for_again_but_not_with_every_tick() {
    let mut world = World::with_pool(pods());
    world.feed(Event::AttemptPod {
        worker: Uid(7),
        attempt: attempt(99, 1),
    });
    world.pass(secs(34), &[]);
    assert_eq!(asked(&world), ["remove 7"]);
    world.pass(secs(4), &[]);
    assert_eq!(asked(&world), ["remove 7", "remove 7"]);
}

#[test]
fn a_pod_that_ends_its_call_with_a_failure_backs_the_job_off_and_goes() {
    let mut world = World::with_pool(pods());
    world.put(job(1));
    let session = pod_says_hello(&mut world, 7, attempt(1, 1));
    world.report(session, attempt(1, 1), Fact::Grpc(grpc::INTERNAL));
    assert_eq!(
        (world.phase(1), world.status(1).failures),
        (Phase::Backoff, 1)
    );
    let sent = world
        .sent
        .iter()
        .any(|(_, _, m)| matches!(m, ToWorker::Ack(..)));
    assert!(sent);
    world.pass(secs(1), &[session]);
    assert!(asked(&world).contains(&"remove 7".to_owned()));
}

#[test]
fn a_replica_that_does_not_know_the_holder_yet_reads_before_it_stops_a_pod() {
    let mut world = World::with_pool(pods());
    world.put(job(1));
    // Another leader met the pod; the watch is late.
    let mut met = world.etcd[&Uid(1)].clone();
    met.status = met.placed(Uid(7), world.now.wall);
    world.put_unseen(met);
    world.hello_with(7, 7, 1, 700, &[attempt(1, 1)]);
    assert_eq!(world.cancels(), []);
    assert_eq!(world.asked, ["read"]);
    let known = world.engine.job(Uid(1)).expect("it is there");
    assert_eq!(known.status.worker, Some(Uid(7)));
}

/// Jobs and pods are watched apart: a new leader may know the pod of a claim that its watch of jobs has not shown yet.
#[test]
fn the_pod_of_a_job_that_is_not_known_yet_is_left_at_work() {
    let mut world = World::with_pool(pods());
    world.feed(Event::AttemptPod {
        worker: Uid(7),
        attempt: attempt(1, 1),
    });
    let session = world.hello_with(7, 7, 1, 1, &[attempt(1, 1)]);
    world.pass(secs(20), &[session]);
    assert_eq!(asked(&world), [""; 0]);
    let mut running = job(1);
    running.status = running.claimed(Uid(7), POOL.name, START);
    world.put(running);
    world.pass(secs(60), &[session]);
    assert_eq!(asked(&world), [""; 0]);

    world.etcd.remove(&Uid(1));
    world.feed(Event::JobDeleted(Uid(1)));
    world.pass(secs(1), &[session]);
    assert_eq!(asked(&world), ["remove 7"], "its end was seen");
    world.feed(Event::AttemptPodDeleted(Uid(7)));

    world.feed(Event::AttemptPod {
        worker: Uid(8),
        attempt: attempt(2, 1),
    });
    world.pass(secs(20), &[session]);
    assert_eq!(asked(&world), ["remove 7"]);
    world.pass(secs(11), &[session]);
    assert!(
        asked(&world).contains(&"remove 8".to_owned()),
        "{:?}",
        asked(&world)
    );
}
