//! The retention cleaner on a real store, with both clocks set ahead. covers: F51, F52, F53, T24

use jiff::SignedDuration;
use kinora_operator::cleaner::{Cleaner, Report};
use kinora_operator::metrics::Upkeep;
use kinora_operator::ports::Leadership;
use kinora_storage::{UploadId, keys};
use serde_json::json;

use crate::{Site, mint, now};

const DAY: i64 = 86_400;

fn cleaner(site: &Site, days: u32, ahead_days: i64) -> Cleaner {
    Cleaner {
        store: site.store.clone(),
        leadership: site.leads.subscribe(),
        days,
        per_second: 100_000,
        ahead: SignedDuration::from_secs(ahead_days * DAY),
        upkeep: Upkeep::default(),
    }
}

/// Everything that one video leaves in the store.
async fn video(site: &Site) -> (UploadId, Vec<String>) {
    let id = mint();
    site.record(&id, 0, true, &now()).await;
    let all = vec![
        keys::video(&id),
        keys::record_for_upload(&id),
        format!("users/o/{id}"),
        keys::dead(id.day(), id.as_str()),
        format!(
            "{}video",
            keys::outputs_prefix(id.day(), &format!("uid-{id}"), 1, "0a1b2c3d")
        ),
    ];
    for key in all.iter().filter(|key| !key.starts_with(keys::RECORDS)) {
        site.put(key, &json!({})).await;
    }
    (id, all)
}

async fn left(site: &Site, keys: &[String]) -> usize {
    let mut left = 0;
    for key in keys {
        left += usize::from(site.has(key).await);
    }
    left
}

#[tokio::test]
async fn what_is_due_goes_with_a_note_and_what_is_held_open_or_early_stays() {
    let site = Site::new().await;
    let (_, old) = video(&site).await;
    let (held, held_keys) = video(&site).await;
    let (open, open_keys) = video(&site).await;
    site.put(&keys::hold(held.as_str()), &json!({})).await;
    site.decide(&open, "accepted", 1).await;

    let early = cleaner(&site, 1827, 1827).pass().await.unwrap();
    assert_eq!(early, Report::default(), "the last day is not over");
    assert_eq!(left(&site, &old).await, old.len());

    let report = cleaner(&site, 1827, 1829).pass().await.unwrap();
    assert_eq!((report.deleted, report.objects), (1, 5), "{report:?}");
    assert_eq!(left(&site, &old).await, 0);
    assert_eq!(left(&site, &held_keys).await, held_keys.len());
    assert_eq!(left(&site, &open_keys).await, open_keys.len());
    let notes = site.store.list("retention/audit/", None, 10).await.unwrap();
    assert_eq!(notes.entries.len(), 1);
    let note = site.json(&notes.entries[0].key).await;
    let named = note["keys"].as_array().unwrap();
    assert!(old.iter().all(|key| named.contains(&json!(key))), "{note}");
    // Once more: nothing is left to do.
    assert_eq!(cleaner(&site, 1827, 1829).pass().await.unwrap().deleted, 0);
}

/// Its VideoJob was lost by accident and made again: the record names the outputs of the second only.
#[tokio::test]
async fn outputs_that_no_record_names_go_when_their_day_is_empty() {
    let site = Site::new().await;
    let (id, keys) = video(&site).await;
    let (held, held_keys) = video(&site).await;
    site.put(&keys::hold(held.as_str()), &json!({})).await;
    let lost = keys::outputs_prefix(id.day(), "uid-before", 1, "0a1b2c3d");
    let orphans = [format!("{lost}video"), format!("{lost}thumbnail")];
    for key in &orphans {
        site.put(key, &json!({})).await;
    }
    cleaner(&site, 30, 40).pass().await.unwrap();
    assert_eq!(left(&site, &keys).await, 0);
    assert_eq!(left(&site, &held_keys).await, held_keys.len());
    assert_eq!(
        left(&site, &orphans).await,
        2,
        "they may be of what is held"
    );

    site.store.delete(&keys::hold(held.as_str())).await.unwrap();
    let early = cleaner(&site, 30, 30).pass().await.unwrap();
    assert_eq!((early.deleted, left(&site, &orphans).await), (0, 2));
    cleaner(&site, 30, 40).pass().await.unwrap();
    assert_eq!(left(&site, &orphans).await, 0);
    let notes = site.store.list("retention/audit/", None, 10).await.unwrap();
    let mut named = Vec::new();
    for note in notes.entries {
        named.push(site.json(&note.key).await["ids"].to_string());
    }
    assert!(
        named.iter().any(|ids| ids.contains("uid-before")),
        "{named:?}"
    );
}

#[tokio::test]
async fn a_shorter_period_does_not_reach_back() {
    let site = Site::new().await;
    cleaner(&site, 1827, 0).pass().await.unwrap();
    let (_, keys) = video(&site).await;
    assert_eq!(cleaner(&site, 30, 100).pass().await.unwrap().deleted, 0);
    assert_eq!(left(&site, &keys).await, keys.len());
    assert_eq!(cleaner(&site, 30, 1829).pass().await.unwrap().deleted, 1);
}

/// No leader, or clocks that differed: the day itself was not noted.
#[tokio::test]
async fn a_day_that_nobody_noted_has_the_longest_period_of_its_neighbours() {
    for noted in [-3, 3] {
        let site = Site::new().await;
        cleaner(&site, 1827, noted).pass().await.unwrap();
        cleaner(&site, 30, -noted).pass().await.unwrap();
        let (_, keys) = video(&site).await;
        assert_eq!(cleaner(&site, 30, 100).pass().await.unwrap().deleted, 0);
        assert_eq!(left(&site, &keys).await, keys.len());
        assert_eq!(cleaner(&site, 30, 1829).pass().await.unwrap().deleted, 1);
    }
}

#[tokio::test]
async fn what_cannot_be_read_stays_and_keeps_nothing_else_from_going() {
    let site = Site::new().await;
    let (_, sound) = video(&site).await;
    let (newer, of_newer) = video(&site).await;
    site.put(&keys::record_for_upload(&newer), &json!({"v": 99}))
        .await;
    let pass = cleaner(&site, 30, 40).pass().await.unwrap();
    assert_eq!((pass.deleted, pass.unusable), (1, 1), "{pass:?}");
    assert_eq!(left(&site, &sound).await, 0);
    assert_eq!(left(&site, &of_newer).await, of_newer.len());

    let (_, third) = video(&site).await;
    site.put(&keys::retention(newer.day()), &json!({"v": 99}))
        .await;
    let pass = cleaner(&site, 30, 40).pass().await.unwrap();
    assert_eq!(pass.deleted, 0, "of a day whose period cannot be read");
    assert!(pass.unusable > 0, "{pass:?}");
    assert_eq!(left(&site, &third).await, third.len());
}

#[tokio::test]
async fn a_video_without_a_record_goes_by_its_own_dates_and_a_standby_deletes_nothing() {
    let site = Site::new().await;
    let id = mint();
    site.put(&keys::video(&id), &json!({})).await;
    site.put("videos/not-a-day/x", &json!({})).await;
    site.leads.send_replace(Leadership::Standby {
        leader_address: None,
    });
    assert!(cleaner(&site, 30, 40).pass().await.is_err());
    assert!(site.has(&keys::video(&id)).await);
    site.leads.send_replace(Leadership::Leader);
    assert_eq!(cleaner(&site, 30, 40).pass().await.unwrap().deleted, 1);
    assert!(!site.has(&keys::video(&id)).await);
    assert!(site.has("videos/not-a-day/x").await);
}

/// covers: F54
#[tokio::test]
async fn a_video_that_somebody_else_deleted_is_missed_and_what_needs_none_is_not() {
    let site = Site::new().await;
    for state in ["rejected", "failed", "succeeded"] {
        // Nothing of these was ever to be kept.
        let id = mint();
        let mut record = json!({
            "v": 1, "id": id, "tenant": "acme", "state": state, "key": keys::video(&id), "redrives": 0, "times": {},
            "reason": if state == "failed" { "StoreLost" } else { "Completed" },
        });
        if state == "succeeded" {
            record["erased"] = json!("2026-01-01T00:00:00Z");
        }
        site.put(&keys::record_for_upload(&id), &record).await;
    }
    let sound = video(&site).await;
    let lost = video(&site).await;
    let sample = |report: Report| (report.whole, report.missing);
    let found = cleaner(&site, 1827, 0).pass().await.unwrap();
    assert_eq!(sample(found), (2, 0), "all of today fits into a sample");

    site.store.delete(&keys::video(&lost.0)).await.unwrap();
    let found = cleaner(&site, 1827, 0).pass().await.unwrap();
    assert_eq!(sample(found), (1, 1));

    // What retention takes is not missed, on the day of its end or later.
    let after = cleaner(&site, 1827, 1829).pass().await.unwrap();
    assert_eq!(after.deleted, 5);
    assert!(!site.has(&keys::video(&sound.0)).await);
    let after = cleaner(&site, 1827, 1829).pass().await.unwrap();
    assert_eq!(sample(after), (0, 0));
}
