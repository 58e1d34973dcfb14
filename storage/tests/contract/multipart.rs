//! Multipart uploads on the part grid.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinora_storage::checksum::{combine, crc64, crc64_base64, to_base64};
use kinora_storage::parts::{contiguous, pick_parts};
use kinora_storage::{
    CompleteOutcome, Metadata, MultipartId, PartRef, Store, StoreErrorKind, keys,
};
use rstest::rstest;

use crate::{On, fresh, noise, store};

const P: usize = 5 << 20;

async fn begin(store: &Store, key: &str) -> MultipartId {
    let metadata = BTreeMap::from([("upload-id".to_owned(), "x".to_owned())]);
    store
        .create_multipart(key, &metadata, Some("video/mp4"))
        .await
        .unwrap()
}

async fn upload(store: &Store, key: &str, id: &MultipartId, parts: &[&Bytes]) -> Vec<PartRef> {
    let mut refs = Vec::new();
    for (number, body) in (1..).zip(parts) {
        let etag = store
            .upload_part(key, id, number, (*body).clone())
            .await
            .unwrap();
        refs.push(PartRef { number, etag });
    }
    refs
}

/// covers: T23
#[rstest]
#[tokio::test]
async fn a_file_on_the_grid_comes_back_with_the_checksum_of_the_whole(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, keys::video(&fresh()));
    let (a, b, c) = (noise(P, 1), noise(P, 2), noise(123_457, 3));
    let id = begin(&store, &key).await;
    let refs = upload(&store, &key, &id, &[&a, &b, &c]).await;
    assert_eq!(
        store.head(&key).await.unwrap(),
        None,
        "nothing is visible before Complete"
    );
    let listed = pick_parts(
        &store.list_parts(&key, &id).await.unwrap().unwrap(),
        &BTreeMap::new(),
    );
    assert_eq!(contiguous(&listed, P as u64, Some((3, 123_457))), 3);
    let crc = combine(
        combine(crc64(&a), crc64(&b), b.len() as u64),
        crc64(&c),
        c.len() as u64,
    );
    let crc = to_base64(crc);
    let done = store.complete(&key, &id, &refs, Some(&crc)).await.unwrap();
    assert!(
        matches!(&done, CompleteOutcome::Completed { crc64nvme: Some(stored), .. } if *stored == crc),
        "{done:?}"
    );
    let head = store.head(&key).await.unwrap().unwrap();
    assert_eq!(
        (head.size, head.crc64nvme.as_ref()),
        ((2 * P + 123_457) as u64, Some(&crc))
    );
    assert_eq!(head.metadata["upload-id"], "x");
    let whole = store.get(&key).await.unwrap().unwrap().bytes;
    assert_eq!(crc64_base64(&whole), crc);
}

/// covers: F12
#[rstest]
#[tokio::test]
async fn completing_again_is_harmless_and_so_is_an_abort_after_it(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, keys::video(&fresh()));
    let body = noise(100_000, 4);
    let id = begin(&store, &key).await;
    let refs = upload(&store, &key, &id, &[&body]).await;
    assert!(matches!(
        store.complete(&key, &id, &refs, None).await.unwrap(),
        CompleteOutcome::Completed { .. }
    ));
    let again = store.complete(&key, &id, &refs, None).await.unwrap();
    assert!(
        matches!(
            again,
            CompleteOutcome::Completed { .. } | CompleteOutcome::NoSuchUpload
        ),
        "{again:?}"
    );
    store.abort(&key, &id).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().unwrap().bytes, body);
}

#[rstest]
#[tokio::test]
async fn a_part_uploaded_again_counts_with_its_last_bytes(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, keys::video(&fresh()));
    let (short, full, last) = (noise(P - 9, 5), noise(P, 6), noise(10, 7));
    let id = begin(&store, &key).await;
    store.upload_part(&key, &id, 1, short).await.unwrap();
    let refs = upload(&store, &key, &id, &[&full, &last]).await;
    let given = BTreeMap::from([(1, refs[0].etag.clone())]);
    let picked = pick_parts(&store.list_parts(&key, &id).await.unwrap().unwrap(), &given);
    assert_eq!(
        picked.iter().map(|part| part.size).collect::<Vec<_>>(),
        [P as u64, 10]
    );
    assert_eq!(picked[0].etag, refs[0].etag);
    let done = store.complete(&key, &id, &refs, None).await.unwrap();
    assert!(
        matches!(done, CompleteOutcome::Completed { .. }),
        "{done:?}"
    );
    let whole = store.get(&key).await.unwrap().unwrap().bytes;
    assert_eq!(whole, [full, last].concat());
}

#[rstest]
#[tokio::test]
async fn after_an_abort_there_is_no_such_upload(#[values(On::Weed, On::Aws, On::LikeWeed)] on: On) {
    let (store, key) = (store(on).await, keys::video(&fresh()));
    let id = begin(&store, &key).await;
    let refs = upload(&store, &key, &id, &[&noise(1000, 8)]).await;
    store.abort(&key, &id).await.unwrap();
    store.abort(&key, &id).await.unwrap();
    assert_eq!(store.list_parts(&key, &id).await.unwrap(), None);
    let late = store
        .upload_part(&key, &id, 2, noise(10, 9))
        .await
        .unwrap_err();
    assert_eq!(late.kind, StoreErrorKind::NoSuchUpload, "{late}");
    assert_eq!(
        store.complete(&key, &id, &refs, None).await.unwrap(),
        CompleteOutcome::NoSuchUpload
    );
    assert_eq!(store.head(&key).await.unwrap(), None);
}

/// covers: F10
#[rstest]
#[tokio::test]
async fn a_part_or_a_whole_that_does_not_match_its_checksum_is_refused(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, keys::video(&fresh()));
    let body = noise(1000, 10);
    let id = store
        .create_multipart(&key, &Metadata::new(), None)
        .await
        .unwrap();
    let wrong = crc64_base64(b"others");
    let error = store
        .upload_part_with_crc(&key, &id, 1, body.clone(), &wrong)
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::BadDigest, "{error}");
    let refs = upload(&store, &key, &id, &[&body]).await;
    let foreign = vec![PartRef {
        number: 1,
        etag: "\"00000000000000000000000000000000\"".into(),
    }];
    assert_eq!(
        store.complete(&key, &id, &foreign, None).await.unwrap(),
        CompleteOutcome::InvalidPart
    );
    let done = store.complete(&key, &id, &refs, Some(&wrong)).await;
    let visible = store.head(&key).await.unwrap();
    match done.unwrap() {
        CompleteOutcome::ChecksumMismatch => assert_eq!(visible, None),
        // A store that ignores the checksum given still tells the right one, which the finisher compares.
        CompleteOutcome::Completed { crc64nvme, .. } => {
            assert_eq!(crc64nvme, Some(crc64_base64(&body)));
        }
        other => panic!("{other:?}"),
    }
}
