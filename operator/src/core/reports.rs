//! The texts of outcomes, each kept until its worker is told the verdict.
//!
//! What one worker says about an attempt never mixes with what another says about it, and no worker fills this for the others.

use std::collections::{BTreeMap, HashMap};

use kinora_crds::{Output, conditions};
use kinora_engine::{AttemptId, Uid};
use kinora_protocol::{MAX_CHECKSUM_BYTES, MAX_OUTPUTS, dispatch as wire};

use super::outputs::torn;
use super::seams::FoundOutput;
use super::translate::FailureText;

/// Reports whose texts are kept at once; beyond, a report counts without its texts.
const MAX_REPORTS: usize = 20_000;

/// The texts of an outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The code's name, or what was wrong with the answer.
    pub(crate) failure: FailureText,
    /// As the service named them.
    pub(crate) outputs: Vec<wire::OutputResult>,
    /// As the store has them.
    pub(crate) found: Vec<FoundOutput>,
    /// JSON for the record.
    pub(crate) result_json: Option<String>,
    /// There was some, and no room for it.
    pub(crate) lacks_result: bool,
}

/// All reports, by attempt and worker.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    all: BTreeMap<(AttemptId, Uid), Report>,
    by_worker: HashMap<Uid, usize>,
    result_bytes: usize,
}

impl Reports {
    /// Bytes of all results.
    pub(crate) fn result_bytes(&self) -> usize {
        self.result_bytes
    }

    /// Keeps the texts of an outcome, with its result if that has so much room. `most`: of this worker.
    pub(crate) fn note(
        &mut self,
        worker: Uid,
        attempt: AttemptId,
        outcome: wire::Outcome,
        most: usize,
        room: usize,
    ) {
        if let Some(report) = self.all.get_mut(&(attempt, worker)) {
            // Said again, as it is until it is settled: there may be room by now.
            if let (true, Some(wire::outcome::Fact::Succeeded(done))) =
                (report.lacks_result, outcome.fact)
            {
                report.keep_result(done.result_json, room);
                self.result_bytes += report.result_bytes();
            }
            return;
        }
        let own = self.by_worker.get(&worker).copied().unwrap_or_default();
        if own >= most || self.all.len() >= MAX_REPORTS {
            return;
        }
        let mut report = Report {
            failure: FailureText {
                reason: code_name(outcome.fact.as_ref()),
                message: outcome.message,
            },
            ..Report::default()
        };
        if let Some(wire::outcome::Fact::Succeeded(done)) = outcome.fact {
            report.outputs = done.outputs;
            report.keep_result(done.result_json, room);
            self.result_bytes += report.result_bytes();
        }
        *self.entry(worker, attempt) = report;
    }

    /// The texts of an outcome.
    pub(crate) fn of(&self, worker: Uid, attempt: AttemptId) -> Option<&Report> {
        self.all.get(&(attempt, worker))
    }

    /// What the store has of an attempt's outputs. True: they are all there, and what the service says it made.
    pub(crate) fn note_found(
        &mut self,
        worker: Uid,
        attempt: AttemptId,
        found: Vec<FoundOutput>,
        complete: bool,
    ) -> bool {
        let report = self.entry(worker, attempt);
        report.found = found;
        let failure = report.flaw(complete);
        let is_whole = failure.is_none();
        if let Some(failure) = failure {
            report.failure = failure;
        }
        is_whole
    }

    /// Gives it away.
    pub(crate) fn take(&mut self, worker: Uid, attempt: AttemptId) -> Option<Report> {
        let report = self.all.remove(&(attempt, worker))?;
        self.result_bytes -= report.result_bytes();
        if let Some(own) = self.by_worker.get_mut(&worker) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.by_worker.remove(&worker);
            }
        }
        Some(report)
    }

    /// Drops those about a job that are not wanted any more.
    pub(crate) fn retain(&mut self, job: Uid, wanted: impl Fn(Uid, AttemptId) -> bool) {
        let numbered = |attempt| AttemptId { job, attempt };
        let all = (numbered(0), Uid(0))..=(numbered(u32::MAX), Uid(u128::MAX));
        let about = self.all.range(all).map(|(key, _)| *key);
        let dropped: Vec<_> = about.filter(|(id, worker)| !wanted(*worker, *id)).collect();
        for (attempt, worker) in dropped {
            self.take(worker, attempt);
        }
    }

    fn entry(&mut self, worker: Uid, attempt: AttemptId) -> &mut Report {
        self.all.entry((attempt, worker)).or_insert_with(|| {
            *self.by_worker.entry(worker).or_default() += 1;
            Report::default()
        })
    }
}

impl Report {
    fn keep_result(&mut self, json: String, room: usize) {
        self.lacks_result = json.len() > room;
        self.result_json = Some(json).filter(|json| !json.is_empty() && !self.lacks_result);
    }

    fn result_bytes(&self) -> usize {
        self.result_json.as_ref().map_or(0, String::len)
    }

    /// Whether the service keeps this output itself.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        self.own().any(|output| output.name == name)
    }

    /// Names of the outputs that it says are in the store, as far as a pool can have them: each becomes a part of a key.
    pub(crate) fn stored_names(&self) -> Vec<String> {
        let said = self.outputs.iter().filter(|o| o.uri.is_empty());
        let fit = said.filter(|o| is_output_name(&o.name));
        fit.map(|o| o.name.clone()).collect()
    }

    fn own(&self) -> impl Iterator<Item = &wire::OutputResult> {
        self.outputs.iter().filter(|output| !output.uri.is_empty())
    }

    /// What keeps this success from being one.
    fn flaw(&self, complete: bool) -> Option<FailureText> {
        let outputs = self.found.len() + self.own().count();
        let (reason, message) = if !complete {
            let message = "the service said done, but not all outputs are in the store";
            ("OutputsMissing", message.to_owned())
        } else if let Some(torn) = torn(&self.outputs, &self.found) {
            let message = format!(
                "output {} in the store, {} bytes, is not what the service said it made",
                torn.name, torn.size_bytes
            );
            ("OutputsDiffer", message)
        } else if outputs > MAX_OUTPUTS {
            let message = format!(
                "{outputs} outputs, those in the store and the service's own, are more than {MAX_OUTPUTS}"
            );
            ("TooManyOutputs", message)
        } else {
            return None;
        };
        let reason = reason.to_owned();
        Some(FailureText { reason, message })
    }

    /// The outputs: those the store has, and those the service keeps itself.
    pub(crate) fn all_outputs(&self) -> Vec<Output> {
        let said = |name: &str| self.outputs.iter().find(|o| o.name == name);
        let stored = self.found.iter().map(|found| Output {
            name: found.name.clone(),
            uri: found.uri.clone(),
            size_bytes: Some(found.size_bytes),
            checksum: said(&found.name)
                .map(|o| o.checksum.clone())
                .filter(|c| !c.is_empty())
                .or_else(|| found.checksum.clone())
                .map(|c| conditions::cut(&c, MAX_CHECKSUM_BYTES).to_owned()),
        });
        let own = self.own().map(|output| Output {
            name: output.name.clone(),
            uri: output.uri.clone(),
            size_bytes: i64::try_from(output.size_bytes).ok(),
            checksum: Some(output.checksum.clone()).filter(|c| !c.is_empty()),
        });
        stored.chain(own).collect()
    }
}

/// As the schema of a pool wants it.
fn is_output_name(name: &str) -> bool {
    let is_edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.iter().all(|b| is_edge(b) || b"._-".contains(b))
        && bytes.first().is_some_and(is_edge)
        && bytes.last().is_some_and(is_edge)
}

/// The code of an outcome, for people.
fn code_name(fact: Option<&wire::outcome::Fact>) -> String {
    match fact {
        Some(wire::outcome::Fact::Succeeded(_)) => "OutputsMissing".to_owned(),
        Some(wire::outcome::Fact::Grpc(status)) => grpc_name(status.code).to_owned(),
        Some(wire::outcome::Fact::Http(status)) => format!("HTTP {}", status.status),
        Some(wire::outcome::Fact::Released(released)) => {
            conditions::cut(&released.reason, 128).to_owned()
        }
        None => "NoFact".to_owned(),
    }
}

fn grpc_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|index| NAMES.get(index))
        .unwrap_or(&"UNKNOWN")
}
