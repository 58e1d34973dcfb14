//! `GET /v1/videos`: pages, filters, and nobody else's videos. covers: T26, S8

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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

/// What a cursor names, as any client can read it.
fn named(cursor: &str) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap()
}

/// The videos of one key that belong to another tenant, as it was moved there.
#[tokio::test]
async fn a_cursor_tells_no_id_of_another_tenant_and_what_comes_after_theirs_is_found() {
    let world = World::new("l3").await;
    world.admit("mover", "rival", &["kinora:upload"]);
    let theirs = world.replica().await;
    world.admit("mover", "acme", &["kinora:upload"]);
    let replica = world.replica().await;
    let mut ids = Vec::new();
    for place in [&theirs, &replica, &theirs, &theirs, &replica, &theirs] {
        ids.push(world.upload(place, "mover.secret").await);
    }
    let mut mine = [ids[4].clone(), ids[1].clone()];
    mine.sort_by_key(|id| std::cmp::Reverse(id.parse::<UploadId>().unwrap().unix_ms()));
    for (query, want) in [("?limit=1&", 1), ("?state=queued&limit=1&", 1), ("?", 2)] {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let query = format!("{query}{cursor}");
            let (some, next) = page(
                &world,
                &replica,
                "mover.secret",
                query.trim_end_matches('&'),
            )
            .await;
            assert_eq!(some.len(), want, "{query}");
            all.extend(some);
            let Some(next) = next else { break };
            let named = named(&next);
            assert!(named.ends_with(&mine[0]), "{query}: {named}");
            cursor = format!("cursor={next}");
        }
        assert_eq!(all, mine, "{query}");
    }
}

#[tokio::test]
async fn a_page_reads_at_most_200_videos_and_may_be_empty() {
    let world = World::new("l2").await;
    world.admit("filter", "acme", &["kinora:upload"]);
    let replica = world.replica().await;
    let wanted = world.upload(&replica, "filter.secret").await;
    // Newer ones whose records are past their retention.
    let owner = keys::owner_hash("apikey", "filter");
    let now: UploadId = wanted.parse().unwrap();
    let cell: Cell = "l2".parse().unwrap();
    let mut others = Vec::new();
    for n in 1..=230 {
        let id = UploadId::from_parts(&cell, now.unix_ms() + n, 1);
        let key = keys::user_index(&owner, &id);
        others.push(id.to_string());
        let put = world
            .store
            .put(&key, bytes::Bytes::new(), PutOptions::default());
        put.await.unwrap();
    }
    for filter in ["?state=queued", "?limit=100"] {
        let (none, cursor) = page(&world, &replica, "filter.secret", filter).await;
        assert!(none.is_empty(), "{none:?}");
        let cursor = cursor.unwrap();
        let named = named(&cursor);
        assert!(!others.iter().any(|id| named.ends_with(id)), "{named}");
        let query = format!("{filter}&cursor={cursor}");
        let (some, end) = page(&world, &replica, "filter.secret", &query).await;
        assert_eq!((some, end), (vec![wanted.clone()], None));
    }
}
