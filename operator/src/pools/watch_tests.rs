//! What the core hears of pools over listings, changes and gaps.

use serde_json::json;

use super::*;
use crate::ports::PoolBacklog;

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

/// Its name, what changes, and the pools that are looked at.
type Step<'a> = (&'a str, &'a dyn Fn(), Vec<&'a str>);

/// A pool that is made while its leader still counts jobs has no counts that could change.
///
/// covers: F19
#[tokio::test]
async fn a_pool_is_looked_at_again_when_anything_changes_that_its_passes_read() {
    let (store, mut writer) = reflector::store();
    for name in ["a", "b"] {
        writer.apply_watcher_event(&Event::Apply(pool(name, 1)));
    }
    let (backlog, backlog_out) = watch::channel(Backlog::default());
    let (leadership, leadership_out) = watch::channel(Leadership::Doubtful);
    let (synced, synced_out) = watch::channel(false);
    let (triggers, mut triggered) = mpsc::channel(16);
    let (standing, standing_out) = watch::channel(Arc::default());
    let (ca_bundle, ca_bundle_out) = watch::channel(String::new());
    let followed = Followed {
        backlog: backlog_out,
        leadership: leadership_out,
        synced: synced_out,
        standing: standing_out,
        ca_bundle: ca_bundle_out,
    };
    let following = tokio::spawn(follow(store, followed, triggers));
    let counts = [(facts::key(&pool("a", 1)), PoolBacklog::default())];
    let counts: Backlog = Arc::new(counts.into());
    let all = vec!["a", "b"];
    let stuck = Arc::new(Standing {
        changes: 1,
        is_listed: true,
        pools: [(facts::key(&pool("b", 1)), 1)].into(),
    });
    let steps: [Step<'_>; 6] = [
        (
            "leads",
            &|| drop(leadership.send_replace(Leadership::Leader)),
            all.clone(),
        ),
        (
            "jobs are counted",
            &|| assert!(!synced.send_replace(true)),
            all.clone(),
        ),
        (
            "one has other counts",
            &|| drop(backlog.send_replace(counts.clone())),
            vec!["a"],
        ),
        (
            "a pod of one cannot start",
            &|| drop(standing.send_replace(stuck.clone())),
            vec!["b"],
        ),
        (
            "another CA",
            &|| drop(ca_bundle.send_replace("ca".to_owned())),
            all.clone(),
        ),
        (
            "jobs are not counted any more",
            &|| assert!(synced.send_replace(false)),
            all.clone(),
        ),
    ];
    for (name, change, want) in steps {
        change();
        let mut got = Vec::new();
        for _ in &want {
            let request = tokio::time::timeout(BACKLOG_PAUSE * 100, triggered.recv()).await;
            let request = request.unwrap_or_else(|_| panic!("{name}: {got:?} of {want:?}"));
            got.push(request.unwrap().obj_ref.name);
        }
        got.sort();
        assert_eq!(got, want, "{name}");
        assert!(triggered.try_recv().is_err(), "{name}: no more than these");
    }
    following.abort();
}

fn names_of(pools: Vec<ObjectRef<VideoWorkerPool>>) -> Vec<String> {
    let mut names: Vec<_> = pools.into_iter().map(|pool| pool.name).collect();
    names.sort();
    names
}

/// Which default pool acts is up to all of them.
#[test]
fn news_of_a_pool_concern_the_default_pools_beside_it_and_a_listing_all() {
    let (store, mut writer) = reflector::store();
    let default = |name: &str, namespace: &str| {
        let mut pool = pool(name, 1);
        pool.spec.default = Some(true);
        pool.metadata.namespace = Some(namespace.to_owned());
        pool
    };
    let all = [
        pool("a", 1),
        pool("b", 1),
        default("c", "videos"),
        default("d", "elsewhere"),
    ];
    for one in all {
        writer.apply_watcher_event(&Event::Apply(one));
    }
    let table = [
        ("a change", Event::Apply(pool("a", 1)), vec!["a", "c"]),
        ("a deletion", Event::Delete(pool("b", 1)), vec!["b", "c"]),
        (
            "of the default",
            Event::Apply(default("c", "videos")),
            vec!["c"],
        ),
        ("a listing begins", Event::Init, vec![]),
        ("and ends", Event::InitDone, vec!["a", "b", "c", "d"]),
    ];
    for (name, event, want) in table {
        let own = named_by(&event).map_or_else(Vec::new, |own| concerned(&store, own));
        assert_eq!(names_of(due(&event, &store, own)), want, "{name}");
    }
}

/// A person removes a Deployment that stands in the way of a pool's own, as the pool asks.
#[test]
fn a_deployment_concerns_the_pool_that_controls_it_or_whose_label_it_has() {
    let owner = |kind: &str| json!([{"apiVersion": "x/v1", "kind": kind, "name": "a", "uid": "u", "controller": true}]);
    let table = [
        ("its own", owner("VideoWorkerPool"), Some("a")),
        ("somebody else's", owner("Job"), None),
        ("nobody's", json!([]), Some("labelled")),
    ];
    for (name, owners, want) in table {
        let deployment: Deployment = serde_json::from_value(json!({"metadata": {
            "name": "x", "namespace": "videos", "ownerReferences": owners, "labels": {"kinora.dev/pool": "labelled"},
        }}))
        .unwrap();
        let got = pool_of(&deployment).map(|pool| pool.name);
        assert_eq!(got.as_deref(), want, "{name}");
    }
}
