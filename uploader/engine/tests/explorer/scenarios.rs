//! The basic stories of an upload, and every place at which they can go wrong.

use crate::actor::{Kind, Patch, Said};
use crate::mutants::Mutant;
use crate::sim::Sim;
use crate::store::{Luck, Manners};
use crate::world::{Class, Fault, Wish, World};

/// How a story begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Plain,
    Create,
    Post { told: bool },
}

/// What the client does after its bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Goes on until it hears that all is there.
    Retry,
    /// Asks once more with HEAD when a request had no answer, and is gone.
    Vanish,
    /// Terminates.
    Delete,
}

/// A body of a story.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    send: u64,
    /// The connection is cut after it.
    cut: bool,
    checksum: Option<bool>,
    end: Option<bool>,
    tells: bool,
}

const fn body(send: u64) -> Body {
    Body {
        send,
        cut: false,
        checksum: None,
        end: None,
        tells: false,
    }
}

const fn cut(send: u64) -> Body {
    Body {
        cut: true,
        ..body(send)
    }
}

const fn checked(send: u64, right: bool) -> Body {
    Body {
        checksum: Some(right),
        ..body(send)
    }
}

const fn ends(send: u64, end: bool) -> Body {
    Body {
        end: Some(end),
        ..body(send)
    }
}

/// One story.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) length: u64,
    pub(crate) start: Start,
    pub(crate) bodies: &'static [Body],
    pub(crate) then: Then,
    pub(crate) pairs: bool,
    pub(crate) wish: Wish,
}

const WISH: Wish = Wish {
    draft: false,
    deferred: false,
    looks: false,
    no_video: false,
    digests: None,
};

const fn story(
    name: &'static str,
    length: u64,
    start: Start,
    bodies: &'static [Body],
    then: Then,
    pairs: bool,
) -> Scenario {
    Scenario {
        name,
        length,
        start,
        bodies,
        then,
        pairs,
        wish: WISH,
    }
}

/// A story that begins with a create of this kind, and whose client goes on to the end.
const fn wishing(name: &'static str, length: u64, bodies: &'static [Body], wish: Wish) -> Scenario {
    Scenario {
        wish,
        ..story(name, length, Start::Create, bodies, Then::Retry, false)
    }
}

pub(crate) const ALL: [Scenario; 27] = [
    story(
        "one plain POST of a part",
        6,
        Start::Plain,
        &[],
        Then::Vanish,
        true,
    ),
    story(
        "a plain POST of three parts",
        20,
        Start::Post { told: true },
        &[],
        Then::Vanish,
        true,
    ),
    story(
        "a plain POST of unknown length",
        16,
        Start::Post { told: false },
        &[],
        Then::Vanish,
        true,
    ),
    story(
        "create and PATCH of a small file",
        6,
        Start::Create,
        &[body(6)],
        Then::Retry,
        true,
    ),
    story(
        "a small file in two PATCHes",
        7,
        Start::Create,
        &[body(3), body(4)],
        Then::Retry,
        true,
    ),
    story(
        "a small file that nobody asks for again",
        6,
        Start::Create,
        &[body(6)],
        Then::Vanish,
        true,
    ),
    story(
        "three parts with a cut inside the second",
        19,
        Start::Create,
        &[cut(12), body(7)],
        Then::Retry,
        true,
    ),
    story(
        "two whole parts",
        16,
        Start::Create,
        &[body(16)],
        Then::Retry,
        true,
    ),
    story(
        "two parts that nobody asks for again",
        16,
        Start::Create,
        &[body(5), body(11)],
        Then::Vanish,
        true,
    ),
    story(
        "termination in the second part",
        19,
        Start::Create,
        &[cut(12)],
        Then::Delete,
        true,
    ),
    story(
        "termination at the end",
        16,
        Start::Create,
        &[cut(16)],
        Then::Delete,
        false,
    ),
    story(
        "expiry in the second part",
        19,
        Start::Create,
        &[cut(12)],
        Then::Vanish,
        true,
    ),
    wishing(
        "a checksum that is right",
        19,
        &[checked(12, true), checked(7, true)],
        WISH,
    ),
    wishing(
        "a checksum that is wrong, and the body again",
        19,
        &[checked(19, false), checked(19, true)],
        WISH,
    ),
    wishing(
        "a wrong checksum, and a cut without one",
        27,
        &[checked(26, false), cut(10), body(17)],
        WISH,
    ),
    wishing(
        "a cut before the checksum",
        19,
        &[
            Body {
                cut: true,
                ..checked(18, true)
            },
            body(19),
        ],
        WISH,
    ),
    wishing(
        "a small file with a wrong checksum",
        7,
        &[body(3), checked(4, false), checked(4, true)],
        WISH,
    ),
    wishing(
        "a length that is told with the last body",
        19,
        &[
            body(12),
            Body {
                tells: true,
                ..body(7)
            },
        ],
        Wish {
            deferred: true,
            ..WISH
        },
    ),
    wishing(
        "a length that is told after the last byte",
        16,
        &[
            body(16),
            Body {
                tells: true,
                ..body(0)
            },
        ],
        Wish {
            deferred: true,
            ..WISH
        },
    ),
    wishing(
        "an end that is said with the last body",
        19,
        &[ends(12, false), ends(7, true)],
        Wish {
            draft: true,
            ..WISH
        },
    ),
    wishing(
        "a length that was told, and an end that nobody says",
        19,
        &[ends(12, false), ends(7, false)],
        Wish {
            draft: true,
            ..WISH
        },
    ),
    wishing(
        "an end that is said after the last byte",
        16,
        &[ends(16, false), ends(0, true)],
        Wish {
            draft: true,
            deferred: true,
            ..WISH
        },
    ),
    wishing(
        "an end of unknown length, cut and said again",
        19,
        &[
            ends(5, false),
            Body {
                cut: true,
                ..ends(9, true)
            },
            ends(5, true),
        ],
        Wish {
            draft: true,
            deferred: true,
            ..WISH
        },
    ),
    Scenario {
        then: Then::Vanish,
        ..wishing(
            "all bytes, and nobody says that nothing follows",
            16,
            &[ends(16, false)],
            Wish {
                draft: true,
                deferred: true,
                ..WISH
            },
        )
    },
    wishing(
        "digests of the whole that are right",
        19,
        &[body(12), body(7)],
        Wish {
            digests: Some(None),
            ..WISH
        },
    ),
    wishing(
        "a digest of the whole that is wrong",
        19,
        &[body(12), body(7)],
        Wish {
            digests: Some(Some("sha-256")),
            ..WISH
        },
    ),
    wishing(
        "a file that is no video",
        6,
        &[body(6)],
        Wish {
            looks: true,
            no_video: true,
            ..WISH
        },
    ),
];

/// A video that the finish looks into: long beside the others, so it is run in fewer settings.
pub(crate) const FILM: Scenario = wishing(
    "a video that is looked into",
    0,
    &[body(1_000)],
    Wish {
        looks: true,
        ..WISH
    },
);

/// In what else runs differ.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setting {
    pub(crate) replicas: u8,
    pub(crate) manners: Manners,
    pub(crate) hints: bool,
    pub(crate) two_files: bool,
    pub(crate) kubernetes_away: bool,
    pub(crate) mutant: Option<Mutant>,
}

pub(crate) struct Ran {
    pub(crate) classes: Vec<Class>,
    pub(crate) violation: Option<String>,
    /// Calls until a client was told that all bytes are there.
    pub(crate) calls_to_full: u32,
    pub(crate) trace: Vec<String>,
}

/// Runs a story with these faults.
pub(crate) fn run(
    scenario: &Scenario,
    setting: Setting,
    faults: &[(u32, Fault)],
    trace: bool,
) -> Ran {
    let mut w = World::new(scenario.length, !setting.two_files, setting.manners);
    w.faults = faults.iter().copied().collect();
    w.mutant = setting.mutant;
    w.trace = trace.then(Vec::new);
    w.store.kubernetes_away = setting.kubernetes_away;
    w.wish = scenario.wish;
    if scenario.wish.looks && !scenario.wish.no_video {
        w.show(setting.two_files);
    }
    let mut sim = Sim::new(w, setting.replicas, setting.hints);
    sim.two_files = setting.two_files;
    tell(scenario, &mut sim);
    sim.settle();
    Ran {
        classes: sim.w.classes,
        violation: sim.w.violation,
        calls_to_full: sim.w.oracle.calls_to_full,
        trace: sim.w.trace.unwrap_or_default(),
    }
}

fn tell(scenario: &Scenario, sim: &mut Sim) {
    let first = match scenario.start {
        Start::Plain => Kind::Plain,
        Start::Create => Kind::Create,
        Start::Post { told } => Kind::Post { told },
    };
    if sim.run(first) != Said::Created {
        // The answer to a plain body was all, or the client never learnt the name.
        return;
    }
    let mut at = Some(0);
    for body in scenario.bodies {
        let Some(from) = at else { break };
        let send = body.send.min(sim.w.length - from);
        // Whoever says that nothing follows has sent all: faults may have left more to do.
        let all = from + send == sim.w.length || body.cut;
        let said = sim.run(Kind::Patch(Patch {
            from,
            send,
            cut: body.cut,
            checksum: body.checksum,
            end: body.end.map(|end| end && all),
            tells: body.tells,
            ..Patch::default()
        }));
        at = match said {
            Said::NotEnded => Some(sim.w.length),
            Said::Offset(offset) => Some(offset),
            Said::Nothing => None,
            _ => return,
        };
    }
    match scenario.then {
        Then::Retry => sim.client_goes_on(at),
        Then::Vanish => {
            if at.is_none() {
                sim.run(Kind::Head);
            }
        }
        Then::Delete => {
            for _ in 0..10 {
                if sim.run(Kind::Delete) != Said::Nothing {
                    return;
                }
            }
        }
    }
}

/// The faults of a call of this class, that differ in what they leave.
pub(crate) fn faults_of(class: Class) -> &'static [Fault] {
    const READ: [Fault; 2] = [Fault::CrashBefore, Fault::Luck(Luck::NotDone)];
    const WRITE: [Fault; 4] = [
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::Luck(Luck::AnswerLost),
        Fault::Luck(Luck::NotDone),
    ];
    const CONDITIONAL: [Fault; 5] = [
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::Luck(Luck::AnswerLost),
        Fault::Luck(Luck::NotDone),
        Fault::Luck(Luck::Conflict),
    ];
    match class {
        Class::Read => &READ,
        Class::Write => &WRITE,
        Class::Conditional => &CONDITIONAL,
    }
}

/// All plans of one fault, zombies and late effects of every length among them.
pub(crate) fn singles(classes: &[Class]) -> Vec<(u32, Fault)> {
    let calls = classes.len() as u32;
    let mut plans = Vec::new();
    for (at, class) in (0..calls).zip(classes) {
        plans.extend(faults_of(*class).iter().map(|fault| (at, *fault)));
        plans.push((at, Fault::AbortBehind));
        for later in 1..=calls - at {
            plans.push((at, Fault::Stall(later)));
            if *class != Class::Read {
                plans.push((at, Fault::Late(later)));
            }
        }
        plans.push((at, Fault::Stall(u32::MAX / 2)));
    }
    plans
}

/// Explores a story: no fault, each one, and pairs; the first violation, and how many runs.
pub(crate) fn explore(scenario: &Scenario, setting: Setting, pairs: bool) -> (u64, Option<Found>) {
    let base = run(scenario, setting, &[], false);
    let mut runs = 1;
    if let Some(what) = base.violation {
        return (runs, Some(Found::new(scenario, setting, &[], what)));
    }
    for first in singles(&base.classes) {
        let ran = run(scenario, setting, &[first], false);
        runs += 1;
        if let Some(what) = ran.violation {
            return (runs, Some(Found::new(scenario, setting, &[first], what)));
        }
        if !pairs
            || !scenario.pairs
            || matches!(
                first.1,
                Fault::Stall(_) | Fault::Late(_) | Fault::AbortBehind
            )
        {
            continue;
        }
        for (at, class) in (0u32..).zip(&ran.classes).skip(first.0 as usize + 1) {
            for second in faults_of(*class) {
                let faults = [first, (at, *second)];
                runs += 1;
                if let Some(what) = run(scenario, setting, &faults, false).violation {
                    return (runs, Some(Found::new(scenario, setting, &faults, what)));
                }
            }
        }
    }
    (runs, None)
}

/// A violation, with what it takes to see it again.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) what: String,
    pub(crate) story: String,
    pub(crate) trace: Vec<String>,
}

impl Found {
    fn new(scenario: &Scenario, setting: Setting, faults: &[(u32, Fault)], what: String) -> Self {
        let story = format!("{}, {setting:?}, {faults:?}", scenario.name);
        Self {
            what,
            story,
            trace: run(scenario, setting, faults, true).trace,
        }
    }
}
