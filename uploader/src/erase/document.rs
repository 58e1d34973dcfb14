//! The documents of an erasure: the wish, the line in the audit trail, and the tombstone. Pure.

use jiff::Timestamp;
use kinora_storage::documents::{
    Checksums, Document, ERASED, Owner, Record, RecordState, Times, VERSION,
};
use kinora_storage::{UploadId, keys};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A tombstone ends every life a job may still have or get: nothing is made again of what was erased.
const LAST_LIFE: i64 = i32::MAX as i64;

/// `erase/<hh>/<id>`: the wish to erase a video, until a day after it was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erasure {
    /// Version.
    pub v: u32,
    /// The video.
    pub id: UploadId,
    /// Its tenant.
    pub tenant: String,
    /// Who asked.
    pub by: Owner,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub requested: Timestamp,
    /// The video's place in its owner's index, which the tombstone does not know any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_key: Option<String>,
    /// Whose outputs go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_uid: Option<String>,
    /// Versions that a lock of the bucket kept from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<u64>,
    /// When it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Timestamp>,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Document for Erasure {
    const WHAT: &'static str = "erasure";
}

/// What happened to a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happened {
    /// It was stored.
    Requested,
    /// The policy is against it.
    Refused,
    /// A hold is.
    Held,
    /// It was carried out.
    Erased,
}

/// `audit/erase/<day>/<ms>-<id>-<random>`: written once, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Version.
    pub v: u32,
    /// The video.
    pub id: UploadId,
    /// Its tenant.
    pub tenant: String,
    /// What happened.
    pub happened: Happened,
    /// Who asked.
    pub by: Owner,
    /// Why.
    pub reason: String,
    /// Versions that a lock of the bucket kept from being erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<u64>,
    /// When this happened.
    pub at: Timestamp,
}

impl Document for AuditLine {
    const WHAT: &'static str = "audit line";
}

/// What stays of a video: that there was one of this tenant, how it ended, and when it was erased.
#[must_use]
pub fn tombstone(id: &UploadId, tenant: &str, record: Option<&Record>, now: Timestamp) -> Record {
    Record {
        v: VERSION,
        id: id.to_string(),
        owner: None,
        tenant: tenant.to_owned(),
        state: record.map_or(RecordState::Cancelled, |record| record.state),
        // Nobody redrives it.
        dead_lettered: false,
        job: record.and_then(|record| record.job.clone()),
        reason: kinora_upload_engine::document::ERASED.to_owned(),
        message: None,
        key: keys::video(id),
        size: None,
        checksum: Checksums::default(),
        duration: None,
        attempts: record.map_or(0, |record| record.attempts),
        redrives: LAST_LIFE,
        outputs: Vec::new(),
        result: None,
        index_key: None,
        times: Times {
            finished: record.and_then(|record| record.times.finished),
            ..Times::default()
        },
        extra: Map::from_iter([(ERASED.to_owned(), now.to_string().into())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers: F55
    #[test]
    fn a_tombstone_knows_nobody_and_ends_every_life() {
        let id: UploadId = "a-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        let record: Record = serde_json::from_value(serde_json::json!({
            "v": 1, "id": id.as_str(), "owner": {"iss": "apikey", "sub": "jane.doe"}, "tenant": "acme",
            "state": "failed", "deadLettered": true, "reason": "FailuresExhausted", "message": "jane.doe's",
            "key": "videos/k", "size": 9, "redrives": 2, "attempts": 7, "indexKey": "users/jane.doe/1",
            "result": {"face": "jane.doe"}, "outputs": [{"name": "jane.doe", "uri": "x"}],
            "metadata": {"filename": "jane.doe.mp4"},
        }))
        .unwrap();
        let stone = tombstone(&id, "acme", Some(&record), Timestamp::UNIX_EPOCH);
        let text = serde_json::to_string(&stone).unwrap();
        assert!(!text.contains("jane.doe"), "{text}");
        assert!(stone.is_tombstone() && !record.is_tombstone());
        assert!(stone.may_follow(&record) && stone.ends(record.redrives + 1));
        assert!(!stone.dead_lettered);
    }
}
