//! Objects of every release are read whole by this one, and the definitions of today keep every field of them.

// Helpers of a test crate do not count as tests for clippy.toml.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kinora_crds::{VideoJob, VideoJobRedrive, VideoWorkerPool};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(path: &Path) -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap() != "README.md");
    paths.sort();
    paths
}

/// Every object of every release, with its file.
fn golden() -> Vec<(PathBuf, Value)> {
    let versions = below(&root().join("golden"));
    let releases = versions.iter().flat_map(|version| below(version));
    let files = releases.flat_map(|release| below(&release));
    files.map(|path| (path.clone(), yaml(&path))).collect()
}

fn definition(kind: &Value) -> Value {
    let all = below(&root().join("generated")).into_iter();
    let mut all = all.map(|path| yaml(&path));
    all.find(|crd| crd["spec"]["names"]["kind"] == *kind)
        .unwrap()
}

fn round_trip<T: Serialize + DeserializeOwned>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    serde_json::to_value(typed).unwrap()
}

/// Fields of a value that a schema does not know: what an API server would drop.
fn pruned(at: &str, value: &Value, schema: &Value, out: &mut Vec<String>) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let at = format!("{at}.{name}");
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (Value::Null, Value::Null) => out.push(at),
                    (Value::Null, values) => pruned(&at, value, values, out),
                    (known, _) => pruned(&at, value, known, out),
                }
            }
        }
        Value::Array(items) => {
            let each = items.iter().enumerate();
            each.for_each(|(n, item)| pruned(&format!("{at}[{n}]"), item, &schema["items"], out));
        }
        scalar => {
            let fits = match schema["type"].as_str() {
                Some("integer") => scalar.is_i64(),
                Some("number") => scalar.is_number(),
                Some("boolean") => scalar.is_boolean(),
                Some("string") => scalar.is_string(),
                _ => schema["x-kubernetes-int-or-string"] == true,
            };
            if !fits {
                out.push(format!("{at} is no {}", schema["type"]));
            }
        }
    }
}

/// covers: F57
#[test]
fn what_any_release_stored_is_read_and_written_back_whole() {
    let mut kinds = BTreeSet::new();
    for (path, object) in golden() {
        let back = match object["kind"].as_str().unwrap() {
            "VideoJob" => round_trip::<VideoJob>(&object),
            "VideoWorkerPool" => round_trip::<VideoWorkerPool>(&object),
            _ => round_trip::<VideoJobRedrive>(&object),
        };
        assert_eq!(back, object, "{}", path.display());
        kinds.insert(object["kind"].to_string());
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

/// covers: F56, F57
#[test]
fn the_versions_of_every_release_are_served_and_none_of_their_fields_is_dropped() {
    for (path, object) in golden() {
        let crd = definition(&object["kind"]);
        let versions = crd["spec"]["versions"].as_array().unwrap();
        let stored = versions.iter().filter(|version| version["storage"] == true);
        assert_eq!(stored.count(), 1);
        let wanted = object["apiVersion"].as_str().unwrap().rsplit('/').next();
        let version = versions.iter().find(|v| v["name"].as_str() == wanted);
        let version = version.unwrap_or_else(|| panic!("{}: not there", path.display()));
        assert_eq!(version["served"], true, "{}", path.display());
        for part in ["spec", "status"] {
            let schema = &version["schema"]["openAPIV3Schema"]["properties"][part];
            let mut lost = Vec::new();
            pruned(part, &object[part], schema, &mut lost);
            assert_eq!(lost, Vec::<String>::new(), "{}", path.display());
        }
    }
}

/// The folder of the present release names every field of its definitions, so that later ones are held to all of them.
#[test]
fn the_objects_of_this_release_have_every_field() {
    let release = root()
        .join("golden/v1alpha1")
        .join(env!("CARGO_PKG_VERSION"));
    let objects: Vec<Value> = below(&release).iter().map(|path| yaml(path)).collect();
    for kind in ["VideoJob", "VideoJobRedrive", "VideoWorkerPool"] {
        let crd = definition(&kind.into());
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            let fields = schema["properties"][part]["properties"]
                .as_object()
                .unwrap();
            for field in fields.keys() {
                let of_kind = objects.iter().filter(|object| object["kind"] == kind);
                let has = of_kind.clone().any(|object| !object[part][field].is_null());
                assert!(has, "{kind}: no object has {part}.{field}");
            }
        }
    }
}
