//! CEL rules and the few defaults, as data. Rules that compare with the old object stand at the level of the parent:
//! a rule on an optional field is skipped when the field comes or goes.
//!
//! Rules at the root run on every status write and are never ratcheted, so an object that breaks one could not even
//! be finished: the length of the name, which cannot change, is the only one there will ever be.

use serde_json::{Value, json};

use super::DefinitionError;

/// Something put into a schema.
pub(super) struct Addition {
    /// JSON pointer below `openAPIV3Schema`.
    at: String,
    keyword: &'static str,
    value: Value,
}

impl Addition {
    /// Puts it in; rules are appended to those that are there.
    pub(super) fn add_to(self, schema: &mut Value) -> Result<(), DefinitionError> {
        let place = schema.pointer_mut(&self.at).and_then(Value::as_object_mut);
        let Some(place) = place else {
            return Err(DefinitionError::NoSuchPlace { pointer: self.at });
        };
        match (place.get_mut(self.keyword), self.value) {
            (Some(Value::Array(there)), Value::Array(new)) => there.extend(new),
            (_, new) => {
                place.insert(self.keyword.to_owned(), new);
            }
        }
        Ok(())
    }
}

const VALIDATIONS: &str = "x-kubernetes-validations";
const SPEC: &str = "/properties/spec";
const STATUS: &str = "/properties/status";

/// Names get `-workers` or `-a<N>` appended, and stand in labels of at most 63 characters.
const NAME: (&str, &str) = (
    "self.metadata.name.size() <= 52",
    "the name must be at most 52 characters long",
);

pub(super) fn video_job() -> Vec<Addition> {
    let immutable = [
        "source",
        "profile",
        "parameters",
        "tenant",
        "poolRef",
        "maxFailures",
        "startDeadlineSeconds",
        "activeDeadlineSeconds",
    ];
    let mut additions = vec![
        metadata(),
        name_rule(),
        default(STATUS, json!({"observedGeneration": -1, "state": "Queued"})),
        rules(SPEC, immutable.into_iter().map(immutable_rule).collect()),
        rules(SPEC, vec![cancel_rule()]),
        rules(
            STATUS,
            vec![never_lower("attempt"), never_lower("redrives")],
        ),
        rules(
            "/properties/spec/properties/source/properties/key",
            vec![json!({
                "rule": "!self.contains('..')",
                "message": "the key must not contain \"..\"",
                "reason": "FieldValueInvalid",
            })],
        ),
    ];
    additions.extend(string_values("/properties/spec/properties/parameters", 512));
    additions
}

pub(super) fn video_worker_pool() -> Vec<Addition> {
    use crate::pool::defaults::{MAX_REPLICAS, REPLICAS};
    let env = "/properties/spec/properties/template/properties/env/items/properties/valueFrom";
    let mut additions = vec![
        metadata(),
        name_rule(),
        default(STATUS, json!({"observedGeneration": -1})),
        default("/properties/spec/properties/replicas", json!(REPLICAS)),
        rules(
            "/properties/spec/properties/scaling",
            vec![json!({
                "rule": format!("!has(self.minReplicas) || self.minReplicas <= (has(self.maxReplicas) ? self.maxReplicas : {MAX_REPLICAS})"),
                "message": format!("minReplicas must not exceed maxReplicas, which is {MAX_REPLICAS} where it is not set: raise maxReplicas or lower minReplicas"),
                "fieldPath": ".minReplicas",
                "reason": "FieldValueInvalid",
            })],
        ),
        rules(
            env,
            vec![json!({
                "rule": "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                "message": "exactly one of secretKeyRef and configMapKeyRef must be set",
                "reason": "FieldValueInvalid",
            })],
        ),
    ];
    additions.extend(string_values(
        "/properties/spec/properties/template/properties/nodeSelector",
        63,
    ));
    additions
}

pub(super) fn video_job_redrive() -> Vec<Addition> {
    let immutable = [
        "selector",
        "poolName",
        "reasons",
        "finishedBefore",
        "finishedAfter",
        "maxJobs",
        "dryRun",
    ];
    vec![
        default(STATUS, json!({"observedGeneration": -1})),
        rules(SPEC, immutable.into_iter().map(immutable_rule).collect()),
        rules(SPEC, vec![cancel_rule()]),
    ]
}

fn rules(at: &str, rules: Vec<Value>) -> Addition {
    Addition {
        at: at.to_owned(),
        keyword: VALIDATIONS,
        value: Value::Array(rules),
    }
}

fn default(at: &str, value: Value) -> Addition {
    Addition {
        at: at.to_owned(),
        keyword: "default",
        value,
    }
}

fn string_values(at: &str, max: u32) -> Vec<Addition> {
    let at = format!("{at}/additionalProperties");
    vec![Addition {
        at,
        keyword: "maxLength",
        value: json!(max),
    }]
}

/// A fieldPath must lie in the schema; of metadata the API server lets a schema mention the names, and nothing else.
fn metadata() -> Addition {
    let metadata =
        json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}});
    Addition {
        at: "/properties".to_owned(),
        keyword: "metadata",
        value: metadata,
    }
}

fn name_rule() -> Addition {
    let (rule, message) = NAME;
    let rule = json!({"rule": rule, "message": message, "fieldPath": ".metadata.name", "reason": "FieldValueInvalid"});
    rules("", vec![rule])
}

fn immutable_rule(field: &str) -> Value {
    json!({
        "rule": format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        ),
        "message": format!("{field} cannot be changed after creation; delete the object and create it anew"),
        "fieldPath": format!(".{field}"),
        "reason": "FieldValueForbidden",
    })
}

fn cancel_rule() -> Value {
    json!({
        "rule": "!(has(oldSelf.cancelRequested) && oldSelf.cancelRequested) || \
                 (has(self.cancelRequested) && self.cancelRequested)",
        "message": "cancelRequested cannot be taken back",
        "fieldPath": ".cancelRequested",
        "reason": "FieldValueForbidden",
    })
}

fn never_lower(field: &str) -> Value {
    json!({
        "rule": format!("!has(oldSelf.{field}) || (has(self.{field}) && self.{field} >= oldSelf.{field})"),
        "message": format!("{field} never falls"),
        "fieldPath": format!(".{field}"),
        "reason": "FieldValueInvalid",
    })
}
