//! Starting: the self-test, and what a person reads when the configuration is wrong.

use kinora_storage::selftest::Capability;
use kinora_storage::{Store, StoreArgs, StoreErrorKind, keys};

use crate::canned::credentials;
use crate::{store, weed};

/// covers: F13
#[tokio::test]
async fn the_store_of_the_tests_keeps_every_promise() {
    let store = store().await;
    let report = store.self_test().await.unwrap();
    assert_eq!(report.missing, Vec::<Capability>::new());
    assert!(
        !report.lists_part_checksums,
        "SeaweedFS lists no checksums; if it does now, say so in the documents"
    );
    assert!(
        report.skew_seconds.is_some_and(|skew| skew.abs() <= 1),
        "{report:?}"
    );
    report.require(false).unwrap();
    let left = store.list(keys::SELF_TEST, None, 10).await.unwrap();
    assert!(left.entries.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_wrong_configuration_is_named_with_what_to_do() {
    let good = weed().await.args();
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

#[tokio::test]
async fn a_wrong_secret_for_a_known_key_is_named_too() {
    let dir = credentials();
    std::fs::write(
        dir.path().join("access-key-id"),
        kinora_storage::testing::ACCESS_KEY_ID,
    )
    .unwrap();
    let args = StoreArgs {
        store_credentials_dir: dir.path().into(),
        ..weed().await.args()
    };
    let error = Store::connect(&args).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::SignatureMismatch, "{error}");
}

/// covers: F16
#[tokio::test]
async fn rotated_credentials_are_used_by_the_next_call_of_the_same_client() {
    let dir = credentials();
    let args = StoreArgs {
        store_credentials_dir: dir.path().into(),
        ..weed().await.args()
    };
    let store = Store::new(&args).unwrap();
    let before = store.get("control/ready").await.unwrap_err();
    assert_eq!(before.kind, StoreErrorKind::SignatureMismatch, "{before}");
    for file in ["access-key-id", "secret-access-key"] {
        std::fs::copy(
            weed().await.credentials_dir().join(file),
            dir.path().join(file),
        )
        .unwrap();
    }
    assert!(store.get("control/ready").await.unwrap().is_some());
}
