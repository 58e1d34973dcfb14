//! Two requests that meet at one upload: the first stands still after each of its calls in turn, until the second is
//! done. At an upload that has all its bytes and whose writer was killed before it said so, everybody who comes by
//! finishes it; at one that lacks some, expiry meets its client; before there is one, tries of one keyed create meet.

use kinora_upload_engine::{Call, Phase};

use crate::actor::{Actor, Kind, Patch, Said, Step};
use crate::mutants::Mutant;
use crate::scenarios::Found;
use crate::sim::Sim;
use crate::store::{Act, Manners};
use crate::world::{HOUR, PART, World};

const LENGTH: u64 = 2 * PART;
const MOST_STEPS: u32 = 1_000;

/// Who meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    Head,
    Delete,
    Expiry,
    /// The client goes on with so many bytes, and is cut.
    Goes(u64),
    /// A try of a create that brings all in one part.
    Plain,
}

/// Where they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// All bytes are there, and nobody has said so.
    Full,
    /// Half of them are.
    Half,
    /// Nothing is there, and the second is over and forgotten when the first goes on.
    Nowhere,
}

/// What the upload looks like, and the two who come by.
const MEETINGS: [(Place, Guest, Guest); 9] = [
    (Place::Full, Guest::Head, Guest::Delete),
    (Place::Full, Guest::Delete, Guest::Head),
    (Place::Full, Guest::Head, Guest::Head),
    (Place::Full, Guest::Head, Guest::Expiry),
    (Place::Full, Guest::Expiry, Guest::Head),
    (Place::Half, Guest::Expiry, Guest::Goes(4)),
    (Place::Half, Guest::Expiry, Guest::Goes(PART)),
    (Place::Half, Guest::Head, Guest::Goes(PART)),
    (Place::Nowhere, Guest::Plain, Guest::Plain),
];

fn kind(guest: Guest, w: &World) -> Kind {
    match guest {
        Guest::Head => Kind::Head,
        Guest::Delete => Kind::Delete,
        Guest::Plain => Kind::Plain,
        Guest::Expiry => {
            let state = w.store.state.as_ref();
            Kind::SweepState {
                expire: true,
                etag: state.map(|(_, etag, _)| etag.clone()).unwrap_or_default(),
            }
        }
        Guest::Goes(send) => Kind::Patch(Patch {
            from: PART,
            send,
            cut: send < LENGTH - PART,
            ..Patch::default()
        }),
    }
}

fn is_about_to_finish(actor: &Actor) -> bool {
    actor.acts.iter().any(|act| {
        matches!(act, Act::Engine(Call::PutState { doc, .. }) if doc.phase == Phase::Finishing)
    })
}

/// A world with the upload in it.
fn at(place: Place, manners: Manners, mutant: Option<Mutant>, trace: bool) -> Sim {
    let length = match place {
        Place::Full | Place::Half => LENGTH,
        Place::Nowhere => PART,
    };
    let mut w = World::new(length, true, manners);
    w.mutant = mutant;
    w.trace = trace.then(Vec::new);
    let mut sim = Sim::new(w, 2, false);
    let send = match place {
        Place::Full => LENGTH,
        Place::Half => PART,
        Place::Nowhere => return sim,
    };
    assert_eq!(sim.run(Kind::Create), Said::Created);
    let patch = Patch {
        send,
        cut: send < LENGTH,
        ..Patch::default()
    };
    let mut writer = Actor::new(&mut sim.w, Kind::Patch(patch), 0, 0);
    for _ in 0..MOST_STEPS {
        // Killed, where there is nothing left to write.
        if is_about_to_finish(&writer) || writer.step(&mut sim.w, 0) != Step::Going {
            break;
        }
    }
    writer.leave(&mut sim.w);
    // Old enough to expire, as long as nobody comes by.
    sim.w.store.now += 25 * HOUR;
    sim
}

/// One meeting, the first standing still after `calls` calls; none when it has fewer.
fn meet(mut sim: Sim, first: Guest, second: Guest, calls: u32) -> Option<Sim> {
    let kind_of_first = kind(first, &sim.w);
    let mut actor = Actor::new(&mut sim.w, kind_of_first, 0, 1);
    for _ in 0..calls {
        if actor.step(&mut sim.w, 0) != Step::Going {
            return None;
        }
    }
    let kind_of_second = kind(second, &sim.w);
    sim.run(kind_of_second);
    if first == Guest::Plain {
        sim.forget();
    }
    for _ in 0..MOST_STEPS {
        if actor.step(&mut sim.w, 0) != Step::Going {
            break;
        }
    }
    sim.settle();
    Some(sim)
}

/// All meetings: the first violation, and how many there were.
pub(crate) fn explore(manners: Manners, mutant: Option<Mutant>) -> (u32, Option<Found>) {
    let mut meetings = 0;
    for (place, first, second) in MEETINGS {
        for calls in 0..MOST_STEPS {
            let run = |trace| meet(at(place, manners, mutant, trace), first, second, calls);
            let Some(sim) = run(false) else { break };
            meetings += 1;
            if let Some(what) = sim.w.violation {
                let story = format!(
                    "{first:?} at {place:?} meets {second:?} after {calls} calls, {mutant:?}"
                );
                let trace = run(true).and_then(|sim| sim.w.trace).unwrap_or_default();
                return (meetings, Some(Found { what, story, trace }));
            }
        }
    }
    (meetings, None)
}
