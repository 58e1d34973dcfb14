//! The order and the pace in which retention deletes, and a crash between any two of its writes.

use jiff::SignedDuration;
use kinora_fake_s3::{BUCKET, Behaviour, Call, FakeS3, Fault, Op, Rule};
use kinora_operator::cleaner::{CleanError, Cleaner};
use kinora_operator::metrics::Upkeep;
use kinora_operator::ports::Leadership;
use kinora_storage::{PutOptions, Store, StoreArgs, UploadId, keys};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{mint, now, until};

const NOTES: &str = "retention/audit/";

struct Shelf {
    s3: FakeS3,
    store: Store,
}

impl Shelf {
    async fn new() -> Shelf {
        let s3 = FakeS3::start(Behaviour::aws()).unwrap();
        let args = StoreArgs::new(s3.endpoint(), BUCKET, s3.credentials_dir());
        let store = Store::new(&args).unwrap();
        Shelf { s3, store }
    }

    async fn put(&self, key: &str, body: &Value) {
        let body = serde_json::to_vec(body).unwrap();
        let put = self.store.put(key, body.into(), PutOptions::default());
        put.await.unwrap();
    }

    /// A video with all that belongs to it; its keys, the record's last.
    async fn video(&self) -> Vec<String> {
        let id = mint();
        let record = json!({
            "v": 1, "id": id, "tenant": "acme", "state": "failed", "deadLettered": true, "reason": "Poison",
            "key": keys::video(&id), "redrives": 0, "indexKey": format!("users/o/{id}"),
            "job": {"namespace": "videos", "name": format!("vj-{id}"), "uid": format!("uid-{id}")},
            "times": {"finished": now()},
        });
        let outputs = keys::outputs_prefix(id.day(), &format!("uid-{id}"), 1, "0a1b2c3d");
        let all = vec![
            keys::video(&id),
            keys::dead(id.day(), id.as_str()),
            format!("users/o/{id}"),
            format!("{outputs}thumbnail"),
            format!("{outputs}video"),
            record_of(&id),
        ];
        for key in &all {
            let is_record = *key == record_of(&id);
            let body = if is_record { record.clone() } else { json!({}) };
            self.put(key, &body).await;
        }
        all
    }

    /// A record of a good end that nothing else belongs to.
    async fn bare(&self, id: &UploadId) {
        let record = json!({
            "v": 1, "id": id, "tenant": "acme", "state": "succeeded", "reason": "Completed", "key": keys::video(id),
            "redrives": 1, "times": {"finished": now()},
        });
        self.put(&record_of(id), &record).await;
    }

    /// One pass, five years and two days from now.
    async fn pass(&self) -> bool {
        self.cleaner(100_000).pass().await.is_ok()
    }

    fn cleaner(&self, per_second: u32) -> Cleaner {
        Cleaner {
            store: self.store.clone(),
            leadership: watch::channel(Leadership::Leader).1,
            days: 1827,
            per_second,
            ahead: SignedDuration::from_hours(24 * 1829),
            upkeep: Upkeep::default(),
        }
    }

    /// How many records were read.
    fn looks(&self) -> usize {
        let calls = self.s3.journal().calls();
        let is_record = |call: &&Call| call.op == Op::Get && call.key.starts_with(keys::RECORDS);
        calls.iter().filter(is_record).count()
    }

    /// The pass stands still: whoever has not asked by the end of this does not ask.
    async fn settles(&self) {
        for _ in 0..50 {
            self.store.head("absent").await.unwrap();
        }
    }

    fn has(&self, key: &str) -> bool {
        self.s3.object(key).is_some()
    }

    /// Whether some note names this key.
    fn is_noted(&self, key: &str) -> bool {
        self.s3.keys(NOTES).iter().any(|note| {
            let note: Value = serde_json::from_slice(&self.s3.object(note).unwrap()).unwrap();
            note["keys"].as_array().unwrap().contains(&json!(key))
        })
    }
}

fn record_of(id: &UploadId) -> String {
    keys::record_for_upload(id)
}

/// covers: F52, T17, T25
#[tokio::test]
async fn the_note_comes_first_and_the_record_last_wherever_a_pass_breaks_off() {
    let writes = [
        (Op::Put, "retention/", 0),
        (Op::Put, NOTES, 0),
        (Op::DeleteMany, "", 0),
        (Op::DeleteMany, "", 1),
    ];
    for (op, word, n) in writes {
        for fault in [Fault::LostRequest, Fault::LostAnswer] {
            let at = format!("{fault:?} from {op:?} {word} {n} on");
            let shelf = Shelf::new().await;
            let mut videos = Vec::new();
            for _ in 0..3 {
                videos.push(shelf.video().await);
            }
            let rule = Rule::on(op, fault).key(word).after(n);
            shelf.s3.faults().add(rule);
            assert!(!shelf.pass().await, "{at}: it broke off");
            for keys in &videos {
                let (record, others) = keys.split_last().unwrap();
                for gone in keys.iter().filter(|key| !shelf.has(key)) {
                    assert!(shelf.is_noted(gone), "{at}: {gone} went without a note");
                }
                let left = others.iter().filter(|key| shelf.has(key)).count();
                assert!(
                    shelf.has(record) || left == 0,
                    "{at}: {left} objects without their record"
                );
            }
            // The store is back: what was begun is ended, once and for all.
            shelf.s3.faults().clear();
            assert!(shelf.pass().await, "{at}");
            for key in videos.iter().flatten() {
                assert!(!shelf.has(key), "{at}: {key} stays for ever");
                assert!(shelf.is_noted(key), "{at}: {key}");
            }
            let notes = shelf.s3.keys(NOTES).len();
            assert!(shelf.pass().await);
            assert_eq!(shelf.s3.keys(NOTES).len(), notes, "{at}: nothing is left");
        }
    }
}

#[tokio::test]
async fn records_are_looked_at_side_by_side_and_never_too_many() {
    let shelf = Shelf::new().await;
    for _ in 0..40 {
        shelf.video().await;
    }
    let unanswered = Rule::on(Op::Get, Fault::NoAnswer).key(keys::RECORDS);
    shelf.s3.faults().add(unanswered);
    let cleaner = shelf.cleaner(100_000);
    let pass = tokio::spawn(async move { cleaner.pass().await });
    until("16 records asked for", || shelf.looks() >= 16).await;
    shelf.settles().await;
    assert_eq!(shelf.looks(), 16);
    pass.abort();
    shelf.s3.faults().clear();
    assert!(shelf.pass().await);
    assert!(shelf.s3.keys(keys::RECORDS).is_empty());
}

#[tokio::test]
async fn a_video_costs_no_request_but_those_about_itself() {
    let mut requests = Vec::new();
    for videos in [10, 30] {
        let shelf = Shelf::new().await;
        for _ in 0..videos {
            shelf.video().await;
        }
        shelf.s3.journal().clear();
        assert!(shelf.pass().await);
        assert!(shelf.s3.keys(keys::RECORDS).is_empty());
        requests.push(shelf.s3.journal().len());
    }
    // Its record, video, outputs, entry and hold; what is absent is asked for twice.
    assert_eq!(requests[1] - requests[0], 20 * 7, "{requests:?}");
}

#[tokio::test]
async fn records_wait_until_what_they_named_is_paid_for_at_the_capped_rate() {
    let shelf = Shelf::new().await;
    for _ in 0..20 {
        shelf.video().await;
    }
    let cleaner = shelf.cleaner(1);
    let pass = tokio::spawn(async move { cleaner.pass().await });
    until("only the records left", || {
        shelf.s3.keys(keys::VIDEOS).is_empty()
    })
    .await;
    // A hundred objects, and so a hundred seconds.
    shelf.settles().await;
    assert_eq!(shelf.s3.keys(keys::RECORDS).len(), 20);
    assert_eq!(shelf.s3.journal().count(Op::DeleteMany), 1);
    pass.abort();
}

/// A hold that is laid meanwhile counts.
#[tokio::test]
async fn the_next_batch_is_not_looked_at_before_the_last_is_paid_for() {
    let shelf = Shelf::new().await;
    for _ in 0..110 {
        shelf.bare(&mint()).await;
    }
    let cleaner = shelf.cleaner(1);
    let pass = tokio::spawn(async move { cleaner.pass().await });
    until("a hundred gone", || {
        shelf.s3.keys(keys::RECORDS).len() == 10
    })
    .await;
    shelf.settles().await;
    assert_eq!(shelf.looks(), 100);
    pass.abort();
}

/// covers: F51
#[tokio::test]
async fn nothing_goes_while_the_clocks_differ_also_when_they_come_to_within_a_pass() {
    let shelf = Shelf::new().await;
    for _ in 0..300 {
        shelf.bare(&mint()).await;
    }
    for skew in [400, -400] {
        shelf.s3.clock().skew(skew);
        let pass = shelf.cleaner(100_000).pass().await;
        assert!(matches!(pass, Err(CleanError::Clocks(_))), "{pass:?}");
        assert_eq!(shelf.s3.keys(keys::RECORDS).len(), 300);
        shelf.s3.clock().skew(0);
    }
    let cleaner = shelf.cleaner(100_000);
    let pass = tokio::spawn(async move { cleaner.pass().await });
    until("at work", || shelf.looks() > 0).await;
    shelf.s3.clock().skew(400);
    let pass = pass.await.unwrap();
    assert!(matches!(pass, Err(CleanError::Clocks(_))), "{pass:?}");
    assert!(!shelf.s3.keys(keys::RECORDS).is_empty());
}

#[tokio::test]
async fn a_marker_that_its_record_does_not_know_of_goes_all_the_same() {
    let shelf = Shelf::new().await;
    let id = mint();
    let marker = keys::dead(id.day(), id.as_str());
    shelf.bare(&id).await;
    shelf.put(&marker, &json!({})).await;
    assert!(shelf.pass().await);
    assert!(!shelf.has(&record_of(&id)) && !shelf.has(&marker));
    assert!(shelf.is_noted(&marker));
}
