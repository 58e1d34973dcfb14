//! Reading, listing, deleting.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinora_storage::checksum::crc64_base64;
use kinora_storage::{Condition, PutOptions, Store, StoreErrorKind, keys};
use rstest::rstest;

use crate::{On, fresh, noise, store};

async fn put(store: &Store, key: &str, body: impl Into<Bytes>) {
    store
        .put(key, body.into(), PutOptions::default())
        .await
        .unwrap();
}

#[rstest]
#[tokio::test]
async fn an_object_comes_back_with_all_that_was_said_of_it(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, id) = (store(on).await, fresh());
    let (key, body) = (keys::video(&id), noise(300_000, 7));
    let options = PutOptions {
        condition: Condition::IfAbsent,
        content_type: Some("video/mp4".into()),
        metadata: BTreeMap::from([("upload-id".into(), id.to_string())]),
        checksum: None,
    };
    store.put(&key, body.clone(), options).await.unwrap();
    let object = store.get(&key).await.unwrap().unwrap();
    let head = store.head(&key).await.unwrap().unwrap();
    assert_eq!(object.bytes, body);
    assert_eq!(
        (head.size, head.etag, head.last_modified),
        (300_000, object.etag, object.last_modified)
    );
    assert_eq!(head.metadata["upload-id"], id.as_str());
    assert_eq!(object.metadata, head.metadata);
    assert_eq!(head.content_type.as_deref(), Some("video/mp4"));
    assert_eq!(head.crc64nvme, Some(crc64_base64(&body)));
    let age = store.now().duration_since(head.last_modified).as_secs();
    assert!(
        (-2..=60).contains(&age),
        "by the store's clock it is {age} s old"
    );
}

#[rstest]
#[tokio::test]
async fn what_is_not_there_is_none_and_deleting_it_succeeds(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, keys::pending(&fresh()));
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(store.get_range(&key, 0..9).await.unwrap(), None);
    assert_eq!(store.head(&key).await.unwrap(), None);
    store.delete(&key).await.unwrap();
    store.delete_many(&[key]).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn ranges_are_exclusive_and_cut_at_the_end(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, keys::video(&fresh()));
    put(&store, &key, "0123456789").await;
    for (name, range, want) in [
        ("the middle", 2..5, "234"),
        ("the first", 0..1, "0"),
        ("past the end", 8..99, "89"),
    ] {
        assert_eq!(
            store.get_range(&key, range).await.unwrap().unwrap().bytes,
            want,
            "{name}"
        );
    }
    assert_eq!(
        store.get_range(&key, 10..11).await.unwrap_err().status,
        Some(416)
    );
    assert_eq!(
        store.get_range(&key, 3..3).await.unwrap_err().kind,
        StoreErrorKind::Invalid
    );
}

#[rstest]
#[tokio::test]
async fn an_empty_object_is_an_object(#[values(On::Weed, On::Aws, On::LikeWeed)] on: On) {
    let (store, key) = (store(on).await, keys::user_index("0123", &fresh()));
    put(&store, &key, "").await;
    assert_eq!(store.head(&key).await.unwrap().unwrap().size, 0);
    assert!(store.get(&key).await.unwrap().unwrap().bytes.is_empty());
}

#[rstest]
#[tokio::test]
async fn nobody_reads_more_than_he_can_hold(#[values(On::Weed, On::Aws, On::LikeWeed)] on: On) {
    let (store, key) = (store(on).await, keys::pending(&fresh()));
    put(&store, &key, noise(5000, 1)).await;
    assert_eq!(
        store.get_bounded(&key, 4999).await.unwrap_err().kind,
        StoreErrorKind::TooLarge
    );
    assert!(store.get_bounded(&key, 5000).await.unwrap().is_some());
}

#[rstest]
#[tokio::test]
async fn listings_page_in_order_and_go_on_after_any_key(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, id) = (store(on).await, fresh());
    let prefix = keys::upload_prefix(&id);
    let mut all: Vec<String> = (0..7).map(|n| keys::tail(&id, n, 1, 0, n + 1)).collect();
    for (n, key) in all.iter().enumerate() {
        put(&store, key, vec![b'x'; n]).await;
    }
    all.sort();
    let (mut seen, mut after) = (Vec::new(), None);
    for page in 1.. {
        let got = store.list(&prefix, after.as_deref(), 3).await.unwrap();
        assert!(
            got.entries.len() <= 3 && page <= 4,
            "page {page} of {}",
            got.entries.len()
        );
        seen.extend(got.entries.into_iter().map(|entry| entry.key));
        after = got.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, all);
    let rest = store.list(&prefix, Some(&all[4]), 100).await.unwrap();
    assert_eq!(
        (rest.entries.len(), rest.entries[0].key.as_str(), rest.next),
        (2, all[5].as_str(), None)
    );
    store.delete_many(&all).await.unwrap();
    assert!(
        store
            .list(&prefix, None, 100)
            .await
            .unwrap()
            .entries
            .is_empty()
    );
}

#[rstest]
#[tokio::test]
async fn bytes_that_do_not_match_their_checksum_are_refused(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, keys::pending(&fresh()));
    let options = PutOptions {
        checksum: Some(crc64_base64(b"others")),
        ..PutOptions::json(Condition::IfAbsent)
    };
    let error = store
        .put(&key, Bytes::from("bytes"), options)
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::BadDigest, "{error}");
    assert_eq!(store.get(&key).await.unwrap(), None);
}
