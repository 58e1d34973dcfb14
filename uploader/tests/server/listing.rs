//! `GET /v1/videos`: pages, filters, and nobody else's videos. covers: T26, S8

use kinora_storage::{Cell, PutOptions, UploadId, keys};
use serde_json::Value;

use crate::harness::{ADMIN, Replica, STRANGER, World, problem_of};

const LISTER: &str = "lister.secret";

async fn page(
    world: &World,
    replica: &Replica,
    key: &str,
    query: &str,
) -> (Vec<String>, Option<String>) {
    let answer = world.get(replica, key, &format!("/v1/videos{query}")).await;
    assert_eq!(answer.status(), 200, "{query}");
    let page: Value = answer.json().await.unwrap();
    let ids = page["videos"].as_array().unwrap().iter();
    let ids = ids.map(|video| video["id"].as_str().unwrap().to_owned());
    (ids.collect(), page["cursor"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn an_owners_videos_are_listed_newest_first_by_pages() {
    let world = World::new("l1").await;
    world.admit("lister", "acme", &["kinora:upload"]);
    world.admit("rival", "rival", &["kinora:tenant"]);
    let replica = world.replica().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.upload(&replica, LISTER).await);
    }
    ids.sort_by_key(|id| std::cmp::Reverse(id.parse::<UploadId>().unwrap().unix_ms()));
    let (first, cursor) = page(&world, &replica, LISTER, "?limit=2").await;
    let cursor = cursor.unwrap();
    let (second, next) = page(
        &world,
        &replica,
        LISTER,
        &format!("?limit=2&cursor={cursor}"),
    )
    .await;
    let next = next.unwrap();
    let (third, end) = page(&world, &replica, LISTER, &format!("?limit=2&cursor={next}")).await;
    assert_eq!([first, second, third].concat(), ids);
    assert_eq!(end, None);

    world.jobs.edit(&ids[3], |job| {
        job.status.get_or_insert_default().state = "Cancelled".into();
    });
    let (cancelled, _) = page(&world, &replica, LISTER, "?state=cancelled").await;
    assert_eq!(cancelled, [ids[3].clone()]);
    let (some, more) = page(&world, &replica, LISTER, "?state=queued&limit=3").await;
    assert_eq!(some, ids[..3]);
    let (rest, end) = page(
        &world,
        &replica,
        LISTER,
        &format!("?state=queued&limit=3&cursor={}", more.unwrap()),
    )
    .await;
    assert_eq!((rest, end), (vec![ids[4].clone()], None));

    // A cursor says where, never whose.
    let foreign = page(
        &world,
        &replica,
        STRANGER,
        &format!("?cursor={cursor}&limit=100"),
    )
    .await
    .0;
    assert!(ids.iter().all(|id| !foreign.contains(id)), "{foreign:?}");
    let (of_owner, _) = page(&world, &replica, ADMIN, "?owner=lister").await;
    assert_eq!(of_owner, ids);
    let (of_rival, _) = page(&world, &replica, "rival.secret", "?owner=lister").await;
    assert!(of_rival.is_empty(), "another tenant's: {of_rival:?}");
    let refused = world
        .get(&replica, STRANGER, "/v1/videos?owner=lister")
        .await;
    assert_eq!(problem_of(refused).await, (403, "missing-scope".into()));
    let bad = world.get(&replica, LISTER, "/v1/videos?cursor=junk").await;
    assert_eq!(problem_of(bad).await, (400, "bad-request".into()));
}

#[tokio::test]
async fn a_page_with_a_filter_reads_at_most_200_videos_and_may_be_empty() {
    let world = World::new("l2").await;
    world.admit("filter", "acme", &["kinora:upload"]);
    let replica = world.replica().await;
    let wanted = world.upload(&replica, "filter.secret").await;
    // Newer ones whose records are past their retention.
    let owner = keys::owner_hash("apikey", "filter");
    let now: UploadId = wanted.parse().unwrap();
    let cell: Cell = "l2".parse().unwrap();
    for n in 1..=230 {
        let key = keys::user_index(&owner, &UploadId::from_parts(&cell, now.unix_ms() + n, 1));
        let put = world
            .store
            .put(&key, bytes::Bytes::new(), PutOptions::default());
        put.await.unwrap();
    }
    let (none, cursor) = page(&world, &replica, "filter.secret", "?state=queued").await;
    assert!(none.is_empty(), "{none:?}");
    let query = format!("?state=queued&cursor={}", cursor.unwrap());
    let (some, end) = page(&world, &replica, "filter.secret", &query).await;
    assert!(some.contains(&wanted), "{some:?}");
    assert_eq!(end, None);
}
