//! Closes a derived schema: no `nullable`, no defaults nobody decided, and an upper bound for every string, list and
//! map that has none, which are those of Kubernetes' own types. The API server prices CEL rules by these bounds.

use serde_json::{Map, Value, json};

const MAX_LENGTH: u32 = 1024;
const MAX_ITEMS: u32 = 32;
const MAX_PROPERTIES: u32 = 32;

/// Kubernetes' grammar of quantities.
const QUANTITY: &str =
    r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";

/// Removes everything that judges values and leaves the structure.
pub(super) fn open(schema: &mut Value) {
    const JUDGES: [&str; 13] = [
        "x-kubernetes-validations",
        "pattern",
        "enum",
        "minimum",
        "exclusiveMinimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
    ];
    let Value::Object(schema) = schema else {
        return;
    };
    // The keys of a list-map stay required, or the API server refuses the definition.
    if let Some(items) = schema.get("x-kubernetes-list-map-keys").cloned() {
        if let Some(Value::Object(item)) = schema.get_mut("items") {
            item.insert("required".to_owned(), items);
        }
        schema.remove("maxItems");
        return;
    }
    JUDGES.iter().for_each(|judge| {
        schema.remove(*judge);
    });
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(open);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = schema.get_mut(nested) {
            open(nested);
        }
    }
}

pub(super) fn close(schema: &mut Value) {
    let Value::Object(schema) = schema else {
        return;
    };
    schema.remove("nullable");
    schema.remove("default");
    schema.remove("title");
    bound(schema);
    tidy(schema);
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
        Some("string") if schema.contains_key("enum") => return,
        Some("string") if schema.get("format").is_none() => ("maxLength", MAX_LENGTH),
        Some("array") => ("maxItems", MAX_ITEMS),
        Some("object") if is_map => ("maxProperties", MAX_PROPERTIES),
        _ => return,
    };
    schema.entry(keyword).or_insert_with(|| json!(max));
}

/// Whole numbers as such, and for timestamps and quantities a word that helps a reader of `kubectl explain`.
fn tidy(schema: &mut Map<String, Value>) {
    for keyword in ["minimum", "maximum"] {
        let number = schema
            .get(keyword)
            .and_then(Value::as_f64)
            .filter(|n| n.fract() == 0.0);
        if let Some(whole) = number.and_then(|n| format!("{n:.0}").parse::<i64>().ok()) {
            schema.insert(keyword.to_owned(), json!(whole));
        }
    }
    let describe = |schema: &mut Map<String, Value>, text| {
        schema.insert("description".to_owned(), json!(text))
    };
    let description = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if description.starts_with("Time is a wrapper") {
        describe(schema, "A time, RFC 3339.");
    } else if description.starts_with("Quantity is a fixed-point") {
        describe(schema, "An amount, such as 500m or 1Gi.");
        schema.insert("pattern".to_owned(), json!(QUANTITY));
        schema.insert("maxLength".to_owned(), json!(32));
    }
}
