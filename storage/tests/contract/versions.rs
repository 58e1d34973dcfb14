//! Removing for good: what is locked is left and hidden, and a right that is missing is no lock.

use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
use kinora_storage::versions::Purge;
use kinora_storage::{PutOptions, Store, StoreArgs, StoreErrorKind};
use rstest::rstest;

use crate::{On, weed};

/// Two versions to a page, so that those of a key are on several.
fn versioned() -> (FakeS3, Store) {
    let fake = FakeS3::start(Behaviour::versioned()).unwrap();
    let args = StoreArgs::new(fake.endpoint(), BUCKET, fake.credentials_dir());
    let store = Store::new(&args).unwrap();
    (fake, store)
}

async fn put(store: &Store, key: &str, body: &'static str) {
    let put = store.put(key, body.into(), PutOptions::default());
    put.await.unwrap();
}

/// Keys with the kinds of their versions, the newest first.
fn versions(fake: &FakeS3, prefix: &str) -> Vec<String> {
    let versions = fake.versions(prefix).into_iter();
    let named = |(key, id): (String, String)| format!("{key} {}", &id[..1]);
    versions.map(named).collect()
}

#[tokio::test]
async fn locked_versions_are_left_below_a_marker_and_all_others_go() {
    let (fake, store) = versioned();
    put(&store, "up/a/1", "locked").await;
    fake.lock("up/a/1");
    for key in ["up/a/0", "up/a/1", "up/a/1", "up/a/2", "up/b"] {
        put(&store, key, "free").await;
    }
    store.delete("up/a/1").await.unwrap();
    store.delete("up/a/2").await.unwrap();
    put(&store, "up/a/1", "free again").await;

    for pass in ["the first", "the second"] {
        let left = store.purge("up/a/", Purge::Everything).await.unwrap();
        assert_eq!(left, 1, "{pass}");
        assert_eq!(store.head("up/a/1").await.unwrap(), None, "{pass}");
        let there = versions(&fake, "");
        assert_eq!(there.last().unwrap(), "up/b v", "{pass}: not meant");
        assert_eq!(there.first().unwrap(), "up/a/1 m", "{pass}");
        let locked = there.iter().filter(|one| *one == "up/a/1 v").count();
        assert_eq!(locked, 1, "{pass}: {there:?}");
        assert!(
            there
                .iter()
                .all(|one| one == "up/b v" || one.starts_with("up/a/1 "))
        );
    }
}

#[tokio::test]
async fn of_an_object_that_stays_only_earlier_versions_go_and_locked_ones_stay() {
    let (fake, store) = versioned();
    put(&store, "records/r", "locked").await;
    fake.lock("records/r");
    put(&store, "records/r", "free").await;
    put(&store, "records/r", "stays").await;
    put(&store, "records/r2", "another's").await;
    let left = store.purge("records/r", Purge::Earlier).await.unwrap();
    assert_eq!(left, 1);
    assert_eq!(
        store.get("records/r").await.unwrap().unwrap().bytes,
        "stays"
    );
    let there = ["records/r v", "records/r v", "records/r2 v"];
    assert_eq!(versions(&fake, ""), there);
}

#[rstest]
#[case::everything(Purge::Everything, false)]
#[case::earlier(Purge::Earlier, true)]
#[tokio::test]
async fn a_right_that_is_missing_is_told_and_all_is_hidden(
    #[case] what: Purge,
    #[case] seen: bool,
) {
    let (fake, store) = versioned();
    put(&store, "records/r", "first").await;
    put(&store, "records/r", "second").await;
    fake.may_remove_versions(false);
    let mut before = None;
    for _ in 0..3 {
        let error = store.purge("records/r", what).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::AccessDenied, "{error}");
        assert!(
            error.to_string().contains("s3:DeleteObjectVersion"),
            "{error}"
        );
        assert_eq!(store.head("records/r").await.unwrap().is_some(), seen);
        let there = versions(&fake, "");
        let before = before.get_or_insert_with(|| there.clone());
        assert_eq!(there, *before, "tries leave nothing more behind");
    }
    fake.may_remove_versions(true);
    assert_eq!(store.purge("records/", Purge::Everything).await.unwrap(), 0);
    assert_eq!(fake.versions(""), []);
}

#[rstest]
#[tokio::test]
async fn a_store_without_versions_has_none_to_remove(#[values(On::Weed, On::Aws)] on: On) {
    let store = crate::store(on).await;
    let prefix = kinora_storage::keys::upload_prefix(&crate::fresh());
    let key = format!("{prefix}state");
    put(&store, &key, "first").await;
    put(&store, &key, "second").await;
    assert_eq!(store.purge(&key, Purge::Earlier).await.unwrap(), 0);
    assert!(store.head(&key).await.unwrap().is_some());
    assert_eq!(store.purge(&prefix, Purge::Everything).await.unwrap(), 0);
    assert!(store.head(&key).await.unwrap().is_none());
}

/// SeaweedFS itself, with a default retention: every version is locked, as on AWS.
#[tokio::test]
async fn a_default_retention_leaves_all_versions_and_shows_none() {
    let args = weed().await.locking().await.unwrap();
    let store = Store::new(&args).unwrap();
    for (key, body) in [("videos/v", "1"), ("videos/v", "2"), ("videos/w", "3")] {
        put(&store, key, body).await;
    }
    assert_eq!(store.purge("videos/v", Purge::Earlier).await.unwrap(), 1);
    assert!(store.head("videos/v").await.unwrap().is_some());
    for pass in ["the first", "the second"] {
        let left = store.purge("videos/", Purge::Everything).await.unwrap();
        assert_eq!(left, 3, "{pass}");
        let page = store.list("", None, 10).await.unwrap();
        assert_eq!(page.entries, [], "{pass}");
        assert_eq!(store.head("videos/v").await.unwrap(), None, "{pass}");
    }
}
