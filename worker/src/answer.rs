//! What the service's stream of updates adds up to. Pure: updates in, one report out.
//!
//! Answers are untrusted (S15): exactly one result, the last message, within bounds, or the answer is broken.

use std::collections::BTreeSet;

use kinora_protocol::dispatch::{OutputResult, Succeeded};
use kinora_protocol::processing::process_update::Update;
use kinora_protocol::processing::{ProcessUpdate, Progress, Result as ServiceResult};
use kinora_protocol::{
    MAX_CHECKSUM_BYTES, MAX_NAME_BYTES, MAX_OUTPUTS, MAX_RESULT_BYTES, MAX_URI_BYTES,
};
use tonic::Code;

use crate::report::Report;

/// The updates of one call so far.
#[derive(Debug, Default)]
pub struct Answer {
    result: Option<Succeeded>,
}

impl Answer {
    /// Takes the next update; progress comes back for reporting.
    ///
    /// # Errors
    /// The report of a broken answer; the call is over.
    pub fn update(&mut self, update: ProcessUpdate) -> Result<Option<Progress>, Report> {
        if self.result.is_some() {
            return Err(broken("the service went on after its result"));
        }
        match update.update {
            Some(Update::Progress(progress)) => Ok(Some(progress)),
            Some(Update::Result(result)) => {
                self.result = Some(check(result)?);
                Ok(None)
            }
            // A kind of update this build does not know: later protocols may add some.
            None => Ok(None),
        }
    }

    /// The stream ended with status OK.
    #[must_use]
    pub fn finish(self) -> Report {
        match self.result {
            Some(result) => Report::succeeded(result),
            None => broken("the service ended its answer without a result"),
        }
    }
}

/// Holds a result, of whatever form of the protocol, against the bounds.
///
/// # Errors
/// The report of a broken answer.
pub(crate) fn check(result: ServiceResult) -> Result<Succeeded, Report> {
    if result.outputs.len() > MAX_OUTPUTS {
        return Err(broken(&format!(
            "the result names {} outputs, more than {MAX_OUTPUTS}",
            result.outputs.len()
        )));
    }
    check_json(&result.result_json)?;
    let mut names = BTreeSet::new();
    let mut outputs = Vec::with_capacity(result.outputs.len());
    for output in result.outputs {
        if output.name.is_empty() || output.name.len() > MAX_NAME_BYTES {
            return Err(broken("an output of the result has no usable name"));
        }
        if !names.insert(output.name.clone()) {
            return Err(broken(&format!(
                "the result names output {} twice",
                output.name
            )));
        }
        if output.checksum.len() > MAX_CHECKSUM_BYTES || output.uri.len() > MAX_URI_BYTES {
            return Err(broken(&format!(
                "checksum or URI of output {} is too long",
                output.name
            )));
        }
        outputs.push(OutputResult {
            name: output.name,
            size_bytes: output.size_bytes,
            checksum: output.checksum,
            uri: output.uri,
        });
    }
    Ok(Succeeded {
        outputs,
        result_json: result.result_json,
    })
}

fn check_json(json: &str) -> Result<(), Report> {
    if json.is_empty() {
        return Ok(());
    }
    if json.len() > MAX_RESULT_BYTES {
        return Err(broken(&format!(
            "result_json is {} bytes long, the limit is {MAX_RESULT_BYTES}",
            json.len()
        )));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(json)
        .map(|_| ())
        .map_err(|error| broken(&format!("result_json is not JSON: {error}")))
}

/// The report of an answer that cannot be used.
pub(crate) fn broken(message: &str) -> Report {
    Report::found(Code::DataLoss, message)
}

#[cfg(test)]
mod tests {
    use kinora_protocol::processing::OutputResult as ServiceOutput;

    use super::*;

    fn output(name: &str) -> ServiceOutput {
        ServiceOutput {
            name: name.to_owned(),
            size_bytes: 7,
            checksum: "sha256:00".to_owned(),
            uri: String::new(),
        }
    }

    fn result(outputs: Vec<ServiceOutput>, json: &str) -> ProcessUpdate {
        ProcessUpdate {
            update: Some(Update::Result(ServiceResult {
                outputs,
                result_json: json.to_owned(),
            })),
        }
    }

    fn progress() -> ProcessUpdate {
        ProcessUpdate {
            update: Some(Update::Progress(Progress::default())),
        }
    }

    fn run(updates: Vec<ProcessUpdate>) -> Report {
        let mut answer = Answer::default();
        for update in updates {
            if let Err(report) = answer.update(update) {
                return report;
            }
        }
        answer.finish()
    }

    /// covers: F48, S15
    #[rstest::rstest]
    #[case::progress_then_one_result(vec![progress(), result(vec![output("video")], "{}")], None)]
    #[case::a_result_without_outputs(vec![result(vec![], "")], None)]
    #[case::an_unknown_update_is_passed_over(vec![ProcessUpdate { update: None }, result(vec![], "")], None)]
    #[case::no_message_at_all(vec![], Some("without a result"))]
    #[case::progress_only(vec![progress()], Some("without a result"))]
    #[case::two_results(vec![result(vec![], ""), result(vec![], "")], Some("went on after"))]
    #[case::progress_after_the_result(vec![result(vec![], ""), progress()], Some("went on after"))]
    #[case::json_that_is_none(vec![result(vec![], "{oops")], Some("not JSON"))]
    #[case::json_too_long(vec![result(vec![], &format!("\"{}\"", "a".repeat(MAX_RESULT_BYTES)))], Some("limit is"))]
    #[case::json_too_deep(vec![result(vec![], &"[".repeat(60_000))], Some("not JSON"))]
    #[case::an_output_twice(vec![result(vec![output("video"), output("video")], "")], Some("twice"))]
    #[case::an_output_without_a_name(vec![result(vec![output("")], "")], Some("no usable name"))]
    #[case::as_many_outputs_as_there_can_be(vec![result((0..16).map(|n| output(&n.to_string())).collect(), "")], None)]
    #[case::a_checksum_that_no_status_can_hold(vec![result(vec![ServiceOutput { checksum: "c".repeat(129), ..output("video") }], "")], Some("too long"))]
    #[case::too_many_outputs(vec![result((0..17).map(|n| output(&n.to_string())).collect(), "")], Some("more than"))]
    fn answers(#[case] updates: Vec<ProcessUpdate>, #[case] want_broken: Option<&str>) {
        let report = run(updates);
        match want_broken {
            None => assert!(
                matches!(
                    report.fact,
                    kinora_protocol::dispatch::outcome::Fact::Succeeded(_)
                ),
                "{report:?}"
            ),
            Some(text) => {
                assert_eq!(report.fact, Report::found(Code::DataLoss, "").fact);
                assert!(report.message.contains(text), "{}", report.message);
            }
        }
    }
}
