//! Closes a derived schema: no `nullable`, no defaults nobody decided, and an upper bound for every string, list and
//! map that has none, which are those of Kubernetes' own types. The API server prices CEL rules by these bounds.

use serde_json::{Map, Value, json};

const MAX_LENGTH: u32 = 1024;
const MAX_ITEMS: u32 = 32;
const MAX_PROPERTIES: u32 = 32;

pub(super) fn close(schema: &mut Value) {
    let Value::Object(schema) = schema else {
        return;
    };
    schema.remove("nullable");
    schema.remove("default");
    bound(schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.retain(|_, property| property.is_object());
        properties.values_mut().for_each(close);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = schema.get_mut(nested) {
            close(nested);
        }
    }
}

fn bound(schema: &mut Map<String, Value>) {
    let is_map = schema.contains_key("additionalProperties");
    let (keyword, max) = match schema.get("type").and_then(Value::as_str) {
        // A timestamp is bounded by its format.
        Some("string") if schema.get("format").is_none() => ("maxLength", MAX_LENGTH),
        Some("array") => ("maxItems", MAX_ITEMS),
        Some("object") if is_map => ("maxProperties", MAX_PROPERTIES),
        _ => return,
    };
    schema.entry(keyword).or_insert_with(|| json!(max));
}
