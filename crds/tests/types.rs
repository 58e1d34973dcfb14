//! The types read what an API server sends and write only what is set.

// Helpers of a test crate do not count as tests for clippy.toml.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use kinora_crds::{VideoJob, VideoJobRedrive, VideoJobStatus, VideoWorkerPool, state};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn round_trip<T: Serialize + DeserializeOwned>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    serde_json::to_value(typed).unwrap()
}

#[test]
fn every_example_is_read_whole_and_written_back_equal() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let object: Value = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let kind = object["kind"].as_str().unwrap().to_owned();
        let back = match kind.as_str() {
            "VideoJob" => round_trip::<VideoJob>(&object),
            "VideoWorkerPool" => round_trip::<VideoWorkerPool>(&object),
            _ => round_trip::<VideoJobRedrive>(&object),
        };
        assert_eq!(back, object, "{}", path.display());
        kinds.push(kind);
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, ["VideoJob", "VideoJobRedrive", "VideoWorkerPool"]);
}

#[test]
fn fields_and_words_of_a_newer_api_are_read_over() {
    let job: VideoJob = serde_json::from_value(json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "metadata": {"name": "clip"},
        "spec": {"source": {"key": "k", "bucketless": true}, "newField": {}},
        "status": {"state": "Pondering", "mood": "good"},
    }))
    .unwrap();
    assert_eq!(job.state(), "Pondering");
    let pool: VideoWorkerPool = serde_json::from_value(json!({
        "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoWorkerPool", "metadata": {"name": "p"},
        "spec": {"execution": "Dreamed", "service": {"endpoint": "http://s:1", "protocol": "Pigeon"}},
    }))
    .unwrap();
    assert_eq!(pool.spec.execution(), kinora_crds::Execution::Unknown);
    assert_eq!(pool.spec.protocol(), kinora_crds::Protocol::Unknown);
}

#[test]
fn an_empty_status_writes_nothing_and_an_unwritten_job_is_queued() {
    assert_eq!(
        serde_json::to_value(VideoJobStatus::default()).unwrap(),
        json!({})
    );
    assert_eq!(VideoJob::default().state(), state::QUEUED);
}

#[test]
fn redrives_are_those_of_the_status_or_the_annotation_whichever_knows_more() {
    let table = [
        (json!({}), Value::Null, 0),
        (json!({"redrives": 2}), Value::Null, 2),
        (json!({}), json!("1"), 1),
        (json!({"redrives": 2}), json!("1"), 2),
        (json!({"redrives": -1}), json!("no number"), 0),
    ];
    for (status, annotation, want) in table {
        let mut job = json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob", "metadata": {"name": "x"},
            "spec": {"source": {"key": "videos/k"}}, "status": status,
        });
        if annotation.is_string() {
            job["metadata"]["annotations"] = json!({"kinora.dev/redrives": annotation});
        }
        let job: VideoJob = serde_json::from_value(job).unwrap();
        assert_eq!(job.redrives(), want, "{status} {annotation}");
    }
}
