//! The crash explorer: the engine's machines, in the order in which the server runs them, against
//! a store in memory. Every call of the basic stories is crashed before, crashed after, robbed of
//! its answer, refused, delayed past any later call, or held by a process that stands still; then
//! pairs of these; then schedules by chance with several replicas and clients of different bytes.
//!
//! Mutants sit in the seam between machines and store (`mutants.rs`), the simplest place that is
//! honest: what they falsify is an order, a condition or an answer, and the engine has no switch.
//!
//! Limit, by design of the part grid: when a process was killed, a take-over counts whole parts by
//! number, whoever stored them. Two clients that send different bytes to one upload can then find
//! each other's parts below the recovered offset (`Oracle::mixed`); whatever was recovered is what
//! the object must be, to the byte; with a digest of the whole such an upload is refused. In the same way a store keeps one part of a number: one of a body
//! whose checksum was wrong, that lands after it was sent again, ends in a refusal. covers: F1, F3, F4, F8, F12, T1, T17, T23, I8

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "a failed expectation is the test's finding"
)]

mod actor;
mod dice;
mod film;
mod hunt;
mod meet;
mod mutants;
mod oracle;
mod random;
mod scenarios;
mod sim;
mod store;
mod world;

use scenarios::{Found, Setting};
use store::Manners;

const S3: Manners = Manners {
    lists_crc: true,
    keeps_overwritten: false,
};
const SEAWEED: Manners = Manners {
    lists_crc: false,
    keeps_overwritten: true,
};

fn report(found: Option<Found>) {
    if let Some(Found { what, story, trace }) = found {
        panic!("{what}\n{story}\n{}", trace.join("\n"));
    }
}

fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for (replicas, manners, other) in [(1, S3, SEAWEED), (2, SEAWEED, S3), (3, S3, SEAWEED)] {
        let setting = Setting {
            replicas,
            manners,
            ..Setting::default()
        };
        settings.push(setting);
        settings.push(Setting {
            hints: true,
            kubernetes_away: replicas == 2,
            manners: other,
            ..setting
        });
        for manners in [manners, other] {
            settings.push(Setting {
                two_files: true,
                manners,
                ..setting
            });
        }
    }
    settings
}

/// Explores every story in these settings; how many runs it took.
fn every_fault(settings: &[Setting], pairs: bool) -> u64 {
    let mut runs = 0;
    for scenario in &scenarios::ALL {
        for setting in settings {
            let (ran, found) = scenarios::explore(scenario, *setting, pairs);
            runs += ran;
            report(found);
        }
    }
    runs
}

#[test]
fn every_single_fault_of_every_story_is_survived() {
    let runs = every_fault(&settings(), false);
    println!("{runs} runs");
    assert!(runs > 150_000, "{runs}");
}

#[test]
fn every_single_fault_of_a_look_is_survived() {
    let mut runs = 0;
    for manners in [S3, SEAWEED] {
        let setting = Setting {
            replicas: 2,
            manners,
            ..Setting::default()
        };
        let (ran, found) = scenarios::explore(&scenarios::FILM, setting, false);
        runs += ran;
        report(found);
    }
    println!("{runs} runs");
    assert!(runs > 3_000, "{runs}");
}

#[test]
fn whoever_meets_at_an_upload_nothing_is_lost() {
    for manners in [S3, SEAWEED] {
        let (meetings, found) = meet::explore(manners, None);
        report(found);
        assert!(meetings > 50, "{meetings}");
    }
}

#[test]
fn every_pair_of_faults_is_survived() {
    let two = |manners, hints| Setting {
        replicas: 2,
        manners,
        hints,
        ..Setting::default()
    };
    let settings = [two(S3, true), two(SEAWEED, false)];
    let runs = every_fault(&settings, true);
    println!("{runs} runs");
    assert!(runs > 75_000, "{runs}");
}

/// Most schedules come to a confirmed upload, and none is trivial.
fn by_chance(seeds: std::ops::Range<u64>, same: bool) {
    let mut sum = random::explore(seeds, same, None);
    report(sum.found.take());
    println!("{sum:?}");
    assert!(sum.full * 2 > sum.schedules && sum.calls > 30 * sum.schedules);
    assert_eq!(sum.mixed > 0, !same, "two files meet, one does not");
    assert_eq!(
        sum.guarded > 0,
        !same,
        "also where a digest tells them apart"
    );
}

#[test]
fn schedules_by_chance_of_one_file_are_survived() {
    by_chance(0..10_000, true);
}

#[test]
fn schedules_by_chance_of_two_files_are_survived() {
    by_chance(1_000_000..1_010_000, false);
}

/// The budgets of store calls until the client has its answer.
#[test]
fn small_uploads_cost_few_store_calls() {
    let cases = [
        ("one plain POST of a part", false, 4),
        ("create and PATCH of a small file", true, 8),
        ("create and PATCH of a small file", false, 9),
    ];
    for (name, hints, want) in cases {
        let scenario = scenarios::ALL.iter().find(|scenario| scenario.name == name);
        let setting = Setting {
            replicas: 1,
            hints,
            ..Setting::default()
        };
        let ran = scenarios::run(scenario.expect(name), setting, &[], false);
        // One of the calls is Kubernetes'.
        assert_eq!(ran.calls_to_full - 1, want, "{name}, remembering: {hints}");
    }
}

#[test]
fn every_mutant_is_caught() {
    let mut missed = Vec::new();
    for mutant in mutants::ALL {
        match hunt::hunt(mutant) {
            Some(found) => println!("{mutant:?}: {} ({})", found.what, found.story),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// What a schedule by chance once caught is caught by a story that is told on purpose.
#[test]
fn mistakes_in_meetings_show_at_every_run() {
    for mutant in [
        mutants::Mutant::ExpiryOfAnyVersion,
        mutants::Mutant::FinishWithoutSwap,
    ] {
        for manners in [S3, SEAWEED] {
            let (_, found) = meet::explore(manners, Some(mutant));
            let found = found.unwrap_or_else(|| panic!("{mutant:?} is not caught"));
            println!("{mutant:?}: {} ({})", found.what, found.story);
        }
    }
}
