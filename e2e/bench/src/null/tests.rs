use kinora_storage::{Condition, Metadata, PartRef, PutOptions, PutOutcome, Store, checksum};

use super::*;
use crate::servers::null_args;

async fn store() -> (NullStore, Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let null = NullStore::start().await.unwrap();
    let store = Store::connect(&null_args(null.address(), folder.path()).unwrap())
        .await
        .unwrap();
    (null, store, folder)
}

#[tokio::test]
async fn it_passes_the_self_test_of_a_store_for_many_replicas() {
    let (_null, store, _folder) = store().await;
    let report = store.self_test().await.unwrap();
    assert!(report.require(false).is_ok(), "{report:?}");
}

#[tokio::test]
async fn parts_become_an_object_whose_beginning_can_be_read() {
    let (null, store, _folder) = store().await;
    let part = Bytes::from(vec![7u8; 5 << 20]);
    let meta = Metadata::from([("upload-id".to_owned(), "a".to_owned())]);
    let id = store
        .create_multipart("videos/a", &meta, None)
        .await
        .unwrap();
    let etag = store
        .upload_part("videos/a", &id, 1, part.clone())
        .await
        .unwrap();
    assert_eq!(
        store.list_parts("videos/a", &id).await.unwrap().unwrap()[0].size,
        5 << 20
    );
    let crc = checksum::crc64_base64(&part);
    let parts = [PartRef { number: 1, etag }];
    store
        .complete("videos/a", &id, &parts, Some(&crc))
        .await
        .unwrap();
    let head = store.head("videos/a").await.unwrap().unwrap();
    assert_eq!((head.size, head.crc64nvme), (5 << 20, Some(crc)));
    assert_eq!(head.metadata, meta);
    let read = store.get_range("videos/a", 10..14).await.unwrap().unwrap();
    assert_eq!(read.bytes, [7u8; 4].as_slice());
    assert!(store.list_parts("videos/a", &id).await.unwrap().is_none());
    assert_eq!(null.calls()["UploadPart"], 1);
}

#[tokio::test]
async fn conditions_hold_and_deletes_delete() {
    let (_null, store, _folder) = store().await;
    let put = |condition| {
        let options = PutOptions {
            condition,
            ..PutOptions::default()
        };
        store.put("up/a/state", Bytes::from_static(b"{}"), options)
    };
    let Ok(PutOutcome::Written { etag }) = put(Condition::IfAbsent).await else {
        panic!("the first write was refused");
    };
    assert_eq!(put(Condition::IfAbsent).await.unwrap(), PutOutcome::Lost);
    assert_ne!(
        put(Condition::IfMatch(etag.clone())).await.unwrap(),
        PutOutcome::Lost
    );
    assert_eq!(
        put(Condition::IfMatch(etag)).await.unwrap(),
        PutOutcome::Lost
    );
    assert_eq!(store.list("up/", None, 10).await.unwrap().entries.len(), 1);
    store.delete_many(&["up/a/state".to_owned()]).await.unwrap();
    assert!(store.get("up/a/state").await.unwrap().is_none());
}

#[test]
fn percent_codes_are_undone() {
    assert_eq!(decoded("a%2Fb%zz%"), "a/b%zz%");
    assert_eq!(
        query("uploads&x=1%2B").get("x").map(String::as_str),
        Some("1+")
    );
}
