//! A control plane that goes back in time is found out, and noted for whoever leads next. covers: F25

use jiff::{SignedDuration, Timestamp};
use kinora_engine::Wall;
use kinora_engine::event::History;
use kinora_operator::audit::past::{Past, WentBack};
use kinora_operator::metrics::Metrics;
use kinora_operator::ports::Leadership;
use kinora_storage::{Cell, keys};
use serde_json::json;
use tokio::sync::watch;

use crate::api::Api;
use crate::{JOBS, PATIENCE, Site};

fn past(site: &Site, client: &kube::Client, metrics: &Metrics) -> Past {
    Past {
        client: client.clone(),
        store: site.store.clone(),
        cell: Cell::default(),
        jobs_namespace: "videos".into(),
        upkeep: metrics.upkeep(),
    }
}

/// Waits until the leader knows what it may touch.
async fn known_soon(history: &mut watch::Receiver<History>) {
    let known = history.wait_for(|history| *history != History::Unknown);
    tokio::time::timeout(PATIENCE, known)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_control_plane_that_went_back_is_remembered_for_whoever_leads_next() {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let metrics = Metrics::default();
    let past = past(&site, &client, &metrics);
    let (cluster, version) = past.look().await.unwrap();
    assert_eq!(cluster, "cluster-1");
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let rewound = |second: i64| History::Rewound(Wall(second * 1000));
    let steps = [
        (
            "nobody ever looked",
            cluster.as_str(),
            version,
            100,
            rewound(100),
            0,
        ),
        (
            "all is well since",
            cluster.as_str(),
            version + 5,
            200,
            rewound(100),
            0,
        ),
        (
            "restored from a backup",
            cluster.as_str(),
            version + 1,
            300,
            rewound(300),
            1,
        ),
        (
            "a new leader, later",
            cluster.as_str(),
            version + 9,
            400,
            rewound(300),
            1,
        ),
        (
            "another control plane",
            "cluster-2",
            version + 20,
            500,
            rewound(500),
            2,
        ),
    ];
    for (name, cluster, version, second, want, counted) in steps {
        let got = past.note(cluster, version, at(second)).await.unwrap();
        assert_eq!(got, want, "{name}");
        let line = format!("kinora_control_plane_rewinds_total {counted}\n");
        assert!(metrics.encode().unwrap().contains(&line), "{name}");
    }
    let note = site.json(&keys::control("a")).await;
    assert_eq!(note["cluster"], "cluster-2");
    // A version is of the whole control plane, whatever changes in it.
    api.put(&format!("{JOBS}/x"), json!({"metadata": {"name": "x"}}));
    assert!(past.look().await.unwrap().1 > version);
}

/// Versions rise while nobody looks, but not without a bound.
#[tokio::test]
async fn a_busy_control_plane_may_have_come_far_while_the_operator_was_off() {
    let site = Site::new().await;
    let (_api, client) = Api::start().await;
    let metrics = Metrics::default();
    let past = past(&site, &client, &metrics);
    past.note("cluster-1", 7, Timestamp::now()).await.unwrap();
    let soon = Timestamp::now() + SignedDuration::from_hours(1);
    let far_later = soon + SignedDuration::from_hours(12 * 24);
    for (name, version, at, counted) in [
        (
            "twelve days of 500 writes a second",
            518_400_000,
            far_later,
            0,
        ),
        ("as many within an hour", 1_036_800_000, soon, 1),
    ] {
        past.note("cluster-1", version, at).await.unwrap();
        let line = format!("kinora_control_plane_rewinds_total {counted}\n");
        assert!(metrics.encode().unwrap().contains(&line), "{name}");
    }
}

/// The process under which it happens ends; when the next one looks, versions may be higher than ever before.
#[rstest::rstest]
#[case::of_a_backup(|version| version - 1)]
#[case::of_a_backup_whose_revision_was_bumped(|version| version + 1_000_000_000)]
#[tokio::test]
async fn a_rewind_is_noted_by_the_process_under_which_it_happens(#[case] restored: fn(u64) -> u64) {
    let site = Site::new().await;
    let (api, client) = Api::start().await;
    let metrics = Metrics::default();
    let past = || past(&site, &client, &metrics);
    let (cluster, version) = past().look().await.unwrap();
    let long_ago = Timestamp::from_second(1).unwrap();
    past().note(&cluster, 1, long_ago).await.unwrap();
    let (history, mut known) = watch::channel(History::Unknown);
    let went_back = WentBack::default();
    let watching = past().watch(site.leads.subscribe(), history, went_back.clone());
    let watching = tokio::spawn(watching);
    known_soon(&mut known).await;

    api.go_back_to(restored(version));
    // A change of the leader makes it look.
    site.leads.send_replace(Leadership::Leader);
    let ended = tokio::time::timeout(PATIENCE, went_back.noted.cancelled());
    ended.await.unwrap();
    watching.await.unwrap();
    let found = past().note(&cluster, version + 100, Timestamp::now()).await;
    let is_known = matches!(found.unwrap(), History::Rewound(at) if at > Wall(1000));
    assert!(
        is_known,
        "the next leader takes the restored past for its own"
    );
    let counted = metrics.encode().unwrap();
    assert!(counted.contains("kinora_control_plane_rewinds_total 1\n"));
}

/// Versions of the whole control plane do not fall where they were bumped when it was restored: the core sees it by a job.
#[tokio::test]
async fn a_rewind_that_the_core_finds_is_noted_too() {
    let site = Site::new().await;
    let (_api, client) = Api::start().await;
    let metrics = Metrics::default();
    let past = || past(&site, &client, &metrics);
    let (history, mut known) = watch::channel(History::Unknown);
    let went_back = WentBack::default();
    let watching = past().watch(site.leads.subscribe(), history, went_back.clone());
    let watching = tokio::spawn(watching);
    known_soon(&mut known).await;
    let (cluster, version) = past().look().await.unwrap();
    assert_ne!(site.json(&keys::control("a")).await["resourceVersion"], 0);

    went_back.found.cancel();
    let ended = tokio::time::timeout(PATIENCE, went_back.left());
    ended.await.unwrap();
    assert!(went_back.noted.is_cancelled());
    watching.await.unwrap();
    assert_eq!(site.json(&keys::control("a")).await["resourceVersion"], 0);
    let found = past().note(&cluster, version, Timestamp::now()).await;
    assert!(matches!(found.unwrap(), History::Rewound(_)));
}
