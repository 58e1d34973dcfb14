use super::*;
use serde_json::json;

fn record() -> Value {
    json!({
        "v": 1, "id": "a-01arz3ndektsv4rrffq69g5fav", "tenant": "demo", "state": "failed", "reason": "FailuresExhausted",
        "key": "videos/x", "attempts": 5, "redrives": 1, "laterField": {"deep": [1, 2]},
    })
}

#[test]
fn fields_of_a_later_version_survive_a_rewrite() {
    let record: Record = decode(record().to_string().as_bytes()).unwrap();
    let again: Value = serde_json::from_slice(&encode(&record).unwrap()).unwrap();
    assert_eq!(again["laterField"], json!({"deep": [1, 2]}));
    assert_eq!(again["state"], "failed");
    assert!(
        again.get("owner").is_none() && again.get("outputs").is_none(),
        "absent stays absent: {again}"
    );
}

#[test]
fn a_higher_version_is_refused_whatever_its_fields() {
    for bytes in [
        r#"{"v":2}"#,
        r#"{"v":2,"id":7}"#,
        r#"{"v":18446744073709551615}"#,
    ] {
        let error = decode::<Record>(bytes.as_bytes()).unwrap_err();
        assert!(
            matches!(error, DocumentError::Newer { .. }),
            "{bytes}: {error}"
        );
        assert!(error.to_string().contains("upgrade"), "{error}");
    }
}

#[test]
fn what_is_no_document_is_unreadable() {
    for bytes in ["", "[]", "{}", r#"{"v":1}"#, r#"{"v":"1"}"#, "\0"] {
        assert!(
            matches!(
                decode::<Pending>(bytes.as_bytes()),
                Err(DocumentError::Unreadable { .. })
            ),
            "{bytes}"
        );
    }
}

#[test]
fn a_pending_entry_reads_back_as_written() {
    let bytes = json!({
        "v": 1, "id": "a-01arz3ndektsv4rrffq69g5fav", "owner": {"iss": "apikey", "sub": "demo"}, "tenant": "demo",
        "profile": "default", "length": 9, "partSize": 8_388_608, "key": "videos/x", "indexKey": "users/y",
        "job": {"kind": "VideoJob", "spec": {"source": {"key": "videos/x"}}}, "times": {"created": "2026-03-04T05:06:07Z"},
    });
    let pending: Pending = decode(bytes.to_string().as_bytes()).unwrap();
    assert_eq!(
        pending.owner.hash(),
        crate::keys::owner_hash("apikey", "demo")
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&encode(&pending).unwrap()).unwrap(),
        bytes
    );
}

#[test]
fn a_record_is_followed_only_by_a_later_one() {
    let stored: Record = decode(record().to_string().as_bytes()).unwrap();
    let table = [
        ("the same again", 1, 5, true),
        ("a later attempt", 1, 6, true),
        ("a later redrive with fewer attempts", 2, 1, true),
        ("an earlier attempt", 1, 4, false),
        ("an earlier redrive with more attempts", 0, 9, false),
    ];
    for (name, redrives, attempts, want) in table {
        let next = Record {
            redrives,
            attempts,
            ..stored.clone()
        };
        assert_eq!(next.may_follow(&stored), want, "{name}");
    }
    assert!(stored.ends(0) && stored.ends(1) && !stored.ends(2));
}
