//! What the API server must accept and refuse, as data: `cel-cases/*.yaml`, one file per kind, run by the e2e suite
//! against a real API server. The shape is described in `cel-cases/README.md`.

use serde::Deserialize;
use serde_json::{Value, json};

const FILES: [(&str, &str); 3] = [
    ("videojob.yaml", include_str!("../cel-cases/videojob.yaml")),
    (
        "videoworkerpool.yaml",
        include_str!("../cel-cases/videoworkerpool.yaml"),
    ),
    (
        "videojobredrive.yaml",
        include_str!("../cel-cases/videojobredrive.yaml"),
    ),
];

/// The cases of one kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaseFile {
    /// Plural name of the kind: `videojobs`.
    pub plural: String,
    /// The object that every case starts from.
    pub base: Value,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case. Its last step is judged; those before it must be accepted.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// A sentence.
    pub name: String,
    /// Create under a schema without value validation, then put the real one back: the object was there before a rule.
    #[serde(default)]
    pub before_the_rules: bool,
    /// Merge patch (RFC 7386) over the base; the result is created.
    #[serde(default)]
    pub create: Value,
    /// Merge patch to the status that must be accepted.
    pub given_status: Option<Value>,
    /// Merge patch to the object.
    pub update: Option<Value>,
    /// Merge patch to the status.
    pub update_status: Option<Value>,
    /// The verdict about the last step.
    pub want: Want,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Want {
    /// The API server takes it.
    Accept,
    /// The API server refuses it, naming both.
    Reject {
        /// Part of the message.
        message: String,
        /// Path of the field.
        field: String,
    },
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// POST of the object.
    Create(Value),
    /// Merge patch to the object.
    Patch(Value),
    /// Merge patch to its status subresource; the body has the key `status`.
    PatchStatus(Value),
}

impl Case {
    /// The requests, in order.
    #[must_use]
    pub fn steps(&self, base: &Value) -> Vec<Step> {
        let mut object = base.clone();
        merge(&mut object, &self.create);
        let status = |patch: &Value| Step::PatchStatus(json!({"status": patch}));
        let mut steps = vec![Step::Create(object)];
        steps.extend(self.given_status.as_ref().map(status));
        steps.extend(self.update.clone().map(Step::Patch));
        steps.extend(self.update_status.as_ref().map(status));
        steps
    }
}

/// Every case there is.
///
/// # Errors
/// A file is not of the documented shape; a test of this crate excludes that.
pub fn all() -> Result<Vec<CaseFile>, serde_yaml::Error> {
    FILES
        .iter()
        .map(|(_, text)| serde_yaml::from_str(text))
        .collect()
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        if !patch.is_null() {
            *target = patch.clone();
        }
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_parses_and_every_case_is_named_once() {
        for file in all().unwrap() {
            let mut names: Vec<&str> = file.cases.iter().map(|c| c.name.as_str()).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}: a name is there twice", file.plural);
        }
    }

    #[test]
    fn a_case_is_a_create_then_the_patches() {
        let case: Case = serde_json::from_value(json!({
            "name": "n", "create": {"spec": {"a": null, "b": 2}}, "updateStatus": {"attempt": 1}, "want": "accept",
        }))
        .unwrap();
        let steps = case.steps(&json!({"spec": {"a": 1}}));
        let want = [
            Step::Create(json!({"spec": {"b": 2}})),
            Step::PatchStatus(json!({"status": {"attempt": 1}})),
        ];
        assert_eq!(steps, want);
    }
}
