//! What the API promises of every field, checked on the generated definitions.

// Helpers of a test crate do not count as tests for clippy.toml.
#![allow(clippy::unwrap_used)]

use kinora_crds::definitions;
use serde_json::{Value, json};

const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

/// Calls `visit` with the path and schema of everything below.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for (nested, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[nested].is_object() {
            walk(&format!("{path}{mark}"), &schema[nested], visit);
        }
    }
}

fn problems(judge: impl Fn(&str, &Value) -> Option<&'static str>) -> Vec<String> {
    let mut problems = Vec::new();
    for definition in definitions().unwrap() {
        walk(
            &definition.plural,
            definition.json.pointer(SCHEMA).unwrap(),
            &mut |path, schema| {
                problems.extend(judge(path, schema).map(|problem| format!("{path}: {problem}")));
            },
        );
    }
    problems
}

const NONE: [String; 0] = [];

#[test]
fn every_string_list_and_map_has_an_upper_bound() {
    let found = problems(|_, schema| {
        let bounded = |keyword: &str| schema[keyword].is_u64();
        match schema["type"].as_str() {
            Some("string") if schema["format"] == "date-time" || schema["enum"].is_array() => None,
            Some("string") => (!bounded("maxLength")).then_some("no maxLength"),
            Some("array") => (!bounded("maxItems")).then_some("no maxItems"),
            Some("object") if schema["additionalProperties"].is_object() => {
                (!bounded("maxProperties")).then_some("no maxProperties")
            }
            Some(_) => None,
            None if schema["x-kubernetes-int-or-string"] == true => {
                (!bounded("maxLength")).then_some("no maxLength")
            }
            None => Some("no type"),
        }
    });
    assert_eq!(found, NONE);
}

#[test]
fn every_field_is_described_so_that_kubectl_explain_helps() {
    let found = problems(|path, schema| {
        // What the API server lets a schema say of metadata has no room for a description; it has its own.
        let element = path.ends_with("[]") || path.ends_with("{}") || path.contains(".metadata");
        let text = schema["description"].as_str().unwrap_or_default();
        (!element && text.is_empty()).then_some("no description")
    });
    assert_eq!(found, NONE);
}

#[test]
fn numbers_have_standard_formats_and_nothing_is_nullable_or_defaulted_by_accident() {
    let found = problems(|path, schema| {
        let format = schema["format"].as_str().unwrap_or("int32");
        if !["int32", "int64", "double", "date-time"].contains(&format) {
            return Some("a format that is not Kubernetes'");
        }
        if schema["nullable"] == true {
            return Some("nullable");
        }
        let root_status = path.matches('.').count() == 1 && path.ends_with(".status");
        let defaulted = root_status || path == "videoworkerpools.spec.replicas";
        (schema["default"].is_null() == defaulted).then_some("default")
    });
    assert_eq!(found, NONE);
}

#[test]
fn an_unseen_object_is_in_progress_by_default() {
    let want = [
        json!({"observedGeneration": -1, "state": "Queued"}),
        json!({"observedGeneration": -1}),
        json!({"observedGeneration": -1}),
    ];
    for (definition, want) in definitions().unwrap().iter().zip(want) {
        let at = format!("{SCHEMA}/properties/status/default");
        assert_eq!(
            definition.json.pointer(&at),
            Some(&want),
            "{}",
            definition.plural
        );
    }
}

#[test]
fn every_rule_says_what_is_wrong_and_where() {
    let found = problems(|path, schema| {
        let rules = schema["x-kubernetes-validations"].as_array()?;
        let at_a_field = |rule: &Value| {
            rule["fieldPath"].is_string() || path.ends_with(".key") || path.ends_with("valueFrom")
        };
        let complete = |rule: &Value| {
            rule["message"].is_string() && rule["reason"].is_string() && at_a_field(rule)
        };
        (!rules.iter().all(complete)).then_some("a rule without message, reason or fieldPath")
    });
    assert_eq!(found, NONE);
}

#[test]
fn the_length_of_the_name_is_the_only_rule_at_the_root() {
    for definition in definitions().unwrap() {
        let at = format!("{SCHEMA}/x-kubernetes-validations");
        let rules = definition
            .json
            .pointer(&at)
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        assert!(
            rules <= 1,
            "{}: root rules run on every status write and are never ratcheted",
            definition.plural
        );
    }
}

#[test]
fn a_definition_is_far_below_the_size_etcd_and_kubectl_can_take() {
    for definition in definitions().unwrap() {
        let size = serde_json::to_string(&definition.json).unwrap().len();
        assert!(size < 100 * 1024, "{} has {size} bytes", definition.plural);
        definition.crd().unwrap();
    }
}

#[test]
fn columns_selectable_fields_names_and_scale_are_those_of_the_api() {
    let columns = |json: &Value, priority: u64| -> Vec<String> {
        let columns = json
            .pointer("/spec/versions/0/additionalPrinterColumns")
            .unwrap()
            .as_array()
            .unwrap();
        let wanted = columns
            .iter()
            .filter(|c| c["priority"].as_u64().unwrap_or(0) == priority);
        wanted
            .map(|c| c["name"].as_str().unwrap().to_uppercase())
            .collect()
    };
    let all = definitions().unwrap();
    let [job, pool, redrive] = [&all[0].json, &all[1].json, &all[2].json];
    assert_eq!(
        columns(job, 0),
        ["STATE", "ATTEMPT", "POOL", "DURATION", "AGE"]
    );
    assert_eq!(
        columns(job, 1),
        ["TENANT", "WORKER", "REASON", "MESSAGE", "SOURCE"]
    );
    let want = [
        "READY", "DESIRED", "WORKERS", "BUSY", "QUEUED", "RUNNING", "OLDEST", "LIMIT", "AGE",
    ];
    assert_eq!(columns(pool, 0), want);

    let selectable = job.pointer("/spec/versions/0/selectableFields").unwrap();
    let want = [
        ".status.state",
        ".spec.tenant",
        ".spec.poolRef.name",
        ".status.poolName",
    ];
    assert_eq!(
        *selectable,
        json!(want.map(|path| json!({"jsonPath": path})))
    );

    assert_eq!(
        job.pointer("/spec/names/shortNames"),
        Some(&json!(["vjob", "vjobs"]))
    );
    assert_eq!(
        pool.pointer("/spec/names/shortNames"),
        Some(&json!(["vpool", "vpools"]))
    );
    assert_eq!(
        redrive.pointer("/spec/names/shortNames"),
        Some(&json!(["vredrive", "vredrives"]))
    );
    for json in [job, pool, redrive] {
        assert_eq!(
            json.pointer("/spec/names/categories"),
            Some(&json!(["video"]))
        );
        assert!(
            json.pointer("/spec/versions/0/subresources/status")
                .is_some()
        );
    }
    let want = json!({
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    });
    assert_eq!(
        pool.pointer("/spec/versions/0/subresources/scale"),
        Some(&want)
    );
}
