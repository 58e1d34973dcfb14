//! Where a mutant shows itself: first where it is known to, then in everything there is. A hint
//! only saves time; whether a mutant is caught does not hang on it.

use crate::meet;
use crate::mutants::Mutant;
use crate::random;
use crate::scenarios::{ALL, FILM, Found, Scenario, Setting, explore};
use crate::{S3, settings};

/// Seeds of the schedules of one file, and of two.
const SEEDS: [(u64, bool); 2] = [(0, true), (1_000_000, false)];
const SCHEDULES: u64 = 10_000;

/// Where to look first.
enum Hint {
    /// In the order of the stories: most mutants show in the first ones.
    None,
    Story(&'static str),
    Film,
    /// Two requests that meet.
    Meeting,
    /// It takes a schedule by chance, of two clients' bytes.
    Chance,
}

fn hint(mutant: Mutant) -> Hint {
    use Mutant as M;
    match mutant {
        M::ExpiryOfAnyVersion | M::FinishWithoutSwap => Hint::Meeting,
        M::SliceWithoutEpoch => Hint::Chance,
        M::SumOverHoles => Hint::Story("three parts with a cut inside the second"),
        M::UnverifiedCounts => Hint::Story("a checksum that is right"),
        M::ChecksumIgnored | M::DoubtForgotten => {
            Hint::Story("a checksum that is wrong, and the body again")
        }
        M::LengthForgotten => Hint::Story("a length that is told with the last body"),
        M::DraftEndsByItself => Hint::Story("an end that is said after the last byte"),
        M::DigestUnread => Hint::Story("a digest of the whole that is wrong"),
        M::StoreErrorIsVerdict => Hint::Film,
        _ => Hint::None,
    }
}

fn story(scenario: &Scenario, mutant: Mutant) -> Option<Found> {
    let mutant = Some(mutant);
    settings()
        .into_iter()
        .find_map(|setting| explore(scenario, Setting { mutant, ..setting }, false).1)
}

fn film(mutant: Mutant) -> Option<Found> {
    let setting = Setting {
        replicas: 2,
        manners: S3,
        mutant: Some(mutant),
        ..Setting::default()
    };
    explore(&FILM, setting, false).1
}

fn chance((first, same): (u64, bool), mutant: Mutant) -> Option<Found> {
    random::explore(first..first + SCHEDULES, same, Some(mutant)).found
}

/// The first violation that this mistake leads to.
pub(crate) fn hunt(mutant: Mutant) -> Option<Found> {
    let hinted = match hint(mutant) {
        Hint::None => None,
        Hint::Story(name) => {
            let known = ALL.iter().find(|scenario| scenario.name == name);
            story(known.expect(name), mutant)
        }
        Hint::Film => film(mutant),
        Hint::Meeting => meet::explore(S3, Some(mutant)).1,
        Hint::Chance => chance(SEEDS[1], mutant),
    };
    hinted
        .or_else(|| ALL.iter().find_map(|scenario| story(scenario, mutant)))
        .or_else(|| SEEDS.into_iter().find_map(|seeds| chance(seeds, mutant)))
        .or_else(|| film(mutant))
}
