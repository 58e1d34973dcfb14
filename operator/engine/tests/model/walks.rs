//! Walks: far further than any search by breadth comes, with many faults on the way. One that fails is told as short as it gets.

use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use stateright::Model as _;

use crate::actions::Act;
use crate::mutants::Mutant;
use crate::searches::{base, budget, number, pods};
use crate::starts::Start;
use crate::state::{Interner, State};
use crate::world::Model;

/// Steps of a walk.
const LENGTH: usize = 80;
/// After so many it is tried now and then whether all would end well from there.
const TRIED_EVERY: usize = 16;

/// What was done from where on.
#[derive(Clone, Debug)]
struct Walk {
    start: Start,
    acts: Vec<Act>,
}

impl Walk {
    fn without(&self, n: usize) -> Walk {
        let mut shorter = self.clone();
        shorter.acts.remove(n);
        shorter
    }
}

/// Where a walk ended, and whether only after the faults were over.
struct End {
    state: State,
    settled: bool,
}

#[test]
fn long_walks_keep_every_invariant() {
    let first = number("KINORA_MODEL_SEED").unwrap_or(0);
    let count = number("KINORA_MODEL_WALKS").unwrap_or(2000);
    let far = || Model {
        budget: budget(8, 3, 4, 8, 1),
        ..base()
    };
    let two = Model {
        jobs: 2,
        archive: true,
        ..far()
    };
    let pods = Model {
        budget: far().budget,
        ..pods()
    };
    for (name, model) in [("one job", far()), ("two jobs", two), ("pods", pods)] {
        let begin = Instant::now();
        let seeds = first..first + count;
        let steps: usize = seeds
            .map(|seed| match walk(&model, seed as u64) {
                Ok(steps) => steps,
                Err(failed) => panic!("seed {seed}: {}", model.tell(&model.shrunk(failed))),
            })
            .sum();
        let time = begin.elapsed().as_secs_f64();
        println!("{name}: {count} walks, {steps} steps, {time:.1} s");
    }
}

#[test]
fn a_walk_that_fails_is_told_without_the_steps_that_it_fails_without() {
    let model = Model {
        mutant: Some(Mutant::GhostNotKept),
        budget: budget(8, 3, 4, 8, 1),
        ..base()
    };
    let failed = (0..1000).find_map(|seed| walk(&model, seed).err());
    let failed = failed.expect("one that fails");
    let told = model.shrunk(failed.clone());
    assert!(told.acts.len() < failed.acts.len(), "{failed:?}");
    assert!(model.end_of(&told).is_some());
    for n in 0..told.acts.len() {
        let shorter = told.without(n);
        assert!(model.end_of(&shorter).is_none(), "{told:?}");
    }
}

/// Goes anywhere. What states have in common is kept for one walk only: it is half a megabyte.
fn walk(model: &Model, seed: u64) -> Result<usize, Walk> {
    let model = &Model {
        interner: Interner::default(),
        ..*model
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let start = *model.start.iter().choose(&mut rng).expect("a start");
    let mut state = model.begin(start);
    let mut acts = Vec::new();
    while acts.len() < LENGTH {
        let possible = model.possible(&state);
        let Some(act) = possible.into_iter().choose(&mut rng) else {
            break;
        };
        acts.push(act);
        state = model.next_state(&state, act).unwrap_or(state);
        let is_tried = acts.len() % TRIED_EVERY == 0;
        if state.broken.any() || (is_tried && model.settled(&state).is_some()) {
            return Err(Walk { start, acts });
        }
    }
    Ok(acts.len())
}

impl Model {
    /// What may happen next, beside the end of all faults.
    fn possible(&self, state: &State) -> Vec<Act> {
        let mut acts = Vec::new();
        self.actions(state, &mut acts);
        acts.retain(|act| *act != Act::Settle);
        acts
    }

    /// How it ends from here without further faults, if not well.
    fn settled(&self, state: &State) -> Option<State> {
        self.next_state(state, Act::Settle)
    }

    /// Where a walk breaks an invariant, at its last step or once the faults are over. Steps that are not possible are skipped.
    fn end_of(&self, walk: &Walk) -> Option<End> {
        let mut state = self.begin(walk.start);
        for act in &walk.acts {
            if self.possible(&state).contains(act) {
                state = self.next_state(&state, *act).unwrap_or(state);
            }
        }
        let settled = !state.broken.any();
        let state = if settled {
            self.settled(&state)?
        } else {
            state
        };
        Some(End { state, settled })
    }

    /// The same without every step that it fails without.
    fn shrunk(&self, mut walk: Walk) -> Walk {
        let before = walk.acts.len();
        for n in (0..before).rev() {
            let shorter = walk.without(n);
            if self.end_of(&shorter).is_some() {
                walk = shorter;
            }
        }
        if walk.acts.len() < before {
            return self.shrunk(walk);
        }
        walk
    }

    fn tell(&self, walk: &Walk) -> String {
        let end = self.end_of(walk).expect("it failed before");
        format!(
            "{:?}, settled: {}, from {:?}: {:?}\n{:?}\n{:?}",
            end.state.broken.names(),
            end.settled,
            walk.start,
            walk.acts,
            end.state.etcd,
            end.state.hands
        )
    }
}
