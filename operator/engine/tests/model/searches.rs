//! The searches: the engine as it is, to a number of states, and each mutant until it is found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kinora_engine::outcome::Fact;
use stateright::{Checker, HasDiscoveries, Model as _, Path};

use crate::actions::{Act, Fault};
use crate::mutants::Mutant;
use crate::properties::{Invariant, name_of};
use crate::starts::Start;
use crate::state::{Budget, Interner, State};
use crate::world::Model;

const NETWORK: &[Fault] = &[
    Fault::AnswerLost,
    Fault::RequestLost,
    Fault::WriteLate,
    Fault::StoreAway,
    Fault::WatchDead,
    Fault::ReplicaCrash,
    Fault::ReplicaPause,
    Fault::ReplicaBlind,
    Fault::WorkerCrash,
    Fault::WorkerDrain,
    Fault::StreamBroken,
    Fault::StreamHalfOpen,
    Fault::WorkerMute,
];

/// Where a pod is made for each attempt.
const PODS: &[Fault] = &[
    Fault::AnswerLost,
    Fault::RequestLost,
    Fault::WriteLate,
    Fault::WatchDead,
    Fault::ReplicaCrash,
    Fault::ReplicaPause,
    Fault::WorkerCrash,
    Fault::WorkerDrain,
    Fault::StreamBroken,
    Fault::PodLost,
];

pub(crate) fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|s| s.parse().ok())
}

pub(crate) fn budget(faults: u8, leads: u8, passes: u8, beats: u8, edits: u8) -> Budget {
    Budget {
        faults,
        leads,
        passes,
        beats,
        edits,
    }
}

pub(crate) fn base() -> Model {
    Model {
        jobs: 1,
        attempts: 3,
        failures: 2,
        budget: budget(2, 1, 2, 2, 0),
        faults: NETWORK,
        facts: &[Fact::Succeeded, Fact::Grpc(13), Fact::Released],
        pods: false,
        rewound: false,
        archive: false,
        start: &[
            Start::Ready,
            Start::Claimed,
            Start::Running,
            Start::StaleLeader,
            Start::TwoLeaders,
        ],
        mutant: None,
        settle_every: 32,
        interner: Interner::default(),
    }
}

/// A pod is made for each attempt.
pub(crate) fn pods() -> Model {
    Model {
        pods: true,
        faults: PODS,
        budget: budget(2, 1, 1, 1, 0),
        start: &[
            Start::Ready,
            Start::Claimed,
            Start::Running,
            Start::StaleLeader,
        ],
        ..base()
    }
}

/// A dead letter that was brought back before.
fn redriven() -> Model {
    Model {
        failures: 1,
        start: &[Start::Dead],
        ..base()
    }
}

/// Of two jobs one has ended in a past that etcd does not know any more.
fn restored() -> Model {
    Model {
        jobs: 2,
        attempts: 2,
        rewound: true,
        facts: &[Fact::Succeeded],
        start: &[Start::Restored],
        ..base()
    }
}

struct Found {
    states: usize,
    depth: usize,
    /// What was broken, and by which steps.
    path: BTreeMap<&'static str, String>,
    end: String,
    time: Duration,
}

fn search(model: Model, states: usize, until: HasDiscoveries) -> Found {
    let begin = Instant::now();
    let mut checker = model
        .checker()
        .threads(2)
        .target_state_count(states)
        .finish_when(until);
    if let Some(depth) = number("KINORA_MODEL_DEPTH") {
        checker = checker.target_max_depth(depth);
    }
    Found::of(&checker.spawn_bfs().join(), begin)
}

impl Found {
    fn of(checker: &impl Checker<Model>, begin: Instant) -> Found {
        let found = checker.discoveries();
        let acts = |path: &Path<State, Act>| {
            let acts = path.clone().into_actions();
            let texts: Vec<String> = acts.iter().map(|act| format!("{act:?}")).collect();
            texts.join(" > ")
        };
        let etcd = |path: &Path<State, Act>| format!("{:?}", path.last_state().etcd);
        Found {
            states: checker.unique_state_count(),
            depth: checker.max_depth(),
            end: found.values().next().map(etcd).unwrap_or_default(),
            path: found
                .iter()
                .map(|(name, path)| (*name, acts(path)))
                .collect(),
            time: begin.elapsed(),
        }
    }
}

#[test]
fn the_engine_keeps_every_invariant() {
    let asked = number("KINORA_MODEL_STATES");
    let wanted = asked.unwrap_or(MILLION);
    let two_jobs = Model {
        jobs: 2,
        attempts: 2,
        budget: budget(1, 1, 1, 1, 0),
        ..base()
    };
    // What costs a job nothing, whatever else its author does.
    let edited = Model {
        budget: budget(1, 1, 1, 1, 1),
        facts: &[Fact::Succeeded, Fact::Grpc(8), Fact::Grpc(14)],
        ..base()
    };
    let archived = Model {
        archive: true,
        budget: budget(2, 1, 1, 1, 0),
        facts: &[Fact::Succeeded],
        start: &[Start::Finished, Start::TwoLeaders],
        ..base()
    };
    let redriven = Model {
        budget: budget(1, 1, 1, 1, 2),
        ..redriven()
    };
    let restored = Model {
        budget: budget(2, 1, 1, 1, 0),
        ..restored()
    };
    let parts = [
        ("one job, two faults", base(), 30),
        ("two jobs", two_jobs, 20),
        ("cancelled and suspended", edited, 15),
        ("archived and deleted", archived, 10),
        ("a pod for each attempt", pods(), 20),
        ("brought back from the dead letters", redriven, 5),
        ("after a step back", restored, 5),
    ];
    let (mut states, mut time) = (0, Duration::ZERO);
    for (name, model, percent) in parts {
        // The checker counts what it meets again, too: well over half.
        let met = wanted * percent / 100 * 5 / 2;
        let found = search(model, met, HasDiscoveries::Any);
        println!(
            "{name}: {} states, depth {}, {:.1} s",
            found.states,
            found.depth,
            found.time.as_secs_f64()
        );
        assert!(
            found.path.is_empty(),
            "{name}: {:#?}\n{}",
            found.path,
            found.end
        );
        states += found.states;
        time += found.time;
    }
    println!("{states} distinct states in {:.1} s", time.as_secs_f64());
    assert!(asked.is_some() || states >= MILLION);
}

/// Distinct states that every run of the tests reaches.
const MILLION: usize = 1_000_000;

#[test]
fn every_mutant_is_found() {
    let states = number("KINORA_MODEL_MUTANT_STATES").unwrap_or(300_000);
    let mut survivors = Vec::new();
    for (mutant, invariant) in MUTANTS {
        let model = Model {
            mutant: Some(mutant),
            budget: budget(1, 0, 1, 1, 0),
            settle_every: 2,
            ..of(mutant)
        };
        let model = Model {
            budget: Budget {
                edits: u8::from(is_of_edits(mutant)),
                ..model.budget
            },
            ..model
        };
        let name = name_of(invariant);
        let found = search(model, states, HasDiscoveries::AnyOf(BTreeSet::from([name])));
        println!(
            "{mutant:?}: {} after {} states, {:.2} s: {}",
            name.split(':').next().unwrap_or_default(),
            found.states,
            found.time.as_secs_f64(),
            found.path.get(name).map_or("NOT FOUND", String::as_str)
        );
        if !found.path.contains_key(name) {
            survivors.push(mutant);
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
}

/// The smallest world in which a mutant shows.
fn of(mutant: Mutant) -> Model {
    match mutant {
        Mutant::RecordNotReadBack => Model {
            archive: true,
            start: &[Start::Finished],
            ..base()
        },
        Mutant::PodMadeAgain
        | Mutant::PodOfAnyAttempt
        | Mutant::PodNotRemoved
        | Mutant::PodCharged => pods(),
        Mutant::ReactivateSkipped | Mutant::RedriveForgotten => redriven(),
        Mutant::HistoryUnseen => restored(),
        Mutant::CancelUnseen | Mutant::SuspendUnseen => Model {
            faults: &[],
            start: &[Start::Ready],
            ..base()
        },
        Mutant::DeadLetterClaimed => Model {
            failures: 1,
            faults: &[],
            ..base()
        },
        _ => base(),
    }
}

/// Those that show only when somebody wishes something.
fn is_of_edits(mutant: Mutant) -> bool {
    matches!(
        mutant,
        Mutant::CancelUnseen
            | Mutant::CancelWithoutGhost
            | Mutant::SuspendUnseen
            | Mutant::ReactivateSkipped
            | Mutant::RedriveForgotten
    )
}

/// Each with the invariant that must notice it.
const MUTANTS: [(Mutant, Invariant); 34] = [
    (Mutant::NoCompareAndSwap, Invariant::Attempts),
    (Mutant::NoFence, Invariant::Fence),
    (Mutant::AckBeforeWrite, Invariant::Fence),
    (Mutant::StaleWithoutRead, Invariant::Fence),
    (Mutant::CancelWithoutRead, Invariant::Fence),
    (Mutant::ConflictTakenForNotWritten, Invariant::Stuck),
    (Mutant::ReadFromCache, Invariant::Stuck),
    (Mutant::UnknownForgotten, Invariant::Stuck),
    (Mutant::ExpiryWhileBlind, Invariant::LiveWorkers),
    (Mutant::PauseNotExcused, Invariant::LiveWorkers),
    (Mutant::HeartbeatWithoutHeld, Invariant::LiveWorkers),
    (Mutant::ReceivedSeqIgnored, Invariant::LiveWorkers),
    (Mutant::AttemptNotRaised, Invariant::Ends),
    (Mutant::AttemptRaisedTwice, Invariant::Attempts),
    (Mutant::LeasedBeforeWritten, Invariant::Attempts),
    (Mutant::LostCharged, Invariant::Budgets),
    (Mutant::ReleasedCharged, Invariant::Budgets),
    (Mutant::DrainTakenForDeath, Invariant::Budgets),
    (Mutant::DeadLetterClaimed, Invariant::Ends),
    (Mutant::GhostNotKept, Invariant::Ghosts),
    (Mutant::RepeatIgnored, Invariant::Stuck),
    (Mutant::RecordNotReadBack, Invariant::Loss),
    (Mutant::RecordAcknowledgedEarly, Invariant::Loss),
    (Mutant::LossForgotten, Invariant::Stuck),
    (Mutant::PodMadeAgain, Invariant::Pods),
    (Mutant::PodOfAnyAttempt, Invariant::Pods),
    (Mutant::PodNotRemoved, Invariant::Stuck),
    (Mutant::PodCharged, Invariant::Budgets),
    (Mutant::CancelUnseen, Invariant::Wishes),
    (Mutant::CancelWithoutGhost, Invariant::Ghosts),
    (Mutant::SuspendUnseen, Invariant::Wishes),
    (Mutant::ReactivateSkipped, Invariant::Loss),
    (Mutant::RedriveForgotten, Invariant::Ends),
    (Mutant::HistoryUnseen, Invariant::Ends),
];
