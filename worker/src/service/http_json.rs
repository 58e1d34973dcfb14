//! JSON of the HTTP form: the request as it is sent, answers as they are read. Pure.
//!
//! The same fields as `processing.proto`, in lowerCamelCase, but `result` is a JSON value instead of text. Fields that this
//! build does not know are passed over.

use std::collections::HashMap;

use kinora_protocol::dispatch::Lease;
use kinora_protocol::processing::{OutputResult, Progress, Result as ServiceResult};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Body of the POST.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    idempotency_key: String,
    attempt: u32,
    source_url: String,
    outputs: Vec<Target>,
    profile: String,
    parameters: HashMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    traceparent: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    name: String,
    put_url: String,
    headers: HashMap<String, String>,
}

impl Request {
    /// The request for a lease.
    #[must_use]
    pub fn of(lease: &Lease) -> Self {
        Self {
            idempotency_key: lease.idempotency_key.clone(),
            attempt: lease.attempt.as_ref().map_or(0, |a| a.attempt),
            source_url: lease.source_url.clone(),
            outputs: lease.outputs.iter().map(target).collect(),
            profile: lease.profile.clone(),
            parameters: lease.parameters.clone(),
            traceparent: lease.traceparent.clone(),
        }
    }
}

fn target(output: &kinora_protocol::dispatch::OutputTarget) -> Target {
    Target {
        name: output.name.clone(),
        put_url: output.put_url.clone(),
        headers: output.headers.clone(),
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    // Required: a page of something else that happens to be JSON is no result.
    outputs: Vec<Made>,
    #[serde(default)]
    result: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    name: String,
    #[serde(default)]
    size_bytes: u64,
    #[serde(default)]
    checksum: String,
    #[serde(default)]
    uri: String,
}

/// The result in the body of a 200.
///
/// # Errors
/// What is wrong with it, in words.
pub fn result(body: &[u8]) -> Result<ServiceResult, String> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| format!("the body of status 200 is not a result: {error}"))?;
    let outputs = answer.outputs.into_iter().map(|made| OutputResult {
        name: made.name,
        size_bytes: made.size_bytes,
        checksum: made.checksum,
        uri: made.uri,
    });
    Ok(ServiceResult {
        outputs: outputs.collect(),
        result_json: match answer.result {
            None | Some(Value::Null) => String::new(),
            Some(value) => value.to_string(),
        },
    })
}

#[derive(Debug, Deserialize)]
struct Pending {
    percent: f64,
    #[serde(default)]
    step: String,
}

/// Progress in the body of a 202, if it holds any that can be read.
#[must_use]
pub fn progress(body: &[u8]) -> Option<Progress> {
    let pending: Pending = serde_json::from_slice(body).ok()?;
    // A cast of a float saturates, and what is no number becomes 0; the clamp keeps to the wire's range.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let percent = pending.percent.clamp(0.0, 100.0) as u32;
    Some(Progress {
        percent,
        step: pending.step,
    })
}

/// Members in which services tell why they failed; `detail` and `title` are those of RFC 9457.
const SAYINGS: [&str; 4] = ["detail", "message", "error", "title"];

/// What the body of an error says, for people.
#[must_use]
pub fn saying(body: &[u8]) -> String {
    if let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(body) {
        let said = SAYINGS
            .iter()
            .find_map(|name| fields.get(*name).and_then(Value::as_str));
        return said.unwrap_or_default().to_owned();
    }
    let text = String::from_utf8_lossy(body);
    // A page for browsers tells nobody anything.
    if text.trim_start().starts_with('<') {
        return String::new();
    }
    text.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_documented_fields_and_no_others() {
        let lease = Lease {
            attempt: Some(kinora_protocol::dispatch::AttemptRef {
                job_uid: "u".to_owned(),
                attempt: 3,
            }),
            name: "videos/clip".to_owned(),
            idempotency_key: "a-1.0".to_owned(),
            source_url: "http://s/in".to_owned(),
            outputs: vec![kinora_protocol::dispatch::OutputTarget {
                name: "video".to_owned(),
                put_url: "http://s/out".to_owned(),
                headers: [("if-none-match".to_owned(), "*".to_owned())].into(),
            }],
            profile: "hd".to_owned(),
            parameters: [("lang".to_owned(), "de".to_owned())].into(),
            timeout_ms: 5,
            traceparent: "00-1".to_owned(),
        };
        let want = serde_json::json!({
            "idempotencyKey": "a-1.0", "attempt": 3, "sourceUrl": "http://s/in", "profile": "hd",
            "outputs": [{"name": "video", "putUrl": "http://s/out", "headers": {"if-none-match": "*"}}],
            "parameters": {"lang": "de"}, "traceparent": "00-1",
        });
        assert_eq!(serde_json::to_value(Request::of(&lease)).unwrap(), want);
    }

    /// covers: F48, S15
    #[rstest::rstest]
    #[case::the_least(r#"{"outputs":[]}"#, Some(""))]
    #[case::an_output_and_a_result(
        r#"{"outputs":[{"name":"video","sizeBytes":7}],"result":{"a":1}}"#,
        Some(r#"{"a":1}"#)
    )]
    #[case::members_of_later_versions(r#"{"outputs":[],"extra":1}"#, Some(""))]
    #[case::no_outputs(r#"{"status":"ok"}"#, None)]
    #[case::an_output_without_a_name(r#"{"outputs":[{"sizeBytes":7}]}"#, None)]
    #[case::a_negative_size(r#"{"outputs":[{"name":"v","sizeBytes":-7}]}"#, None)]
    #[case::a_list("[]", None)]
    #[case::cut_short(r#"{"outputs":["#, None)]
    #[case::nothing("", None)]
    #[case::too_deep(&"[".repeat(100_000), None)]
    fn results(#[case] body: &str, #[case] want: Option<&str>) {
        let got = result(body.as_bytes()).ok().map(|r| r.result_json);
        assert_eq!(got.as_deref(), want);
    }

    #[rstest::rstest]
    #[case::progress(r#"{"percent":40,"step":"encode"}"#, Some((40, "encode")))]
    #[case::a_fraction(r#"{"percent":99.9}"#, Some((99, "")))]
    #[case::beyond(r#"{"percent":1e300}"#, Some((100, "")))]
    #[case::below(r#"{"percent":-3}"#, Some((0, "")))]
    #[case::none("accepted", None)]
    fn percentages(#[case] body: &str, #[case] want: Option<(u32, &str)>) {
        let got = progress(body.as_bytes()).map(|p| (p.percent, p.step));
        assert_eq!(got, want.map(|(p, s)| (p, s.to_owned())));
    }

    #[rstest::rstest]
    #[case::problem_json(r#"{"title":"Bad","detail":"no video track"}"#, "no video track")]
    #[case::a_message(r#"{"message":"busy"}"#, "busy")]
    #[case::nothing_known(r#"{"code":5}"#, "")]
    #[case::plain_text("no video track\n", "no video track\n")]
    #[case::a_web_page("<html>502 Bad Gateway", "")]
    fn sayings(#[case] body: &str, #[case] want: &str) {
        assert_eq!(saying(body.as_bytes()), want);
    }
}
