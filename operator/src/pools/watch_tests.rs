//! What the core hears of pools over listings, changes and gaps.

use serde_json::json;

use super::*;

fn pool(name: &str, timeout: i64) -> VideoWorkerPool {
    let value = json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
        "metadata": {"name": name, "namespace": "videos", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"service": {"endpoint": "http://svc:1", "timeoutSeconds": timeout}},
    });
    serde_json::from_value(value).unwrap()
}

fn told(events: Vec<PoolEvent>) -> Vec<String> {
    let each = events.into_iter().map(|event| match event {
        PoolEvent::Changed(key, facts) => format!("{} {}", key.name, facts.timeout_ms),
        PoolEvent::Gone(key) => format!("-{}", key.name),
        PoolEvent::Synced => "synced".to_owned(),
    });
    let mut each: Vec<_> = each.collect();
    each.sort();
    each
}

/// covers: F19, F21
#[test]
fn the_core_hears_of_each_change_once_and_of_what_a_gap_hid() {
    let mut teller = Teller {
        told: HashMap::new(),
        listed: None,
        reserved_secrets: vec![],
    };
    let steps: Vec<(&str, Event<VideoWorkerPool>, Vec<&str>)> = vec![
        ("a listing starts", Event::Init, vec![]),
        (
            "its objects wait for its end",
            Event::InitApply(pool("a", 1)),
            vec![],
        ),
        ("so does the second", Event::InitApply(pool("b", 1)), vec![]),
        (
            "then all come, and the end",
            Event::InitDone,
            vec!["a 1000", "b 1000", "synced"],
        ),
        (
            "a status write changes nothing",
            Event::Apply(pool("a", 1)),
            vec![],
        ),
        (
            "a change of the spec is told",
            Event::Apply(pool("a", 2)),
            vec!["a 2000"],
        ),
        ("a deletion too", Event::Delete(pool("b", 1)), vec!["-b"]),
        ("after a gap", Event::Init, vec![]),
        ("one is new", Event::InitApply(pool("c", 1)), vec![]),
        (
            "and what is missing is gone",
            Event::InitDone,
            vec!["-a", "c 1000", "synced"],
        ),
    ];
    for (name, event, want) in steps {
        assert_eq!(told(teller.events_of(&event)), want, "{name}");
    }
}
