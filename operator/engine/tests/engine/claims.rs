//! Who is claimed, for whom, when; and what a write without a clear answer means.

use kinora_engine::action::{Action, Cause};
use kinora_engine::event::Answer;
use kinora_engine::*;

use crate::fixtures::*;
use crate::shared::claimed_by_another_too;

#[test]
fn a_job_is_leased_only_after_its_claim_is_stored() {
    let mut world = World::new();
    world.hold_writes = true;
    world.hello(1, 1, 1);
    world.put(job(1));
    assert_eq!(world.held.len(), 1);
    assert!(world.leases().is_empty());
    world.hold_writes = false;
    let claim = world.held.remove(0);
    let (job, token, answer) = world.perform(claim).unwrap();
    world.feed(Event::Answer { job, token, answer });
    assert_eq!(world.leases(), [attempt(1, 1)]);
    assert_eq!(world.status(1).worker, Some(Uid(1)));
    assert_eq!(world.status(1).attempt, 1);
}

#[test]
fn without_a_worker_nothing_is_claimed_and_a_slot_wakes_the_next_job() {
    let mut world = World::new();
    world.put(job(1));
    world.put(job(2));
    assert!(world.writes.is_empty());
    let session = world.hello(1, 1, 1);
    assert_eq!(world.leases(), [attempt(1, 1)]);
    world.report(session, attempt(1, 1), outcome::Fact::Succeeded);
    assert_eq!(world.leases(), [attempt(1, 1), attempt(2, 1)]);
    assert_eq!(world.phase(1), Phase::Succeeded);
}

#[test]
fn priority_goes_before_age_and_age_before_the_rest() {
    let mut world = World::new();
    let with = |uid, priority, created| {
        let mut job = job(uid);
        job.spec.priority = priority;
        job.spec.created = Wall(START.0 + created);
        job
    };
    world.put(with(1, 0, 2000));
    world.put(with(2, 0, 1000));
    world.put(with(3, 5, 3000));
    world.hello(1, 1, 3);
    assert_eq!(
        world.leases(),
        [attempt(3, 1), attempt(2, 1), attempt(1, 1)]
    );
}

#[test]
fn the_idlest_worker_gets_the_lease() {
    let mut world = World::new();
    world.hello(1, 1, 2);
    world.hello(2, 2, 3);
    world.put(job(1));
    assert_eq!(world.status(1).worker, Some(Uid(2)));
}

#[test]
fn a_new_leader_has_no_tokens_and_never_more_than_the_rate() {
    let mut world = World::with_pool(PoolPolicy {
        rate_per_second: Some(2.0),
        burst: 2,
        ..pool()
    });
    let session = world.hello(1, 1, 50);
    for uid in 1..=20 {
        world.put(job(uid));
    }
    assert!(world.leases().is_empty());
    world.pass(secs(1), &[]);
    assert_eq!(world.leases().len(), 2);
    world.pass(secs(4), &[session]);
    assert_eq!(world.leases().len(), 10);
}

#[test]
fn max_in_flight_holds_over_all_workers() {
    let mut world = World::with_pool(PoolPolicy {
        max_in_flight: Some(2),
        ..pool()
    });
    world.hello(1, 1, 4);
    world.hello(2, 2, 4);
    for uid in 1..=5 {
        world.put(job(uid));
    }
    assert_eq!(world.leases().len(), 2);
}

#[test]
fn no_more_claims_are_under_way_than_a_leader_may_be_wrong_about() {
    let mut world = World::new();
    world.hold_writes = true;
    world.hello(1, 1, 100);
    for uid in 1..=50 {
        world.put(job(uid));
    }
    assert_eq!(world.held.len(), 32);
}

#[test]
fn a_claim_whose_answer_was_lost_counts_when_it_is_stored() {
    let mut world = World::new();
    world.hold_writes = true;
    world.hello(1, 1, 1);
    world.put(job(1));
    let claim = world.held.remove(0);
    let (job, token, _lost) = world.perform(claim).unwrap();
    world.hold_writes = false;
    world.feed(Event::Answer {
        job,
        token,
        answer: Answer::Unknown,
    });
    assert_eq!(world.asked, ["read"]);
    assert_eq!(world.leases(), [attempt(1, 1)]);
    let causes: Vec<_> = world.writes.iter().map(|w| w.1).collect();
    assert_eq!(causes, [Cause::Claimed, Cause::Observed], "ours for sure");
}

#[test]
fn a_claim_that_lost_the_race_is_decided_again_from_what_is_stored() {
    let mut world = World::new();
    world.hold_writes = true;
    world.hello(1, 1, 1);
    world.put(job(1));
    let claim = world.held.remove(0);
    let mut changed = world.etcd[&Uid(1)].clone();
    changed.spec.cancel = true;
    changed.generation = 2;
    world.put_unseen(changed);
    let (job, token, answer) = world.perform(claim).unwrap();
    assert_eq!(answer, Answer::Unknown);
    world.hold_writes = false;
    world.feed(Event::Answer { job, token, answer });
    assert!(world.leases().is_empty());
    assert_eq!(world.phase(1), Phase::Cancelled);
    assert_eq!(world.status(1).attempt, 0);
    // The slot is free again.
    world.put(crate::fixtures::job(2));
    assert_eq!(world.leases(), [attempt(2, 1)]);
}

#[test]
fn a_claim_past_the_renew_deadline_is_not_sent_and_costs_nothing() {
    let mut world = World::with_pool(PoolPolicy {
        rate_per_second: Some(0.01),
        ..pool()
    });
    world.pass(secs(100), &[]);
    world.hold_writes = true;
    world.hello(1, 1, 1);
    world.put(job(1));
    let Action::Write { job, token, .. } = world.held.remove(0) else {
        panic!("a claim");
    };
    world.feed(Event::Answer {
        job,
        token,
        answer: Answer::NotSent,
    });
    assert!(world.held.is_empty());
    world.hold_writes = false;
    world.pass(secs(1), &[]);
    assert_eq!(world.leases(), [attempt(1, 1)]);
}

#[test]
fn a_declared_job_is_seen_at_once_and_an_upload_is_not() {
    let mut world = World::new();
    let mut declared = job(1);
    declared.spec.declared = true;
    world.put(declared);
    world.put(job(2));
    let causes: Vec<_> = world.writes.iter().map(|w| (w.0, w.1)).collect();
    assert_eq!(causes, [(Uid(1), Cause::Observed)]);
    assert_eq!(world.status(1).observed, 1);
}

#[test]
fn a_job_without_a_pool_says_so_once_and_goes_on_when_there_is_one() {
    let mut world = World::new();
    let mut lost = job(1);
    lost.spec.pool = Some(Symbol(77));
    world.put(lost);
    world.pass(secs(5), &[]);
    assert_eq!(world.writes.len(), 1);
    assert_eq!(world.status(1).reason, Reason::PoolNotFound);
    let name = PoolName {
        namespace: NAMESPACE,
        name: Symbol(77),
    };
    world.feed(Event::Pool(name, Box::new(pool())));
    assert_eq!(world.status(1).reason, Reason::Queued);
    assert_eq!(world.writes.len(), 2);
}

#[test]
fn a_wait_goes_on_while_its_pool_is_away_and_is_one_again_when_that_is_back() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), outcome::Fact::Grpc(13));
    let waits = world.status(1).clone();
    assert_eq!(
        (waits.phase, waits.reason),
        (Phase::Backoff, Reason::Backoff)
    );
    world.feed(Event::PoolGone(POOL));
    let blocked = Status {
        reason: Reason::PoolNotFound,
        ..waits.clone()
    };
    assert_eq!(*world.status(1), blocked);
    world.feed(Event::Pool(POOL, Box::new(pool())));
    assert_eq!(*world.status(1), waits);
}

#[test]
fn a_successful_job_costs_two_status_writes_and_an_idle_engine_none() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), outcome::Fact::Succeeded);
    let causes: Vec<_> = world.writes.iter().map(|w| w.1).collect();
    assert_eq!(
        causes,
        [Cause::Claimed, Cause::Ended(outcome::Class::Succeeded)]
    );
    world.asked.clear();
    world.pass(secs(60), &[session]);
    assert_eq!(world.writes.len(), 2);
    assert!(world.asked.is_empty());
}

/// Held, blocked, dead and done: whoever waits for somebody else costs nothing meanwhile.
#[test]
fn an_idle_hour_over_parked_jobs_writes_and_asks_nothing() {
    let (mut world, session) = World::running();
    world.report(session, attempt(1, 1), outcome::Fact::Succeeded);
    let parked = |uid, change: fn(&mut Spec)| {
        let mut job = job(uid);
        job.spec.declared = true;
        job.spec.ttl = None;
        change(&mut job.spec);
        job
    };
    world.put(parked(2, |spec| spec.suspend = true));
    world.put(parked(3, |spec| spec.pool = Some(Symbol(99))));
    world.put(parked(4, |spec| spec.cancel = true));
    let phases = [2, 3, 4].map(|uid| world.phase(uid));
    assert_eq!(phases, [Phase::Suspended, Phase::Queued, Phase::Cancelled]);
    world.pass(secs(1), &[session]);
    world.edit(1, |spec| spec.ttl = None);
    let writes = world.writes.len();
    world.asked.clear();
    world.pass(secs(3600), &[session]);
    assert_eq!(world.writes.len(), writes, "{:?}", &world.writes[writes..]);
    assert!(world.asked.is_empty(), "{:?}", world.asked);
    assert!(world.deleted.is_empty());
}

#[test]
fn a_change_of_a_job_that_waits_for_a_pool_is_observed_and_not_told_as_a_new_block() {
    let mut world = World::new();
    let mut lost = job(1);
    lost.spec.pool = Some(Symbol(99));
    world.put(lost);
    world.edit(1, |spec| spec.priority = 5);
    let causes: Vec<_> = world.writes.iter().map(|w| w.1).collect();
    assert_eq!(causes, [Cause::Blocked, Cause::Observed]);
    assert_eq!(world.status(1).observed, 2);
    assert_eq!(world.status(1).reason, Reason::PoolNotFound);
}

#[test]
fn a_suspended_pool_claims_nothing() {
    let mut world = World::with_pool(PoolPolicy {
        suspended: true,
        ..pool()
    });
    world.hello(1, 1, 1);
    world.put(job(1));
    assert!(world.writes.is_empty());
    world.feed(Event::Pool(POOL, Box::new(pool())));
    assert_eq!(world.leases(), [attempt(1, 1)]);
}

#[test]
fn a_refused_write_waits_and_other_jobs_go_on() {
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
    world.put(job(2));
    world.hold_writes = false;
    world.feed(Event::Answer {
        job: uid,
        token,
        answer: Answer::Refused,
    });
    assert_eq!(world.leases(), [attempt(2, 1)]);
    assert_eq!(world.writes.len(), 1);
}

/// A policy of the cluster refuses whatever is written about one job.
/// covers: F27
#[test]
fn a_job_whose_writes_are_refused_for_ever_is_tried_less_and_less_and_others_run() {
    let mut world = World::new();
    let session = world.hello(1, 1, 1);
    world.hold_writes = true;
    world.put(job(1));
    let mut tries = Vec::new();
    let start = world.now.mono;
    while world.now.mono.since(start) < secs(3600) {
        for action in std::mem::take(&mut world.held) {
            let Action::Write { job, token, .. } = action else {
                panic!("{action:?}");
            };
            assert_eq!(job, Uid(1));
            tries.push(world.now.mono);
            let answer = Answer::Refused;
            world.feed(Event::Answer { job, token, answer });
        }
        world.pass(secs(3), &[session]);
    }
    let waits: Vec<_> = tries.windows(2).map(|w| w[1].since(w[0])).collect();
    assert!(waits.iter().all(|wait| *wait >= secs(10)), "{waits:?}");
    let longest = waits.iter().max().expect("more than one");
    assert!((secs(60)..=secs(303)).contains(longest), "{waits:?}");
    assert!((12..60).contains(&tries.len()), "{} tries", tries.len());

    world.hold_writes = false;
    world.put(job(2));
    assert_eq!(world.leases(), [attempt(2, 1)], "nobody waits behind it");
    assert_eq!(world.phase(1), Phase::Queued);
    assert_eq!(world.status(1).failures, 0);
}

#[test]
fn a_claim_that_another_leader_may_have_made_leaves_a_ghost_when_its_worker_is_gone() {
    let (mut world, session, uid, token) = claimed_by_another_too();
    world.feed(Event::Closed(session));
    world.hold_writes = false;
    let answer = Answer::Unknown;
    world.feed(Event::Answer {
        job: uid,
        token,
        answer,
    });
    assert!(world.leases().is_empty());
    assert_eq!(world.phase(1), Phase::Queued);
    assert_eq!(world.status(1).ghosts.len(), 1, "their lease may be out");
}

/// The store of the control plane may be back at any moment, and the worker waits for its acknowledgement.
#[test]
fn a_finish_that_failed_for_long_is_written_soon_after_the_trouble_is_over() {
    let (mut world, session) = World::running();
    world.hold_writes = true;
    world.report(session, attempt(1, 1), outcome::Fact::Succeeded);
    for _ in 0..12 {
        let Action::Write { job, token, .. } = world.held.remove(0) else {
            panic!("the finish");
        };
        let answer = Answer::Unknown;
        world.feed(Event::Answer { job, token, answer });
        world.pass(secs(10), &[session]);
        assert_eq!(world.held.len(), 1, "tried again by now");
    }
}
