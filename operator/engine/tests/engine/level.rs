//! The watch is only a hint: whatever of it is lost, told twice or told out of order, after one listing every job ends the same.

use kinora_engine::ids::SessionId;
use kinora_engine::outcome::{Fact, grpc};
use kinora_engine::*;
use proptest::prelude::*;

use crate::fixtures::*;

const JOBS: u128 = 6;

/// What an author does.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Create(u128),
    Suspend(u128, bool),
    Cancel(u128),
    Delete(u128),
}

/// What becomes of one event of the watch.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Told,
    Lost,
    Twice,
    /// After the next one.
    Late,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let uid = 1..=JOBS;
    let deed = prop_oneof![
        4 => uid.clone().prop_map(Deed::Create),
        2 => (uid.clone(), any::<bool>()).prop_map(|(uid, on)| Deed::Suspend(uid, on)),
        1 => uid.clone().prop_map(Deed::Cancel),
        1 => uid.prop_map(Deed::Delete),
    ];
    prop::collection::vec(deed, 1..30)
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        Just(Fate::Told),
        Just(Fate::Lost),
        Just(Fate::Twice),
        Just(Fate::Late)
    ];
    prop::collection::vec(fate, 40)
}

/// What the service says about a job, always the same.
fn verdict(uid: Uid) -> Fact {
    match uid.0 % 3 {
        0 => Fact::Grpc(grpc::INTERNAL),
        _ => Fact::Succeeded,
    }
}

/// Does to etcd what the author does; what the watch has to tell of it.
fn done(world: &mut World, deed: Deed) -> Option<Event> {
    let change = |world: &mut World, uid: u128, change: &dyn Fn(&mut Spec)| {
        let mut job = world.etcd.get(&Uid(uid))?.clone();
        change(&mut job.spec);
        job.generation += 1;
        Some(Event::Job(Box::new(world.put_unseen(job))))
    };
    match deed {
        // A uid is never used twice: what was deleted does not come back.
        Deed::Create(uid) if world.etcd.contains_key(&Uid(uid)) => None,
        Deed::Create(uid) => {
            let mut job = job(uid);
            // It outlives the test.
            job.spec.ttl = None;
            job.spec.own_source = false;
            Some(Event::Job(Box::new(world.put_unseen(job))))
        }
        Deed::Suspend(uid, on) => change(world, uid, &|spec| spec.suspend = on),
        Deed::Cancel(uid) => change(world, uid, &|spec| spec.cancel = true),
        Deed::Delete(uid) => {
            let deleted = world.etcd.remove(&Uid(uid));
            deleted.map(|job| Event::JobDeleted(job.uid))
        }
    }
}

/// How every job ends when the events of the watch meet these fates, and the jobs are listed once afterwards.
fn ends(deeds: &[Deed], fates: &[Fate]) -> Vec<(u128, Phase, Reason)> {
    let mut world = World::new();
    let session = world.hello(1, 1, 2);
    let mut late = None;
    let mut gone = std::collections::BTreeSet::new();
    for (n, deed) in deeds.iter().enumerate() {
        if matches!(deed, Deed::Create(uid) if gone.contains(uid)) {
            continue;
        }
        let Some(event) = done(&mut world, *deed) else {
            continue;
        };
        if let Event::JobDeleted(uid) = event {
            gone.insert(uid.0);
        }
        let (now, kept) = match fates[n % fates.len()] {
            Fate::Told => (vec![event], None),
            Fate::Lost => (vec![], None),
            Fate::Twice => (vec![event.clone(), event], None),
            Fate::Late => (vec![], Some(event)),
        };
        now.into_iter()
            .chain(late.take())
            .for_each(|event| world.feed(event));
        late = kept;
    }
    // Nothing stays held, and nobody hears of that.
    for uid in 1..=JOBS {
        done(&mut world, Deed::Suspend(uid, false));
    }
    // A listing: what is there, and that nothing else is.
    for uid in (1..=JOBS).map(Uid) {
        let event = match world.etcd.get(&uid).cloned() {
            Some(job) => Event::Job(Box::new(job)),
            None => Event::JobDeleted(uid),
        };
        world.feed(event);
    }
    world.feed(Event::JobsSynced);
    settle(&mut world, session);
    world
        .etcd
        .values()
        .map(|job| (job.uid.0, job.status.phase, job.status.reason))
        .collect()
}

/// The worker reports what the service says until nothing is left to do.
fn settle(world: &mut World, session: SessionId) {
    let is_open = |job: &Job| !job.status.phase.is_final();
    for _ in 0..2_000 {
        for held in world.holds[&session].clone() {
            world.report(session, held, verdict(held.job));
        }
        if !world.etcd.values().any(is_open) {
            return;
        }
        world.pass(secs(3), &[session]);
    }
    panic!("stuck: {:?}", world.etcd);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// covers: F21, T16
    #[test]
    fn a_watch_that_lies_changes_no_end(deeds in deeds(), fates in fates()) {
        prop_assert_eq!(ends(&deeds, &[Fate::Told]), ends(&deeds, &fates));
    }
}
