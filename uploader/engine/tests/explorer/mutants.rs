//! Seeded mistakes, each one a real peer's or a tempting shortcut. They sit in the seam between
//! machines and store, where an order, a condition or an answer can be falsified: production code
//! has no switch for them, and nothing of them is compiled into it.

use kinora_upload_engine::call::CompleteAnswer;
use kinora_upload_engine::media::Piece;
use kinora_upload_engine::parts::SeenPart;
use kinora_upload_engine::{Answer, Call, Decision, Expect, Phase, PutAnswer, Slice, State};

use crate::actor::Origin;
use crate::store::{Act, Bag, Luck};
use crate::world::{PART, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The client hears of the last byte before the outbox entry is there (in the actor).
    AckBeforePending,
    /// The outbox entry follows the object.
    PendingAfterObject,
    /// After an unclear Complete nobody looks at the object.
    CompleteWithoutHead,
    /// NoSuchUpload is taken for "complete".
    GoneIsComplete,
    /// Expiry overwrites the state.
    ExpiryWithoutCas,
    /// Expiry takes whatever version it finds, not the one that was listed as old (in the actor).
    ExpiryOfAnyVersion,
    /// A writer's close overwrites the state.
    CloseWithoutCas,
    /// An unclear answer to a write is taken for success.
    UnclearIsWritten,
    /// Slices count that the state does not name.
    TailOfOldEpoch,
    /// Slices of different writers have one name.
    SliceWithoutEpoch,
    /// Parts are flushed short, and short ones count as whole.
    ShortPartCounts,
    /// The offset is a sum over a list with holes.
    SumOverHoles,
    /// A take-over believes the last closed offset.
    TakeOverWithoutListing,
    /// The job is made before the decision.
    DecisionAfterJob,
    /// The outbox entry is deleted before the job is made.
    PendingDeletedBeforeJob,
    /// DELETE aborts before it has swapped to dead.
    AbortBeforeDead,
    /// The job carries the time of its creation as the outbox entry's.
    OutboxTimeIsNow,
    /// An upload that is found full is finished without a swap.
    FinishWithoutSwap,
    /// A remembered state is answered from, or overwritten.
    HintWithoutCas,
    /// Nobody compares checksums (in the actor).
    ChecksumIgnored,
    /// A take-over counts parts of a request whose checksum was never compared.
    UnverifiedCounts,
    /// After a wrong checksum a listing is believed again.
    DoubtForgotten,
    /// An upload whose end is to be said is whole with whatever is there.
    DraftEndsByItself,
    /// The length that a later body tells is not stored.
    LengthForgotten,
    /// A look that the store does not serve is a verdict: its error page is judged, cut or filled
    /// to the range (bytes of another count than asked for are no verdict to the walk).
    StoreErrorIsVerdict,
    /// A digest is believed without reading.
    DigestUnread,
    /// A new multipart upload is let go although the state names it.
    DiscardsWhatIsNamed,
}

pub(crate) const ALL: [Mutant; 27] = [
    Mutant::AckBeforePending,
    Mutant::PendingAfterObject,
    Mutant::CompleteWithoutHead,
    Mutant::GoneIsComplete,
    Mutant::ExpiryWithoutCas,
    Mutant::ExpiryOfAnyVersion,
    Mutant::CloseWithoutCas,
    Mutant::UnclearIsWritten,
    Mutant::TailOfOldEpoch,
    Mutant::SliceWithoutEpoch,
    Mutant::ShortPartCounts,
    Mutant::SumOverHoles,
    Mutant::TakeOverWithoutListing,
    Mutant::DecisionAfterJob,
    Mutant::PendingDeletedBeforeJob,
    Mutant::AbortBeforeDead,
    Mutant::OutboxTimeIsNow,
    Mutant::FinishWithoutSwap,
    Mutant::HintWithoutCas,
    Mutant::ChecksumIgnored,
    Mutant::UnverifiedCounts,
    Mutant::DoubtForgotten,
    Mutant::DraftEndsByItself,
    Mutant::LengthForgotten,
    Mutant::StoreErrorIsVerdict,
    Mutant::DigestUnread,
    Mutant::DiscardsWhatIsNamed,
];

/// Executes a call as this mistake would have it.
pub(crate) fn execute(
    w: &mut World,
    mutant: Mutant,
    act: &Act,
    origin: &Origin,
    bag: &Bag,
    luck: Luck,
) -> Answer {
    use Mutant as M;
    let Act::Engine(call) = act else {
        return w.execute(act, origin, bag, luck);
    };
    let mut run = |call: Call, luck| w.execute(&Act::Engine(call), origin, bag, luck);
    let written = Answer::Put(PutAnswer::Written("mutant".into()));
    match (mutant, call.clone()) {
        (M::PendingAfterObject, Call::PutPending) => written,
        (M::PendingAfterObject, call @ (Call::Complete { .. } | Call::PutVideo { .. })) => {
            let answer = run(call, luck);
            run(Call::PutPending, luck);
            answer
        }
        (M::CompleteWithoutHead, Call::HeadVideo) => Answer::Video(None),
        (M::GoneIsComplete, call @ Call::Complete { .. }) => match run(call, luck) {
            Answer::Complete(CompleteAnswer::NoSuchUpload) => {
                Answer::Complete(CompleteAnswer::Done("mutant".into()))
            }
            answer => answer,
        },
        (M::ExpiryWithoutCas, Call::PutState { doc, .. })
            if doc.reason.as_deref() == Some("expired") =>
        {
            overwrite(w, doc, origin, bag, luck)
        }
        (M::CloseWithoutCas, Call::PutState { doc, .. })
            if origin.body.is_some() && doc.phase != Phase::Open =>
        {
            overwrite(w, doc, origin, bag, luck)
        }
        (M::HintWithoutCas, Call::PutState { doc, .. })
            if origin.hinted && doc.phase == Phase::Open =>
        {
            overwrite(w, doc, origin, bag, luck)
        }
        (M::UnclearIsWritten, call) => match run(call, luck) {
            Answer::Put(PutAnswer::Unknown) => written,
            answer => answer,
        },
        (M::TailOfOldEpoch, Call::GetState) => match run(Call::GetState, luck) {
            Answer::State(Some((doc, etag))) => Answer::State(Some((any_tail(w, *doc), etag))),
            answer => answer,
        },
        (M::UnverifiedCounts | M::DoubtForgotten | M::DraftEndsByItself, Call::GetState) => {
            match run(Call::GetState, luck) {
                Answer::State(Some((doc, etag))) => {
                    Answer::State(Some((forgetful(mutant, doc), etag)))
                }
                answer => answer,
            }
        }
        (M::LengthForgotten, Call::PutState { mut doc, expect }) if doc.phase == Phase::Open => {
            let before = w.store.state.as_ref().map(|(doc, ..)| doc.length);
            doc.length = before.unwrap_or(doc.length);
            w.execute(
                &Act::Engine(Call::PutState { doc, expect }),
                origin,
                bag,
                luck,
            )
        }
        (M::StoreErrorIsVerdict, call @ Call::ReadVideo { from, to }) => match run(call, luck) {
            Answer::Failed(_) => Answer::Bytes(Piece::new(error_page(to - from))),
            answer => answer,
        },
        (M::DigestUnread, Call::DigestVideo { .. }) => {
            let said = w.store.state.as_ref().map(|(doc, ..)| doc.digests.clone());
            Answer::Digests(said.unwrap_or_default())
        }
        (M::DiscardsWhatIsNamed, Call::PutState { doc, expect }) => {
            let put = Act::Engine(Call::PutState {
                doc: doc.clone(),
                expect,
            });
            let known = w.store.state.as_ref().map(|(old, ..)| &old.multipart);
            let made = doc.multipart.filter(|_| known == Some(&None));
            let answer = w.execute(&put, origin, bag, luck);
            if let (Some(multipart), Answer::Put(PutAnswer::Unknown)) = (made, &answer) {
                let abort = Act::Engine(Call::Abort { multipart });
                w.execute(&abort, origin, bag, Luck::Fine);
            }
            answer
        }
        (M::SliceWithoutEpoch, call) => run(without_epoch(call), luck),
        (M::ShortPartCounts, Call::PutSlice { slice, merge }) => {
            let multipart = w
                .store
                .state
                .as_ref()
                .and_then(|(doc, ..)| doc.multipart.clone());
            if let Some(multipart) = multipart {
                let (part, to) = (slice.part, slice.to);
                let slices = w
                    .store
                    .state
                    .as_ref()
                    .map(|(doc, ..)| doc.tail.clone())
                    .unwrap_or_default();
                let from = u64::from(part) * PART;
                let flush = Call::UploadPart {
                    multipart,
                    part,
                    from,
                    to,
                    slices,
                };
                w.execute(&Act::Engine(flush), origin, bag, luck);
            }
            w.execute(
                &Act::Engine(Call::PutSlice { slice, merge }),
                origin,
                bag,
                luck,
            )
        }
        (M::ShortPartCounts, call @ Call::ListParts { .. }) => match run(call, luck) {
            Answer::Parts(Some(rows)) => {
                Answer::Parts(Some(rows.into_iter().map(padded).collect()))
            }
            answer => answer,
        },
        (M::SumOverHoles, call @ Call::ListParts { .. }) => match run(call, luck) {
            Answer::Parts(Some(rows)) => {
                let numbered = (0u32..).zip(rows);
                Answer::Parts(Some(
                    numbered
                        .map(|(part, row)| SeenPart { part, ..row })
                        .collect(),
                ))
            }
            answer => answer,
        },
        (M::TakeOverWithoutListing, call @ Call::ListParts { .. }) => {
            let open = w
                .store
                .state
                .as_ref()
                .filter(|(doc, ..)| doc.phase == Phase::Open);
            let Some(offset) = open.map(|(doc, ..)| doc.offset) else {
                return w.execute(&Act::Engine(call), origin, bag, luck);
            };
            Answer::Parts(Some((0..(offset / PART) as u32).map(row).collect()))
        }
        (
            M::DecisionAfterJob,
            Call::PutActive {
                decision: Decision::Accepted,
            },
        ) => {
            run(Call::CreateJob, luck);
            written
        }
        (M::DecisionAfterJob, Call::CreateJob) => {
            run(
                Call::PutActive {
                    decision: Decision::Accepted,
                },
                luck,
            );
            run(Call::CreateJob, luck)
        }
        (M::PendingDeletedBeforeJob, Call::CreateJob) => {
            w.execute(&Act::DropPending, origin, bag, luck);
            w.execute(act, origin, bag, luck)
        }
        (M::AbortBeforeDead, Call::PutState { doc, expect }) if doc.phase == Phase::Dead => {
            if let Some(multipart) = doc.multipart.clone() {
                run(Call::Abort { multipart }, luck);
            }
            run(Call::PutState { doc, expect }, luck)
        }
        (M::OutboxTimeIsNow, Call::CreateJob) => {
            let bag = Bag {
                outbox_time: w.store.now,
                ..bag.clone()
            };
            w.execute(act, origin, &bag, luck)
        }
        (M::FinishWithoutSwap, Call::PutState { doc, .. })
            if doc.phase == Phase::Finishing && origin.body.is_none() =>
        {
            written
        }
        (_, call) => run(call, luck),
    }
}

fn forgetful(mutant: Mutant, mut doc: Box<State>) -> Box<State> {
    match mutant {
        Mutant::UnverifiedCounts if doc.phase == Phase::Open => {
            doc.unverified = false;
            doc.doubted = None;
        }
        Mutant::DoubtForgotten => doc.doubted = None,
        Mutant::DraftEndsByItself if doc.offset > 0 => {
            doc.complete = None;
            doc.length = doc.length.or(Some(doc.offset));
        }
        _ => {}
    }
    doc
}

/// What an object store says instead of so many bytes of an object.
fn error_page(length: u64) -> Vec<u8> {
    let page = "<Error><Code>SlowDown</Code></Error>\n";
    page.bytes().cycle().take(length as usize).collect()
}

fn overwrite(w: &mut World, doc: Box<State>, origin: &Origin, bag: &Bag, luck: Luck) -> Answer {
    let expect = match &w.store.state {
        Some((_, etag, _)) => Expect::Match(etag.clone()),
        None => Expect::Absent,
    };
    w.execute(
        &Act::Engine(Call::PutState { doc, expect }),
        origin,
        bag,
        luck,
    )
}

fn row(part: u32) -> SeenPart {
    SeenPart {
        part,
        size: PART,
        etag: "mutant".into(),
        modified_ms: 0,
        crc: None,
    }
}

fn padded(row: SeenPart) -> SeenPart {
    SeenPart {
        size: row.size.div_ceil(PART) * PART,
        ..row
    }
}

/// The document with whatever slice of any epoch goes on at its offset.
fn any_tail(w: &World, mut doc: State) -> Box<State> {
    let slices = w.store.slices.keys().filter_map(|name| {
        let mut fields = name.split(['/', '-']).map(str::parse::<u64>);
        let mut next = || fields.next()?.ok();
        Some(Slice {
            part: next()? as u32,
            epoch: next()?,
            from: next()?,
            to: next()?,
        })
    });
    for slice in slices {
        if slice.from == doc.offset && doc.phase != Phase::Dead {
            doc.offset = slice.to;
            doc.tail.push(slice);
        }
    }
    Box::new(doc)
}

fn without_epoch(call: Call) -> Call {
    let plain = |slices: Vec<Slice>| {
        slices
            .into_iter()
            .map(|s| Slice { epoch: 0, ..s })
            .collect()
    };
    match call {
        Call::PutState { mut doc, expect } => {
            doc.tail = plain(doc.tail);
            doc.spent = plain(doc.spent);
            Call::PutState { doc, expect }
        }
        Call::PutSlice { slice, merge } => Call::PutSlice {
            slice: Slice { epoch: 0, ..slice },
            merge: plain(merge),
        },
        Call::UploadPart {
            multipart,
            part,
            from,
            to,
            slices,
        } => Call::UploadPart {
            multipart,
            part,
            from,
            to,
            slices: plain(slices),
        },
        Call::PutVideo { slices } => Call::PutVideo {
            slices: plain(slices),
        },
        call => call,
    }
}
