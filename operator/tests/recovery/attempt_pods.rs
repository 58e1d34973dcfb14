//! The pods of attempts at an API server: made once under their name, found by a read of their own, removed by uid.

use kinora_crds::VideoWorkerPool;
use kinora_operator::core::seams::{AttemptPod, AttemptPods, Made, Removed};
use kinora_operator::pods::attempt::{Maker, PodMaker};
use kinora_operator::pools::template::WorkerDefaults;
use kinora_operator::ports::PoolKey;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use serde_json::json;

use crate::api::{Api, Fault};

const POD: &str = "/api/v1/namespaces/videos/pods/clip-a3";

fn of() -> AttemptPod {
    AttemptPod {
        namespace: "videos".into(),
        job_name: "clip".into(),
        job_uid: "3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a11".into(),
        attempt: 3,
    }
}

fn pool() -> PoolKey {
    PoolKey {
        namespace: "videos".into(),
        name: "films".into(),
    }
}

/// A maker that knows one pool.
async fn maker() -> (Api, PodMaker) {
    let (api, client) = Api::start().await;
    let (known, mut writer) = reflector::store();
    let films: VideoWorkerPool = serde_json::from_value(json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool",
        "metadata": {"name": "films", "namespace": "videos", "uid": "p-1"},
        "spec": {"service": {"endpoint": "http://service:9000"}, "execution": "PodPerAttempt"},
    }))
    .unwrap();
    writer.apply_watcher_event(&Event::Apply(films));
    let workers = WorkerDefaults {
        image: "worker:1".into(),
        image_pull_policy: None,
        operator_namespace: "kinora-system".into(),
        log_level: "info".into(),
        otlp_endpoint: None,
    };
    let maker = PodMaker::new(client, known, workers, Maker::new(&[1; 32]));
    (api, maker)
}

#[tokio::test]
async fn a_pod_is_made_once_and_a_second_make_finds_it() {
    let (api, maker) = maker().await;
    assert_eq!(maker.make(of(), pool()).await, Made::Yes);
    let pod = api.object(POD).expect("it is there");
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], "clip");
    assert_eq!(
        maker.make(of(), pool()).await,
        Made::Yes,
        "ours is as good as new"
    );
    assert_eq!(api.created().len(), 1);
    assert_eq!(maker.find(of()).await, Made::Yes);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_no_answer_and_the_pod_is_found_later() {
    let (api, maker) = maker().await;
    api.fault(Fault::LoseAnswer);
    assert_eq!(maker.make(of(), pool()).await, Made::Unknown);
    assert_eq!(maker.find(of()).await, Made::Yes);
    assert_eq!(api.created().len(), 1);
}

/// covers: S11
#[tokio::test]
async fn what_the_server_says_decides_whether_it_is_tried_again() {
    let table = [
        ("over a quota", 403, false),
        ("an admission policy", 422, false),
        ("too many requests", 429, true),
        ("a server in trouble", 500, true),
    ];
    for (name, code, unclear) in table {
        let (api, maker) = maker().await;
        api.fault(Fault::Refuse(code));
        let made = maker.make(of(), pool()).await;
        assert_eq!(made == Made::Unknown, unclear, "{name}: {made:?}");
        assert_eq!(matches!(made, Made::No(_)), !unclear, "{name}: {made:?}");
        assert!(api.created().is_empty());
    }
}

#[tokio::test]
async fn without_its_pool_nothing_is_asked_of_the_server() {
    let (api, maker) = maker().await;
    let gone = PoolKey {
        name: "gone".into(),
        ..pool()
    };
    assert!(matches!(maker.make(of(), gone).await, Made::No(_)));
    assert!(api.created().is_empty());
}

/// A new leader would wait for its Hello for as long as a pod may take to start.
#[tokio::test]
async fn a_pod_that_ended_before_it_reported_is_not_found() {
    for phase in ["Failed", "Succeeded"] {
        let (api, maker) = maker().await;
        assert_eq!(maker.make(of(), pool()).await, Made::Yes);
        let mut over = api.object(POD).unwrap();
        over["status"] = json!({"phase": phase});
        api.put(POD, over);
        for made in [maker.find(of()).await, maker.make(of(), pool()).await] {
            assert!(matches!(made, Made::No(_)), "{phase}: {made:?}");
        }
    }
}

/// covers: S16
#[tokio::test]
async fn a_pod_of_that_name_that_the_operator_did_not_make_is_not_taken_for_its_own() {
    let (api, maker) = maker().await;
    assert_eq!(maker.make(of(), pool()).await, Made::Yes);
    let mut forged = api.object(POD).unwrap();
    forged["metadata"]["annotations"] = json!({});
    api.put(POD, forged);
    for made in [maker.find(of()).await, maker.make(of(), pool()).await] {
        assert!(matches!(made, Made::No(_)), "{made:?}");
    }
    api.remove(POD);
    assert!(
        matches!(maker.find(of()).await, Made::No(_)),
        "it is missing"
    );
}

#[tokio::test]
async fn only_the_very_pod_is_removed_and_never_its_successor() {
    let (api, maker) = maker().await;
    assert_eq!(maker.make(of(), pool()).await, Made::Yes);
    let uid = api.object(POD).unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let remove = |uid: &str| maker.remove("videos".into(), "clip-a3".into(), uid.to_owned());
    assert_eq!(remove("another").await, Removed::Missing);
    assert!(api.object(POD).is_some());
    assert_eq!(remove(&uid).await, Removed::Asked);
    assert!(api.object(POD).is_none());
    assert_eq!(api.deletes()[1]["gracePeriodSeconds"], 10);
    assert_eq!(remove(&uid).await, Removed::Missing);
    api.fault(Fault::Refuse(500));
    assert_eq!(remove(&uid).await, Removed::Unknown);
}
