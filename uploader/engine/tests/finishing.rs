//! Ends of the finish sequence that only time, or another's end, brings about.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

use std::collections::BTreeMap;

use kinora_upload_engine::call::{FinalRecord, JobAnswer, PutAnswer, SeenVideo};
use kinora_upload_engine::document::{ERASED, Slice};
use kinora_upload_engine::finish::{Facts, Finish, Finished, GIVE_UP_MS, Start};
use kinora_upload_engine::{Answer, Call, Context, Decision, Next};

fn facts(digest: Option<&str>) -> Facts {
    let digests = digest.map(|digest| ("sha-256".to_owned(), digest.to_owned()));
    Facts {
        id: "a-1".into(),
        length: 9,
        part_size: 8 << 20,
        multipart: None,
        tail: Vec::<Slice>::new(),
        spent: Vec::new(),
        crc: Some(1),
        pin: None,
        sure: BTreeMap::new(),
        crc32c: None,
        digests: digests.into_iter().collect(),
        state: true,
    }
}

/// Runs to the end, over a store whose answers to reads are given; the names of the calls, and the end.
fn run(
    mut machine: Finish,
    mut read: impl FnMut(&Call) -> (u64, Answer),
) -> (Vec<String>, Finished) {
    let (mut calls, mut now_ms, mut answer) = (Vec::new(), 0, Answer::Begin);
    loop {
        let ctx = Context { now_ms, nonce: "n" };
        let call = match machine.step(answer, ctx) {
            Next::Call(call) => call,
            Next::Done(end) => return (calls, end),
        };
        let name = format!("{call:?}");
        let name = name.split([' ', '{']).next().unwrap_or_default();
        calls.push(name.to_owned());
        answer = match call {
            Call::PutPending | Call::PutVideo { .. } | Call::PutActive { .. } | Call::PutIndex => {
                Answer::Put(PutAnswer::Written("e".into()))
            }
            Call::CreateJob => Answer::Job(JobAnswer::There),
            Call::CleanUp { .. } => Answer::Done,
            other => {
                let (takes, answer) = read(&other);
                now_ms += takes;
                answer
            }
        };
    }
}

/// covers: F2
#[test]
fn a_digest_that_takes_long_to_read_does_not_use_up_the_time_of_what_follows() {
    for (found, want) in [
        ("d1", Finished::Accepted),
        ("d2", Finished::Rejected("DigestMismatch".into())),
    ] {
        let start = Finish::new(
            facts(Some("d1")),
            Start::Found,
            Decision::Accepted,
            BTreeMap::new(),
        );
        let (calls, end) = run(start, |call| match call {
            Call::GetActive => (0, Answer::Active(None)),
            Call::GetRecord => (0, Answer::Record(None)),
            Call::GetPending => (0, Answer::Pending(true)),
            Call::HeadVideo => {
                let video = SeenVideo {
                    etag: "e".into(),
                    size: 9,
                    crc: Some(1),
                    upload_id: Some("a-1".into()),
                };
                (0, Answer::Video(Some(video)))
            }
            Call::DigestVideo { .. } => {
                let digests = [("sha-256".to_owned(), found.to_owned())];
                (2 * GIVE_UP_MS, Answer::Digests(digests.into()))
            }
            Call::PutRecord { .. } => (0, Answer::Put(PutAnswer::Written("e".into()))),
            _ => (0, Answer::Done),
        });
        assert_eq!(end, want, "{calls:?}");
    }
}

/// covers: F60
#[test]
fn a_finisher_gives_up_in_time_though_the_store_s_time_falls_meanwhile() {
    let hour = 3_600_000;
    let mut machine = Finish::new(
        facts(None),
        Start::Fresh,
        Decision::Accepted,
        BTreeMap::new(),
    );
    let mut step = |now_ms, answer| {
        let next = machine.step(answer, Context { now_ms, nonce: "n" });
        matches!(next, Next::Done(Finished::GaveUp(_)))
    };
    let unclear = || Answer::Put(PutAnswer::Unknown);
    assert!(!step(2 * hour, Answer::Begin));
    assert!(!step(hour, unclear()));
    assert!(!step(hour + GIVE_UP_MS, Answer::Waited));
    assert!(step(hour + GIVE_UP_MS + 1, unclear()));
}

/// A crash after the job left the entry of the owner's list out, and the video was at its end before the sweep came.
/// covers: F1
#[test]
fn a_sweep_that_finds_the_final_record_still_lists_the_video_unless_it_was_erased() {
    for (state, reason, listed) in [
        ("succeeded", "Completed", true),
        ("cancelled", "Cancelled", true),
        ("failed", "StoreLost", true),
        ("cancelled", ERASED, false),
    ] {
        for decided in [None, Some(Decision::Accepted)] {
            let start = Finish::new(
                facts(None),
                Start::Swept,
                Decision::Accepted,
                BTreeMap::new(),
            );
            let (calls, _) = run(start, |call| match call {
                Call::GetActive => (0, Answer::Active(decided.clone())),
                Call::GetRecord => {
                    let record = FinalRecord {
                        state: state.into(),
                        reason: Some(reason.into()),
                    };
                    (0, Answer::Record(Some(record)))
                }
                other => panic!("{other:?} of a video at its end"),
            });
            let has = calls.iter().any(|call| call == "PutIndex");
            assert_eq!(has, listed, "{state}, {reason}: {calls:?}");
            assert_eq!(calls.last().unwrap(), "CleanUp");
        }
    }
}

/// A slice is gone as the store lost it, or as another finisher, which was done meanwhile, cleaned up.
/// covers: F12
#[test]
fn a_slice_that_is_gone_is_called_lost_only_if_nobody_has_finished() {
    let slice = Slice {
        part: 0,
        epoch: 1,
        from: 0,
        to: 9,
    };
    let ours = SeenVideo {
        etag: "e".into(),
        size: 9,
        crc: Some(1),
        upload_id: Some("a-1".into()),
    };
    let record = |state: &str| FinalRecord {
        state: state.into(),
        reason: None,
    };
    let cases = [
        ("nobody has", None, None, None, Finished::StoreLost),
        (
            "its object is there",
            Some(ours),
            None,
            None,
            Finished::Accepted,
        ),
        (
            "a record is there",
            None,
            Some(record("rejected")),
            None,
            Finished::Rejected(String::new()),
        ),
        (
            "a decision is there",
            None,
            None,
            Some(Decision::Accepted),
            Finished::Accepted,
        ),
    ];
    for (name, video, record, decision, want) in cases {
        for start in [Start::Fresh, Start::Found] {
            for multipart in [None, Some("m".to_owned())] {
                let facts = Facts {
                    tail: vec![slice.clone()],
                    multipart: multipart.clone(),
                    ..facts(None)
                };
                let verdict = Decision::Accepted;
                let mut machine = Finish::new(facts, start.clone(), verdict, BTreeMap::new());
                let (mut gone, mut lost, mut answer) = (false, 0, Answer::Begin);
                let end = loop {
                    let (now_ms, nonce) = (0, "n");
                    let call = match machine.step(answer, Context { now_ms, nonce }) {
                        Next::Call(call) => call,
                        Next::Done(end) => break end,
                    };
                    // What the other has done is there from the moment on in which it shows.
                    answer = match call {
                        Call::PutVideo { .. } | Call::UploadPart { .. } => {
                            gone = true;
                            Answer::SliceGone
                        }
                        Call::ListParts { .. } => Answer::Parts(Some(Vec::new())),
                        Call::HeadVideo => Answer::Video(video.clone().filter(|_| gone)),
                        Call::GetActive => Answer::Active(decision.clone().filter(|_| gone)),
                        Call::GetRecord => Answer::Record(record.clone().filter(|_| gone)),
                        Call::GetPending => Answer::Pending(true),
                        Call::PutRecord { reason, .. } => {
                            lost += usize::from(reason == "StoreLost");
                            Answer::Put(PutAnswer::Written("e".into()))
                        }
                        Call::Wait { .. } => Answer::Waited,
                        Call::CreateJob => Answer::Job(JobAnswer::There),
                        Call::CleanUp { .. } | Call::DeleteVideo | Call::DeleteActive => {
                            Answer::Done
                        }
                        _ => Answer::Put(PutAnswer::Written("e".into())),
                    };
                };
                let name = format!("{name}, {start:?}, {multipart:?}");
                assert_eq!(end, want, "{name}");
                assert_eq!(lost, usize::from(want == Finished::StoreLost), "{name}");
            }
        }
    }
}
