//! The order in which retention deletes, and a crash between any two of its writes.

use jiff::SignedDuration;
use kinora_fake_s3::{BUCKET, Behaviour, FakeS3, Fault, Op, Rule};
use kinora_operator::cleaner::Cleaner;
use kinora_operator::metrics::Upkeep;
use kinora_operator::ports::Leadership;
use kinora_storage::{PutOptions, Store, StoreArgs, UploadId, keys};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{mint, now};

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

    /// One pass, five years and two days from now.
    async fn pass(&self) -> bool {
        let (_leads, leadership) = watch::channel(Leadership::Leader);
        let cleaner = Cleaner {
            store: self.store.clone(),
            leadership,
            days: 1827,
            per_second: 100_000,
            ahead: SignedDuration::from_hours(24 * 1829),
            upkeep: Upkeep::default(),
        };
        cleaner.pass().await.is_ok()
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
