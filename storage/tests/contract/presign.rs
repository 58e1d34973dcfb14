//! Presigned URLs: one key, one method, no overwriting. covers: S6

use std::time::Duration;

use bytes::Bytes;
use kinora_storage::{PutOptions, StoreErrorKind, keys};

use crate::http::send;
use crate::{On, args, fresh, store};
use rstest::rstest;

const TTL: Duration = Duration::from_secs(60);

#[rstest]
#[tokio::test]
async fn a_presigned_put_creates_once_and_only_with_its_condition(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, format!("outputs/{}/video", fresh()));
    let put = store.presign_put(&key, TTL, Some("video/mp4")).unwrap();
    assert_eq!(
        put.headers.get("if-none-match").map(String::as_str),
        Some("*")
    );
    let all: Vec<(&str, &str)> = put
        .headers
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let bare: Vec<(&str, &str)> = all
        .iter()
        .copied()
        .filter(|(name, _)| *name != "if-none-match")
        .collect();
    assert_eq!(
        send("PUT", &put.url, &bare, b"sneaky").await.0,
        403,
        "without the condition"
    );
    assert_eq!(
        send("GET", &put.url, &all, b"").await.0,
        403,
        "with another method"
    );
    let other = put.url.replace("/video?", "/other?");
    assert_eq!(
        send("PUT", &other, &all, b"sneaky").await.0,
        403,
        "to another key"
    );
    // A bucket with a default retention asks for the MD5, which nobody knows when the URL is signed.
    let md5 = [("content-md5", "iwTV43ddKY54RV78XKQE1Q==")];
    let more = [&all[..], &md5].concat();
    assert_eq!(send("PUT", &put.url, &more, b"first").await.0, 200);
    assert_eq!(
        send("PUT", &put.url, &all, b"second").await.0,
        412,
        "a second time"
    );
    assert_eq!(store.get(&key).await.unwrap().unwrap().bytes, "first");
}

#[rstest]
#[tokio::test]
async fn a_presigned_get_reads_one_object_until_it_expires(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, id) = (store(on).await, fresh());
    let (mine, other) = (keys::video(&id), keys::pending(&id));
    store
        .put(&mine, Bytes::from("video"), PutOptions::default())
        .await
        .unwrap();
    store
        .put(&other, Bytes::from("secret"), PutOptions::default())
        .await
        .unwrap();
    let url = store.presign_get(&mine, TTL).unwrap();
    assert_eq!(send("GET", &url, &[], b"").await, (200, b"video".to_vec()));
    assert_eq!(
        send("GET", &url, &[("range", "bytes=1-2")], b"").await,
        (206, b"id".to_vec())
    );
    assert_eq!(
        send("GET", &url.replace(&mine, &other), &[], b"").await.0,
        403,
        "another key"
    );
    assert_eq!(
        send("DELETE", &url, &[], b"").await.0,
        403,
        "another method"
    );
    let long = store
        .presign_get(&mine, Duration::from_secs(8 * 86_400))
        .unwrap_err();
    assert_eq!(long.kind, StoreErrorKind::Invalid, "{long}");
}

#[rstest]
#[tokio::test]
async fn urls_name_the_presign_endpoint_and_own_calls_do_not(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let mut args = args(on).await;
    args.store_presign_endpoint = Some("https://media.example:9000".into());
    let store = kinora_storage::Store::connect(&args).await.unwrap();
    let url = store.presign_get("videos/x", TTL).unwrap();
    assert!(
        url.starts_with("https://media.example:9000/kinora/videos/x?"),
        "{}",
        kinora_storage::types::redact(&url)
    );
    let pool = store.with_presign_endpoint("http://pool.example").unwrap();
    let put = pool.presign_put("outputs/x", TTL, None).unwrap();
    assert!(
        put.url.starts_with("http://pool.example/kinora/outputs/x?"),
        "{put:?}"
    );
    assert!(
        pool.head("videos/absent").await.unwrap().is_none(),
        "own calls still reach the store"
    );
}
