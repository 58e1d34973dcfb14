//! How far a writer gets ahead of a part that is slow.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

use kinora_upload_engine::write::{Cause, Event, Writer};
use kinora_upload_engine::{Answer, Call, Context, State};

const CTX: Context<'static> = Context {
    now_ms: 0,
    nonce: "mine",
};

fn writer(offset: u64) -> Writer {
    let stored = serde_json::json!({
        "v": 1, "id": "a-1", "owner": {"iss": "apikey", "sub": "k"}, "tenant": "acme",
        "profile": "default", "metadata": {}, "length": 100, "part_size": 10, "key": "videos/x",
        "multipart": "m", "epoch": 1, "phase": "open", "offset": offset, "tail": [],
        "created_ms": 0, "nonce": "theirs",
    });
    let doc = State::parse(stored.to_string().as_bytes()).unwrap();
    Writer::new(doc, "e".into())
}

fn stored(writer: &mut Writer, part: u32) {
    let etag = "p".into();
    writer.step(Event::Answer(Answer::Part { part, etag }), CTX);
}

/// What is behind a part that is not stored is sent again after a crash.
#[test]
fn no_part_is_begun_two_behind_one_that_is_not_stored() {
    let mut writer = writer(20);
    for part in [2, 3] {
        assert_eq!(writer.room(), 10, "part {part}");
        let calls = writer.step(Event::Bytes(10), CTX);
        assert!(
            matches!(calls[..], [Call::UploadPart { part: at, .. }] if at == part),
            "{calls:?}"
        );
    }
    assert_eq!(writer.room(), 0, "two are on their way");
    stored(&mut writer, 3);
    assert_eq!(writer.room(), 0, "part 2 is slow");
    stored(&mut writer, 2);
    assert_eq!(writer.room(), 10, "nothing is missing");
}

#[test]
fn parts_that_are_stored_in_order_make_room_for_the_next_at_once() {
    let mut writer = writer(0);
    writer.step(Event::Bytes(10), CTX);
    for part in 1..9 {
        writer.step(Event::Bytes(10), CTX);
        assert_eq!(writer.room(), 0, "two are on their way");
        stored(&mut writer, part - 1);
        assert_eq!(writer.room(), 10, "{part} alone is on its way");
    }
}

#[test]
fn a_writer_that_was_closed_and_goes_on_has_room() {
    let mut writer = writer(0);
    writer.step(Event::Bytes(10), CTX);
    stored(&mut writer, 0);
    writer.step(Event::Bytes(5), CTX);
    let calls = writer.step(Event::Close(Cause::Idle, 0.into()), CTX);
    assert!(matches!(calls[..], [Call::PutSlice { .. }]), "{calls:?}");
    let put = kinora_upload_engine::PutAnswer::Written("s".into());
    writer.step(Event::Answer(Answer::Put(put.clone())), CTX);
    writer.step(Event::Answer(Answer::Put(put.clone())), CTX);
    writer.step(Event::Resume, CTX);
    writer.step(Event::Answer(Answer::Put(put)), CTX);
    assert_eq!((writer.pos(), writer.room()), (15, 5));
}
