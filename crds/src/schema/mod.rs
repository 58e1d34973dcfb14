//! From the types to the CustomResourceDefinitions: what derive cannot say is added here, from two tables, `rules`
//! (CEL and defaults) and `bounds` (limits of what Kubernetes' own types leave open).

mod bounds;
mod rules;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::{VideoJob, VideoJobRedrive, VideoWorkerPool};

const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

/// One CustomResourceDefinition, ready to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Plural name: `videojobs`.
    pub plural: String,
    /// The object, fields in the order of the API's own.
    pub json: Value,
}

impl Definition {
    /// The object as Kubernetes' type.
    ///
    /// # Errors
    /// When the JSON is no CustomResourceDefinition, which the tests of this crate exclude.
    pub fn crd(&self) -> Result<CustomResourceDefinition, DefinitionError> {
        Ok(serde_json::from_value(self.json.clone())?)
    }

    /// The same without anything that judges values: no rules, patterns or bounds. Tests use it to make objects that
    /// are older than a rule.
    #[must_use]
    pub fn without_value_validation(&self) -> Self {
        let mut loose = self.clone();
        if let Some(schema) = loose.json.pointer_mut(SCHEMA) {
            bounds::open(schema);
        }
        loose
    }

    /// The object as YAML.
    ///
    /// # Errors
    /// When YAML cannot express it, which the tests of this crate exclude.
    pub fn yaml(&self) -> Result<String, DefinitionError> {
        serde_yaml::to_string(&self.json).map_err(|source| DefinitionError::Yaml { source })
    }
}

/// A definition could not be made; a bug of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The derived definition is not what JSON or Kubernetes' type can hold.
    #[error("convert the derived definition")]
    Json {
        /// Cause.
        #[from]
        source: serde_json::Error,
    },
    /// YAML cannot express it.
    #[error("write the definition as YAML")]
    Yaml {
        /// Cause.
        source: serde_yaml::Error,
    },
    /// A rule names a place that the schema does not have.
    #[error("add a rule to the schema: no {pointer}")]
    NoSuchPlace {
        /// JSON pointer.
        pointer: String,
    },
}

/// The three definitions.
///
/// # Errors
/// Never for types that pass this crate's tests.
pub fn definitions() -> Result<Vec<Definition>, DefinitionError> {
    [
        (VideoJob::crd(), rules::video_job()),
        (VideoWorkerPool::crd(), rules::video_worker_pool()),
        (VideoJobRedrive::crd(), rules::video_job_redrive()),
    ]
    .into_iter()
    .map(|(crd, additions)| finish(&crd, additions))
    .collect()
}

fn finish(
    crd: &CustomResourceDefinition,
    additions: Vec<rules::Addition>,
) -> Result<Definition, DefinitionError> {
    let mut json = serde_json::to_value(crd)?;
    let schema = json
        .pointer_mut(SCHEMA)
        .ok_or_else(|| DefinitionError::NoSuchPlace {
            pointer: SCHEMA.to_owned(),
        })?;
    bounds::close(schema);
    for addition in additions {
        addition.add_to(schema)?;
    }
    Ok(Definition {
        plural: crd.spec.names.plural.clone(),
        json,
    })
}

/// Schema of a list of conditions: Kubernetes' own type with bounds, merged by type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "One aspect of the object's state.",
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "description": "Name of the condition.",
                    "type": "string", "minLength": 1, "maxLength": 316,
                },
                "status": {
                    "description": "True, False or Unknown.",
                    "type": "string", "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why, in one word for programs.",
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "Why, for people.",
                    "type": "string", "maxLength": 32768,
                },
                "lastTransitionTime": {
                    "description": "When status changed last.",
                    "type": "string", "format": "date-time",
                },
                "observedGeneration": {
                    "description": "The spec's generation that the condition is about.",
                    "type": "integer", "format": "int64", "minimum": 0,
                },
            },
        },
    })
}

// The signatures that `skip_serializing_if` asks for.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(crate) fn is_zero(value: &i32) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
pub(crate) fn is_zero_i64(value: &i64) -> bool {
    *value == 0
}
