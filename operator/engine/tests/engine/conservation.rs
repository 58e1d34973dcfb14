//! Nothing is counted twice, nothing is lost: every job that was ever acknowledged is in exactly one place.

use std::collections::BTreeSet;

use kinora_engine::engine::PoolView;
use kinora_engine::*;
use proptest::prelude::*;

use crate::fixtures::*;
use crate::properties::{Move, any_move, play};

/// One step: a move of the surroundings, a redrive, or long enough for ends to be archived and deleted.
#[derive(Clone, Debug)]
enum Step {
    Move(Move),
    Redrive(u128),
    Long,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => any_move().prop_map(Step::Move),
        2 => (1..5u128).prop_map(Step::Redrive),
        1 => Just(Step::Long),
    ]
}

fn take(world: &mut World, step: Step, by: u128) {
    match step {
        Step::Move(step) => play(world, step),
        Step::Redrive(uid) => world.feed(Event::Redrive {
            job: Uid(uid),
            by: Uid(by),
        }),
        Step::Long => {
            for _ in 0..12 {
                world.now = world.now.after(secs(100));
                world.feed(Event::Alive);
                world.feed(Event::Tick);
            }
        }
    }
}

/// Every uid that was acknowledged in this life of it, and those that somebody else deleted.
#[derive(Default)]
struct Ledger {
    acked: BTreeSet<Uid>,
    withdrawn: BTreeSet<Uid>,
    archived: usize,
}

impl Ledger {
    /// Before a step: whom it acknowledges or takes away. A uid that comes again is another job.
    fn note(&mut self, world: &World, step: &Step) {
        match step {
            Step::Move(Move::Create(uid)) if !world.etcd.contains_key(&Uid(*uid)) => {
                self.withdrawn.remove(&Uid(*uid));
                self.acked.insert(Uid(*uid));
            }
            Step::Move(Move::Delete(uid)) if world.etcd.contains_key(&Uid(*uid)) => {
                self.withdrawn.insert(Uid(*uid));
            }
            _ => {}
        }
    }

    /// After it: what the engine deleted itself had ended, and its record was read back.
    fn settle(&mut self, world: &World) {
        for uid in &world.deleted[self.archived..] {
            let last = world.writes.iter().rev().find(|(of, _, _)| of == uid);
            let (_, _, status) = last.expect("it ended by a write");
            assert!(status.phase.is_final(), "deleted as {:?}", status.phase);
            self.acked.remove(uid);
        }
        self.archived = world.deleted.len();
        self.acked.retain(|uid| !self.withdrawn.contains(uid));
    }

    fn check(&self, world: &World) -> Result<(), TestCaseError> {
        let count = |phases: &[Phase]| {
            let stored = world.etcd.values();
            stored
                .filter(|job| phases.contains(&job.status.phase))
                .count()
        };
        let (pending, leased) = (count(&[Phase::Queued]), count(&[Phase::Running]));
        let (backoff, held) = (count(&[Phase::Backoff]), count(&[Phase::Suspended]));
        let ended = count(&[Phase::Succeeded, Phase::DeadLettered, Phase::Cancelled]);
        // Those that were archived left `acked` when their records were read back.
        prop_assert_eq!(
            self.acked.len(),
            pending + leased + backoff + held + ended,
            "acknowledged = pending + leased + backoff + suspended + succeeded, dead or cancelled"
        );
        // And so the engine counts, whoever leads.
        let engine = &world.engine;
        let views = engine.pools(world.now.wall);
        let sum = |count: fn(&PoolView) -> u32| views.values().map(count).sum::<u32>() as usize;
        prop_assert_eq!(engine.jobs(), world.etcd.len());
        prop_assert_eq!(
            (sum(|view| view.queued), sum(|view| view.running)),
            (pending + backoff, leased)
        );
        prop_assert!(
            sum(|view| view.claimable) <= pending + backoff,
            "in one queue each"
        );
        prop_assert_eq!(
            engine.live_jobs() as usize,
            pending + leased + backoff + held
        );
        let uploads = world.etcd.values();
        let uploads = uploads.filter(|j| !j.spec.declared && !j.status.phase.is_final());
        prop_assert_eq!(engine.live_uploads() as usize, uploads.count());
        for uid in &self.acked {
            prop_assert_eq!(engine.job(*uid), world.etcd.get(uid).cloned());
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// covers: T8
    #[test]
    fn every_acknowledged_job_is_in_exactly_one_place_after_every_step(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut world = World::with_pool(PoolPolicy { dead_letter_ttl: secs(900), max_failures: 2, ..pool() });
        let mut ledger = Ledger::default();
        for (n, step) in steps.into_iter().enumerate() {
            ledger.note(&world, &step);
            take(&mut world, step, 1000 + n as u128);
            ledger.settle(&world);
            ledger.check(&world)?;
        }
    }
}
