//! The key layout: every key is a pure function of ids, days and hashes.
//! Names and content types from clients never become part of a key.

use sha2::{Digest, Sha256};

use crate::id::{Day, UploadId, hh};

/// Unfinished uploads: state objects and tail slices.
pub const UPLOADS: &str = "up/";
/// The outbox.
pub const PENDING: &str = "pending/";
/// Finished videos.
pub const VIDEOS: &str = "videos/";
/// Decisions of videos that are not final.
pub const ACTIVE: &str = "active/";
/// Final records.
pub const RECORDS: &str = "records/";
/// Owners' listings.
pub const USERS: &str = "users/";
/// What processing made.
pub const OUTPUTS: &str = "outputs/";
/// Wishes to erase.
pub const ERASURES: &str = "erase/";
/// Where the self-test works.
pub const SELF_TEST: &str = "control/selftest/";

/// All 256 values of `<hh>`, ascending: the shards of a sweep.
pub fn shards() -> impl Iterator<Item = String> {
    (0..=255_u8).map(|byte| format!("{byte:02x}"))
}

/// `up/<hh>/<id>/`: everything of one unfinished upload.
#[must_use]
pub fn upload_prefix(id: &UploadId) -> String {
    format!("{UPLOADS}{}/{id}/", id.hh())
}

/// The one object whose compare-and-swap decides everything about an unfinished upload.
#[must_use]
pub fn state(id: &UploadId) -> String {
    format!("{}state", upload_prefix(id))
}

/// A slice of part `part` (from 0) written by epoch `epoch`: bytes `from` up to but not including `to` of the file.
#[must_use]
pub fn tail(id: &UploadId, part: u64, epoch: u64, from: u64, to: u64) -> String {
    format!("{}tail/{part}/{epoch}/{from}-{to}", upload_prefix(id))
}

/// The outbox entry.
#[must_use]
pub fn pending(id: &UploadId) -> String {
    format!("{PENDING}{}/{id}", id.hh())
}

/// The video itself.
#[must_use]
pub fn video(id: &UploadId) -> String {
    format!("{VIDEOS}{}/{}/{id}", id.day(), id.hh())
}

/// The decision on a video that is not final.
#[must_use]
pub fn active(id: &UploadId) -> String {
    format!("{ACTIVE}{}/{id}", id.hh())
}

/// The final record of an upload.
#[must_use]
pub fn record_for_upload(id: &UploadId) -> String {
    record(id.day(), id.as_str())
}

/// The final record of a job that a person declared: its uid and the day of its creationTimestamp.
#[must_use]
pub fn record_for_declared(uid: &str, created: Day) -> String {
    record(created, uid)
}

/// The final record of an id (upload id, or uid of a declared job).
#[must_use]
pub fn record(day: Day, id: &str) -> String {
    format!("{RECORDS}{day}/{}/{id}", hh(id))
}

/// The marker of a dead letter, beside its record.
#[must_use]
pub fn dead(day: Day, id: &str) -> String {
    format!("dead/{day}/{}/{id}", hh(id))
}

/// First 32 hex digits of SHA-256 of issuer, NUL, subject.
#[must_use]
pub fn owner_hash(issuer: &str, subject: &str) -> String {
    let mut digest = sha256([issuer, subject]);
    digest.truncate(32);
    digest
}

/// `users/<owner-hash>/`: an owner's videos, newest first.
#[must_use]
pub fn user_prefix(owner_hash: &str) -> String {
    format!("{USERS}{owner_hash}/")
}

/// The empty object that lists one video of an owner.
#[must_use]
pub fn user_index(owner_hash: &str, id: &UploadId) -> String {
    format!("{}{}-{id}", user_prefix(owner_hash), id.reverse_time())
}

/// `outputs/<day>/<hh>/<job-uid>/<attempt>-<first 8 hex of the worker's pod uid>/`: after a restore of etcd
/// attempt numbers repeat, and outputs of two pods must not mix.
#[must_use]
pub fn outputs_prefix(day: Day, job_uid: &str, attempt: i64, pod_uid: &str) -> String {
    let pod: String = pod_uid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(8)
        .collect();
    format!("{}{attempt}-{pod}/", outputs_of_job(day, job_uid))
}

/// `outputs/<day>/<hh>/<job-uid>/`: the outputs of all attempts of a job.
#[must_use]
pub fn outputs_of_job(day: Day, job_uid: &str) -> String {
    format!("{OUTPUTS}{day}/{}/{job_uid}/", hh(job_uid))
}

/// The first answer to an `Idempotency-Key` of an owner.
#[must_use]
pub fn idem(owner_hash: &str, idempotency_key: &str) -> String {
    let hash = sha256([owner_hash, idempotency_key]);
    format!("idem/{}/{hash}", hh(&hash))
}

/// `idem/<hh>/`: one of the 256 shards of those answers.
#[must_use]
pub fn idem_shard(hh: &str) -> String {
    format!("idem/{hh}/")
}

/// What one replica counted for an owner on a day.
#[must_use]
pub fn quota(owner_hash: &str, day: Day, replica: &str) -> String {
    format!("quota/{owner_hash}/{day}/{replica}")
}

/// An administrator's hold: retention and erase skip the id.
#[must_use]
pub fn hold(id: &str) -> String {
    format!("holds/{id}")
}

/// The wish to erase a video.
#[must_use]
pub fn erasure(id: &UploadId) -> String {
    format!("{ERASURES}{}/{id}", id.hh())
}

/// A line of the audit trail of erasures: written once, in the order of time within a day.
#[must_use]
pub fn erase_audit(day: Day, unix_ms: i64, id: &UploadId, nonce: u32) -> String {
    format!("audit/erase/{day}/{unix_ms:013}-{id}-{nonce:08x}")
}

/// What the leader of a cell last saw of its control plane.
#[must_use]
pub fn control(cell: &str) -> String {
    format!("control/{cell}")
}

/// The retention period that was in force on a day.
#[must_use]
pub fn retention(day: Day) -> String {
    format!("retention/{day}")
}

/// The upload a listed key belongs to: `up/…/state`, `pending/`, `videos/`, `active/`, `records/`, `users/`.
/// None for keys of declared jobs, tail slices, and anything that is not at its one right place.
#[must_use]
pub fn upload_of(key: &str) -> Option<UploadId> {
    let name = key
        .strip_suffix("/state")
        .filter(|k| k.starts_with(UPLOADS))
        .unwrap_or(key);
    let mut last = name.rsplit('/').next()?;
    if let Some(rest) = key.strip_prefix(USERS) {
        let owner = rest.split('/').next()?;
        last = last.split_once('-')?.1;
        let id: UploadId = last.parse().ok()?;
        return (user_index(owner, &id) == key).then_some(id);
    }
    let id: UploadId = last.parse().ok()?;
    let homes = [
        state(&id),
        pending(&id),
        video(&id),
        active(&id),
        record_for_upload(&id),
    ];
    homes.iter().any(|home| home == key).then_some(id)
}

/// SHA-256 of two strings with a NUL between them, as hex.
fn sha256(parts: [&str; 2]) -> String {
    let mut hash = Sha256::new();
    hash.update(parts[0].as_bytes());
    hash.update([0]);
    hash.update(parts[1].as_bytes());
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a-01arz3ndektsv4rrffq69g5fav";
    const UID: &str = "7d1f0e6c-3f7a-4b0c-9d53-0a1b2c3d4e5f";

    fn id() -> UploadId {
        ID.parse().unwrap()
    }

    #[test]
    fn every_key_is_where_the_layout_says() {
        let day: Day = "2026-03-04".parse().unwrap();
        let owner = owner_hash("apikey", "demo");
        let table = [
            ("state", state(&id()), format!("up/a5/{ID}/state")),
            (
                "a slice: decimals unpadded",
                tail(&id(), 0, 12, 8, 4096),
                format!("up/a5/{ID}/tail/0/12/8-4096"),
            ),
            ("pending", pending(&id()), format!("pending/a5/{ID}")),
            ("video", video(&id()), format!("videos/2016-07-30/a5/{ID}")),
            ("active", active(&id()), format!("active/a5/{ID}")),
            (
                "record of an upload: its own day",
                record_for_upload(&id()),
                format!("records/2016-07-30/a5/{ID}"),
            ),
            (
                "record of a declared job",
                record_for_declared(UID, day),
                format!("records/2026-03-04/fe/{UID}"),
            ),
            (
                "dead letter",
                dead(day, UID),
                format!("dead/2026-03-04/fe/{UID}"),
            ),
            (
                "owner hash",
                owner.clone(),
                "7126f34c86a6192fc40310ac4210dccd".into(),
            ),
            (
                "user index",
                user_index(&owner, &id()),
                format!("users/{owner}/fea9c1c54a2c-{ID}"),
            ),
            (
                "outputs: attempt and the pod's first eight hex digits",
                outputs_prefix(day, UID, 3, "0a1b-2c3d-4e5f-6071"),
                format!("outputs/2026-03-04/fe/{UID}/3-0a1b2c3d/"),
            ),
            ("hold", hold(ID), format!("holds/{ID}")),
            ("control", control("a"), "control/a".into()),
            ("retention", retention(day), "retention/2026-03-04".into()),
            (
                "quota",
                quota(&owner, day, "pod-0"),
                format!("quota/{owner}/2026-03-04/pod-0"),
            ),
        ];
        for (name, got, want) in table {
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn idempotency_keys_hash_the_owner_and_cannot_be_shifted_between_the_two() {
        let key = idem("ab", "c");
        assert_eq!(key.len(), "idem/xx/".len() + 64);
        assert_ne!(key, idem("a", "bc"));
        assert_ne!(owner_hash("a", "bc"), owner_hash("ab", "c"));
        assert!(
            idem("o", "../../x/\0%2f")
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '/')
        );
    }

    #[test]
    fn a_listed_key_gives_its_upload_back_only_from_its_right_place() {
        let owner = owner_hash("i", "s");
        for key in [
            state(&id()),
            pending(&id()),
            video(&id()),
            active(&id()),
            record_for_upload(&id()),
            user_index(&owner, &id()),
        ] {
            assert_eq!(upload_of(&key), Some(id()), "{key}");
        }
        for key in [
            "pending/00/a-01arz3ndektsv4rrffq69g5fav",
            "pending/a5/junk",
            "",
            "state",
            &tail(&id(), 0, 1, 0, 9),
        ] {
            assert_eq!(upload_of(key), None, "{key}");
        }
    }

    #[test]
    fn there_are_256_shards() {
        let all: Vec<_> = shards().collect();
        assert_eq!(
            (all.len(), all[0].as_str(), all[255].as_str()),
            (256, "00", "ff")
        );
    }
}
