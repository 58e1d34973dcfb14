//! Conditional writes: one winner, and a lost precondition is told from an unknown outcome.

use bytes::Bytes;
use futures::future::join_all;
use kinora_storage::{CasOutcome, Condition, PutOptions, PutOutcome, Store, StoreErrorKind, keys};
use rstest::rstest;

use crate::{On, fresh, store};

fn when(condition: Condition) -> PutOptions {
    PutOptions::json(condition)
}

async fn race(store: &Store, key: &str, condition: &Condition) -> Vec<usize> {
    let racers = (0..16).map(|racer| async move {
        let body = Bytes::from(format!("racer {racer}"));
        (
            racer,
            store.put(key, body, when(condition.clone())).await.unwrap(),
        )
    });
    let outcomes = join_all(racers).await;
    outcomes
        .into_iter()
        .filter(|(_, outcome)| *outcome != PutOutcome::Lost)
        .map(|(racer, _)| racer)
        .collect()
}

async fn written(store: &Store, key: &str, body: &'static str) -> String {
    match store
        .put(key, Bytes::from(body), PutOptions::default())
        .await
        .unwrap()
    {
        PutOutcome::Written { etag } => etag,
        PutOutcome::Lost => panic!("an unconditional write cannot lose"),
    }
}

/// covers: F13
#[rstest]
#[tokio::test]
async fn sixteen_creates_have_one_winner_and_its_bytes_stay(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, keys::pending(&fresh()));
    let winners = race(&store, &key, &Condition::IfAbsent).await;
    assert_eq!(winners.len(), 1, "{winners:?}");
    let stored = store.get(&key).await.unwrap().unwrap();
    assert_eq!(stored.bytes, format!("racer {}", winners[0]));
}

/// covers: F4
#[rstest]
#[tokio::test]
async fn sixteen_swaps_have_one_winner_and_its_bytes_stay(
    #[values(On::Weed, On::Aws, On::LikeWeed)] on: On,
) {
    let (store, key) = (store(on).await, keys::state(&fresh()));
    let etag = written(&store, &key, "before").await;
    let winners = race(&store, &key, &Condition::IfMatch(etag)).await;
    assert_eq!(winners.len(), 1, "{winners:?}");
    let stored = store.get(&key).await.unwrap().unwrap();
    assert_eq!(stored.bytes, format!("racer {}", winners[0]));
}

#[rstest]
#[tokio::test]
async fn a_swap_needs_the_very_object_it_names(#[values(On::Weed, On::Aws, On::LikeWeed)] on: On) {
    let (store, key) = (store(on).await, keys::state(&fresh()));
    let first = written(&store, &key, "one").await;
    let second = written(&store, &key, "two").await;
    assert_ne!(first, second);
    let stale = store
        .put(&key, Bytes::from("three"), when(Condition::IfMatch(first)))
        .await
        .unwrap();
    assert_eq!(stale, PutOutcome::Lost);
    let fresh = store
        .put(
            &key,
            Bytes::from("three"),
            when(Condition::IfMatch(second.clone())),
        )
        .await
        .unwrap();
    assert!(matches!(fresh, PutOutcome::Written { .. }));
    store.delete(&key).await.unwrap();
    let gone = store
        .put(&key, Bytes::from("four"), when(Condition::IfMatch(second)))
        .await
        .unwrap();
    assert_eq!(gone, PutOutcome::Lost);
    assert_eq!(store.get(&key).await.unwrap(), None, "a swap never creates");
}

#[rstest]
#[tokio::test]
async fn cas_tells_won_lost_and_gone(#[values(On::Weed, On::Aws, On::LikeWeed)] on: On) {
    let (store, key) = (store(on).await, keys::state(&fresh()));
    let create = |body: &'static str| store.cas(&key, Bytes::from(body), when(Condition::IfAbsent));
    let CasOutcome::Won { etag } = create("mine").await.unwrap() else {
        panic!("the first create wins")
    };
    assert!(
        matches!(create("mine").await.unwrap(), CasOutcome::Won { etag: again } if again == etag),
        "my bytes: won before"
    );
    assert!(
        matches!(create("theirs").await.unwrap(), CasOutcome::Lost(stored) if stored.bytes == "mine")
    );
    let swap = when(Condition::IfMatch(etag.clone()));
    assert!(matches!(
        store
            .cas(&key, Bytes::from("next"), swap.clone())
            .await
            .unwrap(),
        CasOutcome::Won { .. }
    ));
    assert!(matches!(
        store
            .cas(&key, Bytes::from("late"), swap.clone())
            .await
            .unwrap(),
        CasOutcome::Lost(_)
    ));
    store.delete(&key).await.unwrap();
    assert_eq!(
        store.cas(&key, Bytes::from("later"), swap).await.unwrap(),
        CasOutcome::Gone
    );
}

#[tokio::test]
async fn a_swap_that_is_lost_reads_no_more_than_a_document_or_its_own_size() {
    let (store, key) = (store(On::Aws).await, keys::state(&fresh()));
    let create = |size: usize| {
        let body = Bytes::from(vec![b' '; size]);
        store.cas(&key, body, when(Condition::IfAbsent))
    };
    let large = (1 << 20) + 1;
    store
        .put(&key, vec![b'x'; large].into(), PutOptions::default())
        .await
        .unwrap();
    let refused = create(1000).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::TooLarge, "{refused}");
    let lost = create(large).await.unwrap();
    assert!(matches!(lost, CasOutcome::Lost(stored) if stored.bytes.len() == large));
}
