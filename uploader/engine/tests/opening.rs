//! What a request finds and what it does about it: tables of the opening, the recovery of an
//! offset, and the writer's close.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

use std::collections::BTreeMap;

use kinora_upload_engine::create::Create;
use kinora_upload_engine::document::{MAX_SLICES, SmallPatches, VERSION};
use kinora_upload_engine::open::{Append, Goal, Open, Opened, SMALL_PER_MINUTE, TAKE_OVER_MS};
use kinora_upload_engine::parts::{Recovered, SeenPart, recover};
use kinora_upload_engine::write::{Cause, Event, Status, Writer};
use kinora_upload_engine::{
    Answer, Call, Context, Next, Owner, Phase, Principal, PutAnswer, Slice, State, crc,
};

fn doc(phase: Phase, offset: u64) -> State {
    State {
        v: VERSION,
        id: "a-1".into(),
        owner: Owner {
            iss: "apikey".into(),
            sub: "k".into(),
        },
        tenant: "acme".into(),
        profile: "default".into(),
        metadata: BTreeMap::new(),
        upload_metadata: None,
        length: Some(100),
        part_size: 10,
        key: "videos/x".into(),
        multipart: Some("m".into()),
        epoch: 3,
        phase,
        offset,
        tail: vec![],
        spent: vec![],
        crc: Some(0),
        pin: None,
        unverified: false,
        doubted: None,
        sure: BTreeMap::new(),
        complete: None,
        limit: None,
        digests: BTreeMap::new(),
        crc32c: None,
        sniffed: true,
        reason: None,
        small: SmallPatches::default(),
        created_ms: 0,
        nonce: "theirs".into(),
        extra: serde_json::Map::new(),
    }
}

fn ctx(now_ms: u64) -> Context<'static> {
    Context {
        now_ms,
        nonce: "mine",
    }
}

fn slice(part: u32, from: u64, to: u64) -> Slice {
    Slice {
        part,
        epoch: 1,
        from,
        to,
    }
}

fn found(doc: State) -> Answer {
    Answer::State(Some((Box::new(doc), "e".into())))
}

/// One step into an upload that is stored like this.
fn first(goal: Goal, stored: State) -> Next<Opened> {
    let mut open = Open::new(goal, None);
    assert_eq!(open.step(Answer::Begin, ctx(0)), Next::Call(Call::GetState));
    open.step(found(stored), ctx(0))
}

fn word(next: &Next<Opened>) -> &'static str {
    match next {
        Next::Call(Call::PutState { doc, .. }) => match doc.phase {
            Phase::Open => "swap to open",
            Phase::Closed => "swap to closed",
            Phase::Dead => "swap to dead",
            Phase::Finishing => "swap to finishing",
        },
        Next::Call(Call::AskWriter) => "ask the writer",
        Next::Call(Call::ListParts { .. }) => "list the parts",
        Next::Call(Call::Wait { .. }) => "wait",
        Next::Call(_) => "another call",
        Next::Done(Opened::Closed(_)) => "answer the offset",
        Next::Done(Opened::WrongOffset(_)) => "wrong offset",
        Next::Done(Opened::TooLong(_)) => "too long",
        Next::Done(Opened::TooManySmall(_)) => "too many small",
        Next::Done(Opened::Whole(..)) => "finish",
        Next::Done(Opened::Dead { .. }) => "dead",
        Next::Done(_) => "another end",
    }
}

fn append(offset: u64, body: Option<u64>) -> Goal {
    Goal::Write(Append {
        offset,
        body,
        ..Append::default()
    })
}

#[test]
fn what_a_request_does_follows_from_the_phase() {
    let write = append;
    let mut busy = doc(Phase::Closed, 20);
    busy.small = SmallPatches {
        minute: 0,
        count: SMALL_PER_MINUTE,
    };
    let cases = [
        (
            "HEAD of a closed upload",
            Goal::Read,
            doc(Phase::Closed, 20),
            "answer the offset",
        ),
        (
            "HEAD while another writes",
            Goal::Read,
            doc(Phase::Open, 20),
            "ask the writer",
        ),
        (
            "HEAD of one that is being finished",
            Goal::Read,
            doc(Phase::Finishing, 100),
            "finish",
        ),
        (
            "HEAD of one that is full without an outbox entry",
            Goal::Read,
            doc(Phase::Closed, 100),
            "finish",
        ),
        (
            "HEAD of a dead one",
            Goal::Read,
            doc(Phase::Dead, 20),
            "dead",
        ),
        (
            "PATCH at the right offset",
            write(20, Some(80)),
            doc(Phase::Closed, 20),
            "swap to open",
        ),
        (
            "PATCH of unknown size",
            write(20, None),
            doc(Phase::Closed, 20),
            "swap to open",
        ),
        (
            "PATCH below the offset",
            write(10, Some(5)),
            doc(Phase::Closed, 20),
            "wrong offset",
        ),
        (
            "PATCH above the offset",
            write(30, Some(5)),
            doc(Phase::Closed, 20),
            "wrong offset",
        ),
        (
            "PATCH beyond the length",
            write(20, Some(81)),
            doc(Phase::Closed, 20),
            "too long",
        ),
        (
            "PATCH whose end overflows",
            write(20, Some(u64::MAX)),
            doc(Phase::Closed, 20),
            "too long",
        ),
        (
            "PATCH while another writes",
            write(20, Some(80)),
            doc(Phase::Open, 20),
            "ask the writer",
        ),
        (
            "PATCH of a full one",
            write(100, Some(1)),
            doc(Phase::Closed, 100),
            "finish",
        ),
        (
            "an eleventh small PATCH",
            write(20, Some(1)),
            busy.clone(),
            "too many small",
        ),
        (
            "a small PATCH that ends the upload",
            write(20, Some(80)),
            busy,
            "swap to open",
        ),
        (
            "DELETE while another writes",
            Goal::Terminate,
            doc(Phase::Open, 20),
            "swap to dead",
        ),
        (
            "DELETE of a closed one",
            Goal::Terminate,
            doc(Phase::Closed, 20),
            "swap to dead",
        ),
        (
            "DELETE of one that is being finished",
            Goal::Terminate,
            doc(Phase::Finishing, 100),
            "finish",
        ),
        (
            "expiry of a closed one",
            Goal::Expire { etag: "e".into() },
            doc(Phase::Closed, 20),
            "swap to dead",
        ),
        (
            "expiry of a full one",
            Goal::Expire { etag: "e".into() },
            doc(Phase::Closed, 100),
            "finish",
        ),
        (
            "expiry of one whose writer died",
            Goal::Expire { etag: "e".into() },
            doc(Phase::Open, 20),
            "list the parts",
        ),
    ];
    for (name, goal, stored, want) in cases {
        assert_eq!(word(&first(goal, stored)), want, "{name}");
    }
}

/// covers: T26
#[test]
fn a_stranger_changes_nothing() {
    let stranger = Principal {
        owner: Owner {
            iss: "apikey".into(),
            sub: "other".into(),
        },
        tenant: "acme".into(),
        tenant_wide: false,
    };
    for phase in [Phase::Open, Phase::Closed, Phase::Finishing, Phase::Dead] {
        for goal in [Goal::Read, Goal::Terminate, append(20, None)] {
            let mut open = Open::new(goal, Some(stranger.clone()));
            open.step(Answer::Begin, ctx(0));
            assert_eq!(
                open.step(found(doc(phase, 20)), ctx(0)),
                Next::Done(Opened::Foreign)
            );
        }
    }
}

#[test]
fn a_silent_writer_is_asked_waited_for_and_taken_over() {
    let mut open = Open::new(Goal::Read, None);
    open.step(Answer::Begin, ctx(0));
    let stored = doc(Phase::Open, 20);
    assert_eq!(
        open.step(found(stored.clone()), ctx(0)),
        Next::Call(Call::AskWriter)
    );
    assert_eq!(word(&open.step(Answer::Asked(false), ctx(0))), "wait");
    open.step(Answer::Waited, ctx(100));
    assert_eq!(word(&open.step(found(stored.clone()), ctx(100))), "wait");
    open.step(Answer::Waited, ctx(TAKE_OVER_MS));
    assert_eq!(
        word(&open.step(found(stored), ctx(TAKE_OVER_MS))),
        "list the parts"
    );
    let parts = (0..4).map(|part| seen(part, 10, 0)).collect();
    let swap = open.step(Answer::Parts(Some(parts)), ctx(TAKE_OVER_MS));
    let Next::Call(Call::PutState { doc, .. }) = swap else {
        panic!("{swap:?}")
    };
    assert_eq!((doc.phase, doc.offset, doc.epoch), (Phase::Closed, 40, 4));
    let end = open.step(
        Answer::Put(PutAnswer::Written("f".into())),
        ctx(TAKE_OVER_MS),
    );
    assert_eq!(word(&end), "answer the offset");
}

/// The first answer had a wrong `Date`.
/// covers: F60
#[test]
fn a_silent_writer_is_taken_over_in_time_though_the_store_s_time_falls_meanwhile() {
    let stored = doc(Phase::Open, 20);
    let (right, wrong) = (7_200_000, 10_800_000);
    let mut open = Open::new(Goal::Read, None);
    open.step(Answer::Begin, ctx(wrong));
    open.step(found(stored.clone()), ctx(wrong));
    assert_eq!(word(&open.step(Answer::Asked(false), ctx(wrong))), "wait");
    for (now, want) in [
        (right, "wait"),
        (right + TAKE_OVER_MS - 1, "wait"),
        (right + TAKE_OVER_MS, "list the parts"),
    ] {
        open.step(Answer::Waited, ctx(now));
        assert_eq!(word(&open.step(found(stored.clone()), ctx(now))), want);
    }
}

#[test]
fn whoever_finds_his_nonce_after_an_unclear_answer_has_won() {
    let goal = append(20, Some(80));
    for unclear in [PutAnswer::Lost, PutAnswer::Unknown] {
        for (nonce, phase, want) in [
            ("mine", Phase::Open, true),
            ("theirs", Phase::Closed, false),
            ("another", Phase::Open, false),
        ] {
            let mut open = Open::new(goal.clone(), None);
            open.step(Answer::Begin, ctx(0));
            open.step(found(doc(Phase::Closed, 20)), ctx(0));
            assert_eq!(
                open.step(Answer::Put(unclear.clone()), ctx(0)),
                Next::Call(Call::GetState)
            );
            let stored = State {
                nonce: nonce.into(),
                ..doc(phase, 20)
            };
            let next = open.step(Answer::State(Some((Box::new(stored), "g".into()))), ctx(0));
            let won = matches!(next, Next::Done(Opened::Writer(..)));
            assert_eq!(won, want, "{unclear:?}, then {nonce}: {next:?}");
        }
    }
}

fn seen(part: u32, size: u64, modified_ms: u64) -> SeenPart {
    SeenPart {
        part,
        size,
        etag: format!("{part}-{size}"),
        modified_ms,
        crc: None,
    }
}

/// covers: T23
#[test]
fn an_offset_is_recovered_from_contiguous_whole_parts_and_the_tail() {
    let stored = State {
        tail: vec![slice(2, 20, 25)],
        ..doc(Phase::Open, 25)
    };
    let cases = [
        (
            "what the state says",
            vec![seen(0, 10, 0), seen(1, 10, 0)],
            Some(25),
        ),
        (
            "one part more takes the tail's place",
            vec![seen(0, 10, 0), seen(1, 10, 0), seen(2, 10, 0)],
            Some(30),
        ),
        (
            "a hole ends the run",
            vec![seen(0, 10, 0), seen(1, 10, 0), seen(3, 10, 0)],
            Some(25),
        ),
        (
            "a torn part is none",
            vec![seen(0, 10, 0), seen(1, 10, 0), seen(2, 6, 0)],
            Some(25),
        ),
        (
            "a part listed twice, once torn",
            vec![
                seen(0, 10, 0),
                seen(1, 10, 0),
                seen(2, 4, 9),
                seen(2, 10, 1),
            ],
            Some(30),
        ),
        (
            "fewer than promised is a fault of the store",
            vec![seen(0, 10, 0)],
            None,
        ),
    ];
    for (name, parts, want) in cases {
        let got = match recover(&stored, &parts) {
            Recovered::At(doc) => Some(doc.offset),
            Recovered::Short { .. } => None,
        };
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn the_sixteenth_slice_is_followed_by_one_for_all() {
    let mut stored = State {
        length: Some(1000),
        part_size: 1000,
        multipart: None,
        ..doc(Phase::Open, 0)
    };
    stored.tail = (0..MAX_SLICES as u64).map(|n| slice(0, n, n + 1)).collect();
    stored.offset = MAX_SLICES as u64;
    let mut writer = Writer::new(stored, "e".into());
    writer.step(Event::Bytes(4), ctx(0));
    let calls = writer.step(Event::Close(Cause::End, 0.into()), ctx(0));
    let [Call::PutSlice { slice, merge }] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!((slice.from, slice.to, merge.len()), (0, 20, MAX_SLICES));
    let calls = writer.step(
        Event::Answer(Answer::Put(PutAnswer::Written("s".into()))),
        ctx(0),
    );
    let [Call::PutState { doc, .. }] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!(
        (doc.offset, doc.tail.len(), doc.spent.len()),
        (20, 1, MAX_SLICES)
    );
}

#[test]
fn a_failed_part_takes_back_what_came_after_it() {
    let mut writer = Writer::new(doc(Phase::Open, 20), "e".into());
    for _ in 0..2 {
        assert_eq!(writer.room(), 10);
        assert_eq!(writer.step(Event::Bytes(10), ctx(0)).len(), 1);
    }
    assert_eq!(writer.room(), 0, "two parts in flight");
    writer.step(
        Event::Answer(Answer::Part {
            part: 3,
            etag: "p".into(),
        }),
        ctx(0),
    );
    writer.step(Event::Answer(Answer::Failed("timeout".into())), ctx(0));
    assert!(writer.in_trouble() && writer.room() == 0);
    let calls = writer.step(
        Event::Close(Cause::Client, crc::of(&[0; 20]).into()),
        ctx(0),
    );
    let [Call::PutState { doc, .. }] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!(
        (doc.phase, doc.offset),
        (Phase::Closed, 20),
        "part 3 is there, part 2 is not"
    );
    writer.step(
        Event::Answer(Answer::Put(PutAnswer::Written("f".into()))),
        ctx(0),
    );
    assert!(matches!(
        writer.status(),
        Status::Closed { trouble: Some(_) }
    ));
}

#[test]
fn unknown_fields_survive_and_a_newer_document_is_refused() {
    let mut value = serde_json::to_value(doc(Phase::Closed, 20)).unwrap();
    value["later"] = "kept".into();
    let parsed = State::parse(value.to_string().as_bytes()).unwrap();
    let again: serde_json::Value = serde_json::from_slice(&parsed.to_bytes().unwrap()).unwrap();
    assert_eq!(again["later"], "kept");
    assert_eq!(State::parse(again.to_string().as_bytes()).unwrap(), parsed);
    value["v"] = 2.into();
    assert!(
        State::parse(value.to_string().as_bytes())
            .unwrap_err()
            .to_string()
            .contains("version 2")
    );
}

proptest::proptest! {
    /// Whatever a listing shows, in whatever order: no byte counts that is not in a whole part of
    /// an unbroken run, or was confirmed before. covers: T23
    #[test]
    fn no_listing_makes_an_offset_of_bytes_that_are_not_there(
        rows in proptest::collection::vec((0u32..12, 1u64..=10, 0u64..3), 0..30),
        tail in 0u64..10,
    ) {
        let mut stored = State { multipart: Some("m".into()), offset: 20 + tail, ..doc(Phase::Open, 0) };
        stored.tail = (tail > 0).then(|| slice(2, 20, 20 + tail)).into_iter().collect();
        let rows: Vec<SeenPart> = rows.into_iter().map(|(part, size, at)| seen(part, size, at)).collect();
        let whole = |part: u32| rows.iter().any(|row| row.part == part && row.size == 10);
        let run = (0..10).take_while(|part| whole(*part)).count() as u64 * 10;
        match recover(&stored, &rows) {
            Recovered::At(to) => {
                proptest::prop_assert!(run >= 20);
                proptest::prop_assert_eq!(to.offset, run.max(stored.offset));
                proptest::prop_assert_eq!(to.tail.is_empty(), run > stored.offset || tail == 0);
            }
            Recovered::Short { listed } => proptest::prop_assert_eq!((listed, run < 20), (run, true)),
        }
    }
}

/// Found by the explorer: of two parts in flight the first failed, and the writer waited for ever.
#[test]
fn a_writer_ends_whichever_part_fails() {
    let answers = [
        Answer::Failed("timeout".into()),
        Answer::Part {
            part: 3,
            etag: "p".into(),
        },
    ];
    for first in [0, 1] {
        let mut writer = Writer::new(doc(Phase::Open, 20), "e".into());
        for _ in 0..2 {
            writer.step(Event::Bytes(10), ctx(0));
        }
        writer.step(Event::Answer(answers[first].clone()), ctx(0));
        assert!(
            writer
                .step(Event::Close(Cause::Client, 0.into()), ctx(0))
                .len()
                <= 1
        );
        let calls = writer.step(Event::Answer(answers[1 - first].clone()), ctx(0));
        assert_eq!(
            calls.len(),
            1,
            "the swap to closed, failure at {first}: {:?}",
            writer.status()
        );
    }
}

/// Found by the explorer: a multipart upload that somebody aborted kept its upload busy for ever.
#[test]
fn what_is_left_without_the_multipart_upload_follows_from_what_was_confirmed() {
    let with_slice = |offset| State {
        tail: vec![slice(0, 0, offset)],
        ..doc(Phase::Open, offset)
    };
    let cases = [
        ("nothing was confirmed", doc(Phase::Open, 0), Phase::Closed),
        (
            "a slice of the first part was",
            with_slice(5),
            Phase::Closed,
        ),
        ("a whole part was", doc(Phase::Open, 20), Phase::Dead),
    ];
    for (name, stored, want) in cases {
        let offset = stored.offset;
        let mut open = Open::new(Goal::Expire { etag: "e".into() }, None);
        open.step(Answer::Begin, ctx(0));
        open.step(found(stored.clone()), ctx(0));
        let swap = open.step(Answer::Parts(None), ctx(0));
        let Next::Call(Call::PutState { doc: next, .. }) = swap else {
            panic!("{name}: {swap:?}")
        };
        assert_eq!(
            (next.phase, next.offset),
            (want, offset),
            "{name}, taken over"
        );

        let mut writer = Writer::new(stored, "e".into());
        writer.step(Event::Bytes(10 - offset % 10), ctx(0));
        writer.step(Event::Answer(Answer::NoSuchUpload), ctx(0));
        let calls = writer.step(Event::Close(Cause::Client, 0.into()), ctx(0));
        let [Call::PutState { doc: next, .. }] = calls.as_slice() else {
            panic!("{name}: {calls:?}")
        };
        assert_eq!(
            (next.phase, next.offset),
            (want, offset),
            "{name}, while writing"
        );
        assert_eq!(next.multipart.is_none(), want == Phase::Closed, "{name}");
    }
}

/// covers: F12
#[test]
fn a_writer_that_finds_a_slice_gone_ends_the_upload_as_lost() {
    let stored = State {
        tail: vec![slice(2, 20, 25)],
        ..doc(Phase::Open, 25)
    };
    let mut full = stored.clone();
    full.tail = (0..MAX_SLICES as u64)
        .map(|n| slice(2, 20 + n, 21 + n))
        .collect();
    full.part_size = 100;
    full.offset = 20 + MAX_SLICES as u64;
    for (name, stored, came) in [
        ("as it stores the part", stored, 5),
        ("as it makes one slice of all", full, 1),
    ] {
        let offset = stored.offset;
        let mut writer = Writer::new(stored, "e".into());
        let mut calls = writer.step(Event::Bytes(came), ctx(0));
        if calls.is_empty() {
            calls = writer.step(Event::Close(Cause::End, 0.into()), ctx(0));
        }
        assert_eq!(calls.len(), 1, "{name}");
        let mut calls = writer.step(Event::Answer(Answer::SliceGone), ctx(0));
        if calls.is_empty() {
            assert!(writer.in_trouble(), "{name}");
            calls = writer.step(Event::Close(Cause::Client, 0.into()), ctx(0));
        }
        let [Call::PutState { doc, .. }] = calls.as_slice() else {
            panic!("{name}: {calls:?}")
        };
        let reason = doc.reason.as_deref();
        assert_eq!(
            (doc.phase, reason),
            (Phase::Dead, Some("StoreLost")),
            "{name}"
        );
        assert_eq!(doc.offset, offset, "{name}");
    }
}

/// Somebody may come back after the sweep has listed his state as old.
#[test]
fn only_the_version_that_was_seen_to_be_old_expires() {
    for (name, phase, seen, want) in [
        ("untouched", Phase::Closed, "e", "swap to dead"),
        ("closed anew", Phase::Closed, "d", "another end"),
        ("being written", Phase::Open, "d", "another end"),
    ] {
        let goal = Goal::Expire { etag: seen.into() };
        assert_eq!(word(&first(goal, doc(phase, 20))), want, "{name}");
    }
}

/// Found by the explorer: a create that comes late makes the state of a finished upload anew.
#[test]
fn a_create_without_a_clear_answer_is_not_repeated_under_its_id() {
    for (name, answer, want) in [
        ("refused", PutAnswer::Lost, true),
        ("no answer", PutAnswer::Unknown, false),
    ] {
        let mut create = Create::new(doc(Phase::Closed, 0));
        create.step(Answer::Begin);
        let read = create.step(Answer::Put(answer));
        assert_eq!(read, Next::Call(Call::GetState), "{name}");
        let next = create.step(Answer::State(None));
        assert_eq!(
            matches!(next, Next::Call(Call::PutState { .. })),
            want,
            "{name}: {next:?}"
        );
    }
}

#[test]
fn a_remembered_state_saves_the_read_and_is_never_answered_from() {
    let write = |offset| append(offset, Some(80));
    let cases = [
        (
            "closed at the offset",
            write(20),
            doc(Phase::Closed, 20),
            "swap to open",
        ),
        (
            "closed elsewhere",
            write(10),
            doc(Phase::Closed, 20),
            "another call",
        ),
        ("full", write(100), doc(Phase::Closed, 100), "another call"),
        ("open", write(20), doc(Phase::Open, 20), "another call"),
        ("dead", write(20), doc(Phase::Dead, 20), "another call"),
    ];
    for (name, goal, stored, want) in cases {
        let mut open = Open::remembering(goal, None, stored, "e".into());
        assert_eq!(word(&open.step(Answer::Begin, ctx(0))), want, "{name}");
    }
}

/// What a body says of the whole is kept, or refused before anything is opened.
#[test]
fn a_length_an_end_and_a_checksum_are_stored_before_the_body() {
    let deferred = State {
        length: None,
        limit: Some(90),
        ..doc(Phase::Closed, 20)
    };
    let known = doc(Phase::Closed, 20);
    let said = |length, complete, body| Append {
        offset: 20,
        body,
        length,
        complete,
        ..Append::default()
    };
    type Want = Result<(Option<u64>, Option<bool>), &'static str>;
    let cases: [(&str, &State, Append, Want); 12] = [
        (
            "nothing said",
            &deferred,
            said(None, None, Some(5)),
            Ok((None, None)),
        ),
        (
            "a length",
            &deferred,
            said(Some(60), None, None),
            Ok((Some(60), None)),
        ),
        (
            "an end of told size",
            &deferred,
            said(None, Some(true), Some(30)),
            Ok((Some(50), Some(true))),
        ),
        (
            "an end of untold size",
            &deferred,
            said(None, Some(true), None),
            Ok((None, Some(true))),
        ),
        (
            "no end, and nobody told the length",
            &deferred,
            said(None, Some(false), Some(30)),
            Ok((None, Some(false))),
        ),
        (
            "no end, but the length is known",
            &known,
            said(None, Some(false), Some(80)),
            Ok((Some(100), None)),
        ),
        (
            "less than is there",
            &deferred,
            said(Some(10), None, None),
            Err("inconsistent"),
        ),
        (
            "beyond the limit",
            &deferred,
            said(Some(91), None, None),
            Err("over the limit"),
        ),
        (
            "a body beyond the limit",
            &deferred,
            said(None, None, Some(71)),
            Err("over the limit"),
        ),
        (
            "another length",
            &known,
            said(Some(99), None, None),
            Err("inconsistent"),
        ),
        (
            "an end too early",
            &known,
            said(None, Some(true), Some(5)),
            Err("inconsistent"),
        ),
        (
            "more than the length",
            &known,
            said(None, None, Some(81)),
            Err("too long"),
        ),
    ];
    for (name, stored, append, want) in cases {
        let mut open = Open::new(Goal::Write(append), None);
        open.step(Answer::Begin, ctx(0));
        let got = match open.step(found(stored.clone()), ctx(0)) {
            Next::Call(Call::PutState { doc, .. }) => Ok((doc.length, doc.complete)),
            Next::Done(Opened::Inconsistent(_)) => Err("inconsistent"),
            Next::Done(Opened::OverLimit(_)) => Err("over the limit"),
            Next::Done(Opened::TooLong(_)) => Err("too long"),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn a_crash_before_the_checksum_was_compared_counts_nothing_then_or_later() {
    let mut stored = doc(Phase::Open, 20);
    stored.unverified = true;
    let parts: Vec<SeenPart> = (0..9).map(|part| seen(part, 10, 0)).collect();
    let Recovered::At(first) = recover(&stored, &parts) else {
        panic!("the listing is whole");
    };
    assert_eq!((first.offset, first.unverified), (20, false));
    let Recovered::At(later) = recover(&first, &parts) else {
        panic!("the listing is whole");
    };
    assert_eq!(later.offset, 20, "its late parts are not believed either");
}

#[test]
fn a_state_names_only_the_newest_of_the_slices_that_count_no_more() {
    let mut state = doc(Phase::Open, 0);
    for n in 0..10_000 {
        state.tail.push(Slice {
            part: 0,
            epoch: 3,
            from: n,
            to: n + 1,
        });
        state.spend_tail();
    }
    assert!(state.tail.is_empty());
    assert_eq!(state.spent.last().unwrap().from, 9_999);
    let size = state.to_bytes().unwrap().len();
    assert!(size < 32 << 10, "{size} bytes");
}
