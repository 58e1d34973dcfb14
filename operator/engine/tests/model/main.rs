//! The engine under a model checker: two leaders, two workers, one or two jobs, up to three attempts, and every order of events
//! that the protocol and its faults allow. The code that is checked is the operator's own; only the scheduler is replaced, by one
//! that may choose any possible claim. covers: I1, I2, I3, I4, I5, I6, I7, I11, T2, T3, T4, T5, T7, T10, T13, T15

// Helpers of tests are tests.
#![allow(clippy::panic, clippy::expect_used)]

mod actions;
mod etcd;
mod mutants;
mod pods;
mod properties;
mod searches;
mod starts;
mod state;
mod walks;
mod workers;
mod world;

use stateright::Property;

use actions::Act;
use starts::Start;
use state::State;
use world::Model;

impl stateright::Model for Model {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        self.start
            .iter()
            .map(|start: &Start| self.begin(*start))
            .collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Act>) {
        if !state.broken.any() {
            self.enabled(state, actions);
        }
    }

    fn next_state(&self, state: &State, act: Act) -> Option<State> {
        let mut world = self.world(state.clone());
        let tried = act == Act::Settle;
        world.apply(act);
        if tried && !world.s.broken.any() {
            return None;
        }
        let next = world.seal();
        // A claim that is not possible.
        let same = matches!(act, Act::Claim(..)) && next == *state;
        (!same).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Model>> {
        properties::properties()
    }
}
