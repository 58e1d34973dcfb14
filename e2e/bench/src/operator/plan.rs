//! How much is done.

use std::time::Duration;

/// Sizes and counts of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Ceiling and Kinora take turns so often.
    pub(crate) rounds: usize,
    /// Jobs of one turn.
    pub(crate) jobs: usize,
    /// Jobs under way at a time; the bare loop makes so many sets at a time.
    pub(crate) at_once: usize,
    /// Simulated workers.
    pub(crate) workers: usize,
    /// Calls that each makes at a time.
    pub(crate) slots: u32,
    /// Jobs whose wait for a lease is measured.
    pub(crate) waits: usize,
    /// Live jobs while leader and workers are killed.
    pub(crate) some: usize,
    /// Live jobs when memory is looked at last.
    pub(crate) many: usize,
    /// Running jobs when the leader is killed.
    pub(crate) running: usize,
    /// Workers that are killed together with it.
    pub(crate) killed: usize,
    /// Workers that are killed one after the other.
    pub(crate) cuts: usize,
    /// Workers that fall silent.
    pub(crate) silent: usize,
    /// Jobs that come at once to an idle pool.
    pub(crate) backlog: usize,
    /// An idle operator is watched for so long.
    pub(crate) idle: Duration,
}

impl Plan {
    /// Everything, in so many rounds.
    pub(crate) fn full(rounds: usize) -> Self {
        Self {
            rounds,
            jobs: 2500,
            at_once: 48,
            workers: 100,
            slots: 2,
            waits: 1500,
            some: 20_000,
            many: 100_000,
            running: 100,
            killed: 10,
            cuts: 50,
            silent: 8,
            backlog: 200,
            idle: Duration::from_secs(10),
        }
    }

    /// A little of everything; its figures mean nothing.
    pub(crate) fn quick() -> Self {
        Self {
            rounds: 1,
            jobs: 150,
            at_once: 16,
            workers: 20,
            waits: 60,
            some: 500,
            many: 1500,
            running: 10,
            killed: 2,
            cuts: 5,
            silent: 2,
            backlog: 20,
            idle: Duration::from_secs(1),
            ..Self::full(1)
        }
    }
}
