//! Starting: the self-test, and what a person reads when the configuration is wrong.

use std::time::{Duration, Instant};

use kinora_fake_s3::{Behaviour, FakeS3};
use kinora_storage::selftest::Capability;
use kinora_storage::{Store, StoreArgs, StoreErrorKind, keys};

use crate::canned::credentials;
use crate::{On, args, store};
use rstest::rstest;

/// covers: F13
#[rstest]
#[tokio::test]
async fn the_store_of_the_tests_keeps_every_promise(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let store = store(on).await;
    let report = store.self_test().await.unwrap();
    assert_eq!(report.missing, Vec::<Capability>::new());
    // SeaweedFS lists none; if it does now, say so in the documents.
    assert_eq!(report.lists_part_checksums, on == On::Aws);
    assert!(
        report.skew_seconds.is_some_and(|skew| skew.abs() <= 1),
        "{report:?}"
    );
    report.require(false).unwrap();
    let left = store.list(keys::SELF_TEST, None, 10).await.unwrap();
    assert!(left.entries.is_empty(), "{left:?}");
}

#[rstest]
#[tokio::test]
async fn a_wrong_configuration_is_named_with_what_to_do(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let good = args(on).await;
    let wrong = credentials();
    let empty = tempfile::tempdir().unwrap();
    let table: [(&str, StoreArgs, StoreErrorKind, &[&str]); 5] = [
        (
            "a bucket that does not exist",
            StoreArgs {
                store_bucket: "absent".into(),
                ..good.clone()
            },
            StoreErrorKind::NoSuchBucket,
            &["\"absent\"", "--store-bucket"],
        ),
        (
            "credentials the store does not know",
            StoreArgs {
                store_credentials_dir: wrong.path().into(),
                ..good.clone()
            },
            StoreErrorKind::SignatureMismatch,
            &["--store-credentials-dir"],
        ),
        (
            "no credential files",
            StoreArgs {
                store_credentials_dir: empty.path().into(),
                ..good.clone()
            },
            StoreErrorKind::Credentials,
            &["access-key-id", "--store-credentials-dir"],
        ),
        (
            "nobody at the endpoint",
            StoreArgs {
                store_endpoint: "http://127.0.0.1:1".into(),
                ..good.clone()
            },
            StoreErrorKind::Unavailable,
            &["http://127.0.0.1:1", "--store-endpoint"],
        ),
        (
            "an endpoint that is no URL",
            StoreArgs {
                store_endpoint: "store:8333".into(),
                ..good.clone()
            },
            StoreErrorKind::Invalid,
            &["--store-endpoint"],
        ),
    ];
    for (name, args, want, words) in table {
        let error = Store::connect(&args).await.map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind, want, "{name}: {text}");
        assert!(
            words.iter().all(|word| text.contains(word)),
            "{name}: {text}"
        );
        assert!(
            !format!("{error:?}").contains("hush"),
            "{name}: no secret in {error:?}"
        );
    }
    Store::connect(&good).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_wrong_secret_for_a_known_key_is_named_too(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let dir = credentials();
    std::fs::write(
        dir.path().join("access-key-id"),
        kinora_storage::testing::ACCESS_KEY_ID,
    )
    .unwrap();
    let args = StoreArgs {
        store_credentials_dir: dir.path().into(),
        ..args(on).await
    };
    let error = Store::connect(&args).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::SignatureMismatch, "{error}");
}

/// covers: F16
#[rstest]
#[tokio::test]
async fn rotated_credentials_are_soon_used_by_the_same_client(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let dir = credentials();
    let good = args(on).await;
    let store = Store::new(&StoreArgs {
        store_credentials_dir: dir.path().into(),
        ..good.clone()
    })
    .unwrap();
    let before = store.get("control/absent").await.unwrap_err();
    assert_eq!(before.kind, StoreErrorKind::SignatureMismatch, "{before}");
    for file in ["access-key-id", "secret-access-key"] {
        std::fs::copy(good.store_credentials_dir.join(file), dir.path().join(file)).unwrap();
    }
    let rotated = Instant::now();
    let found = loop {
        match store.get("control/absent").await {
            Err(error)
                if error.kind == StoreErrorKind::SignatureMismatch
                    && rotated.elapsed() < Duration::from_secs(10) => {}
            answer => break answer,
        }
    };
    assert_eq!(found.unwrap(), None);
}

/// covers: F13
#[tokio::test]
async fn a_store_that_looks_and_then_writes_is_found_out_and_may_have_one_replica() {
    let fake = FakeS3::start(Behaviour::not_atomic()).unwrap();
    let args = StoreArgs::new(
        fake.endpoint(),
        kinora_fake_s3::BUCKET,
        fake.credentials_dir(),
    );
    let report = Store::new(&args).unwrap().self_test().await.unwrap();
    let want = [Capability::AtomicCreate, Capability::AtomicSwap];
    assert_eq!(report.missing, want);
    assert!(report.require(false).is_err(), "several replicas");
    report.require(true).unwrap();
    assert!(fake.keys("").is_empty(), "nothing is left behind");
}

#[tokio::test]
async fn a_clock_that_differs_by_more_than_five_minutes_is_refused() {
    for (skew, want) in [(-290, true), (290, true), (-400, false), (400, false)] {
        let fake = FakeS3::start(Behaviour::aws()).unwrap();
        fake.clock().skew(skew);
        let args = StoreArgs::new(
            fake.endpoint(),
            kinora_fake_s3::BUCKET,
            fake.credentials_dir(),
        );
        let report = Store::new(&args).unwrap().self_test().await.unwrap();
        assert_eq!(report.require(true).is_ok(), want, "{skew} s");
    }
}
