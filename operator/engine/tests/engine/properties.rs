//! What holds for every input. covers: T5, T6, T7, T12, T14, T18

use std::time::Duration;

use kinora_engine::engine::Candidate;
use kinora_engine::event::{Answer, Lead};
use kinora_engine::ids::SessionId;
use kinora_engine::job::machine::is_legal;
use kinora_engine::outcome::{Class, Fact, classify};
use kinora_engine::*;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixtures::*;

fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        Just(Fact::Succeeded),
        Just(Fact::Released),
        Just(Fact::Nothing),
        (-3..20i32).prop_map(Fact::Grpc),
        (0..700u32).prop_map(Fact::Http),
    ]
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![Just(Answer::Yes), Just(Answer::No), Just(Answer::Away)]
}

/// One move of the surroundings. Numbers are small, so that they meet.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    Create(u128),
    Suspend(u128, bool),
    Cancel(u128),
    Delete(u128),
    Hello(u64, u128, u128),
    Beat(u64),
    ForgetfulBeat(u64),
    Report(u64, u128, u32, Fact, Option<u64>),
    Close(u64),
    PodGone(u128, bool),
    Pass(u64),
    Lead(Lead),
    Store(Answer, Answer, Answer),
    Default(bool),
}

pub(crate) fn any_move() -> impl Strategy<Value = Move> {
    let uid = 1..5u128;
    let session = 1..4u64;
    prop_oneof![
        3 => uid.clone().prop_map(Move::Create),
        1 => (uid.clone(), any::<bool>()).prop_map(|(u, s)| Move::Suspend(u, s)),
        1 => uid.clone().prop_map(Move::Cancel),
        1 => uid.clone().prop_map(Move::Delete),
        3 => (session.clone(), 1..4u128, 0..3u128).prop_map(|(s, w, i)| Move::Hello(s, w, i)),
        3 => session.clone().prop_map(Move::Beat),
        1 => session.clone().prop_map(Move::ForgetfulBeat),
        6 => (session.clone(), uid, 1..4u32, any_fact(), proptest::option::of(0..5_000_000u64))
            .prop_map(|(s, u, a, f, r)| Move::Report(s, u, a, f, r)),
        1 => session.prop_map(Move::Close),
        1 => (1..4u128, any::<bool>()).prop_map(|(w, b)| Move::PodGone(w, b)),
        4 => (1..400u64).prop_map(Move::Pass),
        1 => prop_oneof![Just(Lead::Leader), Just(Lead::Doubtful), Just(Lead::Standby)]
            .prop_map(Move::Lead),
        1 => (any_answer(), any_answer(), any_answer())
            .prop_map(|(o, s, r)| Move::Store(o, s, r)),
        1 => any::<bool>().prop_map(Move::Default),
    ]
}

pub(crate) fn play(world: &mut World, step: Move) {
    match step {
        Move::Create(uid) => {
            if !world.etcd.contains_key(&Uid(uid)) {
                world.put(job(uid));
            }
        }
        Move::Suspend(uid, suspend) => {
            if world.etcd.contains_key(&Uid(uid)) {
                world.edit(uid, |spec| spec.suspend = suspend);
            }
        }
        Move::Cancel(uid) => {
            if world.etcd.contains_key(&Uid(uid)) {
                world.edit(uid, |spec| spec.cancel = true);
            }
        }
        Move::Delete(uid) => {
            world.etcd.remove(&Uid(uid));
            world.feed(Event::JobDeleted(Uid(uid)));
        }
        Move::Hello(session, worker, instance) => {
            let held = world.holds.get(&SessionId(session)).cloned();
            let pool = if worker == 3 { OTHER } else { POOL };
            world.hello_in(
                pool,
                session,
                worker,
                2,
                instance,
                &held.unwrap_or_default(),
            );
        }
        Move::Beat(session) => {
            let holds = world.holds.get(&SessionId(session)).cloned();
            world.beat(SessionId(session), u64::MAX, &holds.unwrap_or_default());
        }
        Move::ForgetfulBeat(session) => world.beat(SessionId(session), u64::MAX, &[]),
        Move::Report(session, uid, n, fact, retry) => world.report_with(
            SessionId(session),
            attempt(uid, n),
            fact,
            retry.map(Duration::from_millis),
        ),
        Move::Close(session) => world.feed(Event::Closed(SessionId(session))),
        Move::PodGone(worker, by_itself) => world.feed(Event::PodGone {
            worker: Uid(worker),
            by_itself,
        }),
        Move::Pass(tenths) => world.pass(Duration::from_millis(tenths * 100), &[]),
        Move::Lead(lead) => world.feed(Event::Lead(lead)),
        Move::Default(other) => {
            for (name, is_default) in [(POOL, !other), (OTHER, other)] {
                let policy = PoolPolicy {
                    is_default,
                    ..pool()
                };
                world.feed(Event::Pool(name, Box::new(policy)));
            }
        }
        Move::Store(outputs, source, record) => {
            world.store = StoreSays {
                outputs,
                source,
                record,
                ..world.store.clone()
            };
        }
    }
}

/// A condition's time is that of its last change, whatever else is written: `Succeeded` changes with the end, `Suspended` with
/// the hold.
fn check_since(before: &Status, after: &Status) -> Result<(), TestCaseError> {
    let ended = after.phase.is_final();
    let held = |status: &Status| status.phase == Phase::Suspended;
    let known = before.is_written();
    if known && before.phase.is_final() == ended {
        prop_assert_eq!(before.since, after.since);
        prop_assert_eq!(before.finished, after.finished);
    } else {
        prop_assert!(after.is_written() && before.since <= after.since);
        prop_assert_eq!(after.finished, after.since.filter(|_| ended));
    }
    prop_assert_eq!(after.mode_since.is_none(), ended);
    prop_assert!(!ended || after.next_attempt.is_none());
    if known && !ended && held(before) == held(after) {
        prop_assert_eq!(before.mode_since, after.mode_since);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Every write is legal, ends absorb, attempts rise by one, budgets hold, whatever happens in whatever order.
    #[test]
    fn every_history_of_every_job_is_legal(moves in prop::collection::vec(any_move(), 1..60)) {
        let mut world = World::new();
        let mut known: std::collections::BTreeMap<Uid, Status> = std::collections::BTreeMap::new();
        let mut seen = 0;
        for step in moves {
            if let Move::Create(uid) | Move::Delete(uid) = step && !world.etcd.contains_key(&Uid(uid)) {
                known.remove(&Uid(uid));
            }
            play(&mut world, step);
            for (uid, _, after) in &world.writes[seen..] {
                let before = known.get(uid).cloned().unwrap_or_default();
                prop_assert!(is_legal(&before, after), "{before:?} then {after:?}");
                prop_assert!(after.failures <= 5 && after.interruptions <= 20);
                if before.phase.is_final() {
                    prop_assert_eq!(before.phase, after.phase);
                }
                prop_assert!(*after != before, "a write that changes nothing");
                check_since(&before, after)?;
                known.insert(*uid, after.clone());
            }
            seen = world.writes.len();
            known.retain(|uid, _| world.etcd.contains_key(uid));
        }
    }

    /// Pure: the same inputs give the same actions.
    #[test]
    fn the_same_history_gives_the_same_actions(moves in prop::collection::vec(any_move(), 1..40)) {
        let (mut one, mut two) = (World::new(), World::new());
        for step in moves {
            play(&mut one, step.clone());
            play(&mut two, step);
            prop_assert_eq!(&one.sent, &two.sent);
            prop_assert_eq!(&one.writes, &two.writes);
        }
        prop_assert!(one.engine == two.engine);
    }

    #[test]
    fn every_fact_has_a_class_and_only_success_succeeds(fact in any_fact(), retry in proptest::option::of(0..u64::MAX)) {
        let class = classify(fact, retry.map(Duration::from_millis));
        prop_assert_eq!(class == Class::Succeeded, fact == Fact::Succeeded);
        prop_assert_eq!(class == Class::Released, fact == Fact::Released);
    }

    #[test]
    fn a_backoff_is_within_its_window_and_at_least_what_was_asked(
        nth in any::<u32>(),
        base in 0..u64::MAX,
        cap in 0..10_000_000u64,
        asked in proptest::option::of(any::<u64>()),
        seed in any::<u64>(),
    ) {
        let (base, cap) = (Duration::from_millis(base), Duration::from_millis(cap));
        let asked = asked.map(Duration::from_millis);
        let delay = backoff::delay(nth, base, cap, asked, &mut StdRng::seed_from_u64(seed));
        let least = asked.unwrap_or_default().min(backoff::RETRY_AFTER_CAP);
        prop_assert!(delay >= least);
        prop_assert!(delay <= cap.max(least));
    }
}

#[test]
fn backoffs_average_half_of_their_window() {
    let mut rng = StdRng::seed_from_u64(1);
    let total: Duration = (0..4000)
        .map(|_| backoff::delay(3, secs(10), secs(600), None, &mut rng))
        .sum();
    let mean = total / 4000;
    assert!(mean > secs(19) && mean < secs(21), "{mean:?} of 40 s");
}

/// What the model checker may choose from.
#[test]
fn a_chooser_is_offered_every_claim_that_slots_allow_and_no_other() {
    let mut world = World::new();
    for uid in 1..=3 {
        world.put(job(uid));
    }
    world.edit(2, |spec| spec.suspend = true);
    let hello = Event::Hello {
        session: SessionId(1),
        worker: Uid(7),
        pool: POOL,
        slots: 1,
        instance: Uid(700),
        held: Vec::new(),
        unacked: Vec::new(),
    };
    let claim = |job| Candidate {
        job: Uid(job),
        worker: Some(Uid(7)),
        pool: POOL,
    };
    let mut offered = Vec::new();
    let mut last = |all: &[Candidate]| {
        offered.push(all.to_vec());
        all.last().copied().filter(|_| offered.len() < 5)
    };
    let mut rng = StdRng::seed_from_u64(1);
    let actions = world
        .engine
        .step_choosing(hello, world.now, &mut rng, &mut last);
    assert_eq!(offered, [vec![claim(1), claim(3)], vec![]]);
    let [Action::Write { job, ref after, .. }] = actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        (job, after.attempt, after.worker),
        (Uid(3), 1, Some(Uid(7)))
    );
}
