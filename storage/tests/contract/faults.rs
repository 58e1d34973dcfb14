//! What no stand-in shows: errors inside a 200, slow-downs, conflicts, silence, cut connections.

use bytes::Bytes;
use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
use kinora_storage::{
    CasOutcome, CompleteOutcome, Condition, Metadata, MultipartId, PartRef, PutOptions, PutOutcome,
    Store, StoreArgs, StoreErrorKind, checksum,
};

use crate::canned::{Answer, Canned, error, error_body, ok};

const DONE: &str =
    "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";

/// covers: F12
#[tokio::test]
async fn complete_reads_the_body_before_it_believes_the_status() {
    let table = [
        ("a result", ok(DONE), Ok(true)),
        (
            "an error inside a 200",
            Answer::Xml(200, error_body("InternalError")),
            Err(StoreErrorKind::Unavailable),
        ),
        (
            "an error inside a 200 after blanks to keep the connection",
            Answer::Xml(
                200,
                format!(
                    "   \n{}",
                    error_body("SlowDown").split_once('\n').unwrap().1
                ),
            ),
            Err(StoreErrorKind::SlowDown),
        ),
        ("an empty 200", ok(""), Err(StoreErrorKind::Unavailable)),
        (
            "a result that breaks off",
            ok("<CompleteMultipartUploadResult><ETag>"),
            Err(StoreErrorKind::Unavailable),
        ),
        ("no such upload", error(404, "NoSuchUpload"), Ok(false)),
        (
            "a 500",
            error(500, "InternalError"),
            Err(StoreErrorKind::Unavailable),
        ),
        ("silence", Answer::Silence, Err(StoreErrorKind::Timeout)),
    ];
    for (name, answer, want) in table {
        let canned = Canned::start(vec![answer]).await;
        let parts = [PartRef {
            number: 1,
            etag: "\"p\"".into(),
        }];
        let done = canned
            .store
            .complete("videos/x", &MultipartId("m".into()), &parts, None)
            .await;
        match (done, want) {
            (Ok(CompleteOutcome::Completed { .. }), Ok(true))
            | (Ok(CompleteOutcome::NoSuchUpload), Ok(false)) => {}
            (Err(error), Err(kind)) => {
                assert_eq!(error.kind, kind, "{name}: {error}");
                assert!(
                    error.is_unknown_outcome(),
                    "{name}: it may have been completed"
                );
            }
            (done, _) => panic!("{name}: {done:?}"),
        }
        assert_eq!(
            canned.requests(),
            1,
            "{name}: Complete is never repeated here"
        );
    }
}

/// covers: F11
#[tokio::test]
async fn idempotent_calls_are_repeated_a_few_times_and_conditional_ones_never() {
    let slow = || error(503, "SlowDown");
    let canned = Canned::start(vec![slow(), Answer::Cut, ok("")]).await;
    let written = canned
        .store
        .put("k", Bytes::from("x"), PutOptions::default())
        .await
        .unwrap();
    assert!(matches!(written, PutOutcome::Written { .. }));
    assert_eq!(canned.requests(), 3);

    let canned = Canned::start(vec![slow()]).await;
    let refused = canned.store.get("k").await.unwrap_err();
    assert_eq!(
        (refused.kind, canned.requests()),
        (StoreErrorKind::SlowDown, 4)
    );

    for condition in [Condition::IfAbsent, Condition::IfMatch("\"e\"".into())] {
        let canned = Canned::start(vec![slow()]).await;
        let error = canned
            .store
            .put("k", Bytes::from("x"), PutOptions::json(condition))
            .await
            .unwrap_err();
        assert!(error.is_unknown_outcome());
        assert_eq!(canned.requests(), 1, "a conditional write is tried once");
    }
}

#[tokio::test]
async fn a_lost_condition_is_told_from_an_unknown_outcome() {
    let swap = || Condition::IfMatch("\"e\"".into());
    let table = [
        (
            "412",
            error(412, "PreconditionFailed"),
            swap(),
            Some(PutOutcome::Lost),
        ),
        (
            "409",
            error(409, "ConditionalRequestConflict"),
            swap(),
            Some(PutOutcome::Lost),
        ),
        (
            "404 to a swap",
            error(404, "NoSuchKey"),
            swap(),
            Some(PutOutcome::Lost),
        ),
        (
            "412 to a create",
            error(412, "PreconditionFailed"),
            Condition::IfAbsent,
            Some(PutOutcome::Lost),
        ),
        ("500", error(500, "InternalError"), swap(), None),
        ("a cut connection", Answer::Cut, swap(), None),
        ("silence", Answer::Silence, Condition::IfAbsent, None),
    ];
    for (name, answer, condition, want) in table {
        let canned = Canned::start(vec![answer]).await;
        match (
            canned
                .store
                .put("k", Bytes::from("x"), PutOptions::json(condition))
                .await,
            want,
        ) {
            (Ok(got), Some(want)) => assert_eq!(got, want, "{name}"),
            (Err(error), None) => assert!(error.is_unknown_outcome(), "{name}: {error}"),
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
    let canned = Canned::start(vec![error(404, "NoSuchBucket")]).await;
    let gone = canned
        .store
        .put("k", Bytes::from("x"), PutOptions::json(swap()))
        .await
        .unwrap_err();
    assert_eq!(
        gone.kind,
        StoreErrorKind::NoSuchBucket,
        "a missing bucket is no lost race"
    );
}

/// covers: F2
#[tokio::test]
async fn a_swap_whose_answer_was_lost_is_won_if_our_bytes_are_there() {
    let create = PutOptions::json(Condition::IfAbsent);
    let canned = Canned::start(vec![Answer::Cut, ok("mine")]).await;
    let won = canned
        .store
        .cas("k", Bytes::from("mine"), create.clone())
        .await
        .unwrap();
    assert!(matches!(won, CasOutcome::Won { .. }));
    let canned = Canned::start(vec![Answer::Cut, error(404, "NoSuchKey")]).await;
    let unknown = canned
        .store
        .cas("k", Bytes::from("mine"), create)
        .await
        .unwrap_err();
    assert!(unknown.is_unknown_outcome(), "it may still land: {unknown}");
}

/// covers: F14, F15
#[tokio::test]
async fn a_missing_bucket_is_never_a_missing_object() {
    let canned = Canned::start(vec![
        Answer::Xml(404, String::new()),
        error(404, "NoSuchBucket"),
    ])
    .await;
    let error = canned.store.head("videos/x").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NoSuchBucket, "{error}");
}

/// Of a proxy that has no way to the store just now: nothing is known, neither of the object nor of its deletion.
///
/// covers: F14, F15
#[tokio::test]
async fn a_404_that_the_store_did_not_send_is_no_answer() {
    for body in ["404 page not found", ""] {
        let foreign = || Answer::Xml(404, body.to_owned());
        let all = || std::iter::repeat_with(foreign).take(20).collect();
        let store = Canned::start(all()).await.store;
        let looks = [
            store.get("k").await.map(drop),
            store.get_range("k", 0..1).await.map(drop),
            store.head("k").await.map(drop),
            store.delete("k").await,
            store
                .cas("k", Bytes::from("mine"), PutOptions::default())
                .await
                .map(drop),
        ];
        for look in looks {
            let error = look.unwrap_err();
            assert!(error.is_unknown_outcome(), "{body:?}: {error}");
        }
    }
}

/// Parts are named again with their checksums where the store wants them, and the self-test would tell where that is not enough.
///
/// covers: F12, F13
#[tokio::test]
async fn a_store_that_wants_the_checksums_of_parts_gets_them() {
    let fake = FakeS3::start(Behaviour::minio()).unwrap();
    let args = StoreArgs::new(fake.endpoint(), BUCKET, fake.credentials_dir());
    let store = Store::new(&args).unwrap();
    assert_eq!(store.self_test().await.unwrap().missing, []);
    let id = store
        .create_multipart("videos/x", &Metadata::new(), None)
        .await
        .unwrap();
    let bytes = [
        Bytes::from(vec![1; 5 << 20]),
        Bytes::from_static(b"the rest"),
    ];
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(&bytes) {
        let crc = checksum::crc64_base64(part);
        let etag = store.upload_part_with_crc("videos/x", &id, number, part.clone(), &crc);
        let etag = etag.await.unwrap();
        parts.push(PartRef { number, etag });
    }
    let crc = checksum::crc64_base64(&bytes.concat());
    let done = store.complete("videos/x", &id, &parts, Some(&crc)).await;
    assert!(
        matches!(done, Ok(CompleteOutcome::Completed { .. })),
        "{done:?}"
    );
    let head = store.head("videos/x").await.unwrap().unwrap();
    assert_eq!(head.crc64nvme, Some(crc));
}
