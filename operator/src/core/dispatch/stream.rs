//! Reads one worker's stream until it ends, is hung up, or floods us.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use kinora_engine::ids::SessionId;
use kinora_protocol::{
    MAX_CHECKSUM_BYTES, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, MAX_OUTPUTS, MAX_RESULT_BYTES,
    MAX_URI_BYTES, dispatch as wire,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use wire::from_worker::Message;

use super::allowances::Share;
use super::{Said, is_believable, leases};
use crate::core::handle::CoreCounters;
use crate::ports::WorkerIdentity;

/// Reads and forwards; says Closed at the end, whatever ended it.
pub(super) async fn read(
    mut inbound: Streaming<wire::FromWorker>,
    (session, slots): (SessionId, u32),
    share: Share,
    who: Arc<WorkerIdentity>,
    said: mpsc::Sender<Said>,
    hang_up: CancellationToken,
    counters: Arc<CoreCounters>,
) {
    counters.streams.fetch_add(1, Ordering::Relaxed);
    loop {
        let next = tokio::select! {
            next = inbound.message() => next,
            () = hang_up.cancelled() => break,
        };
        let message = match next {
            Ok(Some(message)) => message.message,
            Ok(None) => break,
            Err(status) => {
                tracing::info!(pod = %who.pod_name, code = ?status.code(), "a worker's stream broke");
                break;
            }
        };
        // Cut short, a list of leases would prove some lost that are not.
        let named = message.iter().flat_map(leases);
        let absurd = !is_believable(named.clone(), slots);
        if absurd || !share.take(named.count(), Instant::now()) {
            tracing::warn!(pod = %who.pod_name, absurd, "a worker floods its stream, which is closed");
            counters.refused_streams.fetch_add(1, Ordering::Relaxed);
            break;
        }
        let Some(message) = message.and_then(bounded) else {
            continue;
        };
        if said.send(Said::Message { session, message }).await.is_err() {
            break;
        }
    }
    hang_up.cancel();
    counters.streams.fetch_sub(1, Ordering::Relaxed);
    let _ = said.send(Said::Closed(session)).await;
}

/// The message with every size within what the protocol allows; `None`: not a message for mid-stream.
fn bounded(message: Message) -> Option<Message> {
    match message {
        Message::Hello(_) => None,
        Message::Outcome(outcome) => Some(Message::Outcome(bounded_outcome(outcome))),
        Message::Heartbeat(_) | Message::Progress(_) | Message::Draining(_) => Some(message),
    }
}

fn bounded_outcome(mut outcome: wire::Outcome) -> wire::Outcome {
    if let Some(wire::outcome::Fact::Succeeded(done)) = &mut outcome.fact {
        if done.result_json.len() > MAX_RESULT_BYTES {
            // Too long for a record: the outputs count, the rest is dropped.
            done.result_json = String::new();
        }
        done.outputs.shrink_to_fit();
        if let Some(flaw) = flaw(&done.outputs) {
            outcome.message = flaw.to_owned();
            let code = kinora_engine::outcome::grpc::DATA_LOSS;
            outcome.fact = Some(wire::outcome::Fact::Grpc(wire::GrpcStatus { code }));
        }
    }
    let kept = kinora_crds::conditions::cut(&outcome.message, MAX_MESSAGE_BYTES).len();
    outcome.message.truncate(kept);
    outcome.message.shrink_to_fit();
    outcome
}

/// What makes outputs unfit for a status. A worker holds its service to the same bounds.
fn flaw(outputs: &[wire::OutputResult]) -> Option<&'static str> {
    let is_fit = |output: &wire::OutputResult| {
        (1..=MAX_NAME_BYTES).contains(&output.name.len())
            && output.checksum.len() <= MAX_CHECKSUM_BYTES
            && output.uri.len() <= MAX_URI_BYTES
    };
    let names: BTreeSet<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    if outputs.len() > MAX_OUTPUTS {
        Some("the report names more outputs than a video can have")
    } else if names.len() < outputs.len() {
        Some("the report names an output twice")
    } else if !outputs.iter().all(is_fit) {
        Some("name, checksum or URI of an output is unusable")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hello_says_nothing_and_a_long_message_is_cut() {
        assert!(bounded(Message::Hello(wire::Hello::default())).is_none());
        let outcome = wire::Outcome {
            message: "ü".repeat(2000),
            ..wire::Outcome::default()
        };
        let Some(Message::Outcome(cut)) = bounded(Message::Outcome(outcome)) else {
            panic!("an outcome stays one");
        };
        assert_eq!(cut.message.len(), MAX_MESSAGE_BYTES);
    }

    /// covers: S15
    #[test]
    fn outputs_that_no_status_can_hold_are_a_broken_answer() {
        let output = |n: usize| wire::OutputResult {
            name: format!("video-{n}"),
            checksum: "c".repeat(128),
            uri: "u".repeat(2048),
            ..wire::OutputResult::default()
        };
        let named = |name: &str| wire::OutputResult {
            name: name.to_owned(),
            ..output(0)
        };
        let checked = wire::OutputResult {
            checksum: "c".repeat(129),
            ..output(0)
        };
        let kept = wire::OutputResult {
            uri: "u".repeat(2049),
            ..output(0)
        };
        let table = [
            ("none", vec![], None),
            (
                "as many as there can be",
                (0..16).map(output).collect(),
                None,
            ),
            (
                "one more",
                (0..17).map(output).collect(),
                Some("more outputs"),
            ),
            ("one twice", vec![output(0), output(0)], Some("twice")),
            ("no name", vec![named("")], Some("unusable")),
            (
                "a long name",
                vec![named(&"n".repeat(64))],
                Some("unusable"),
            ),
            ("a long checksum", vec![checked], Some("unusable")),
            ("a long URI", vec![kept], Some("unusable")),
        ];
        for (name, outputs, want_broken) in table {
            let done = wire::Succeeded {
                outputs,
                ..wire::Succeeded::default()
            };
            let cut = bounded_outcome(wire::Outcome {
                fact: Some(wire::outcome::Fact::Succeeded(done)),
                ..wire::Outcome::default()
            });
            let is_broken =
                matches!(&cut.fact, Some(wire::outcome::Fact::Grpc(status)) if status.code == 15);
            assert_eq!(is_broken, want_broken.is_some(), "{name}");
            let message = want_broken.unwrap_or_default();
            assert!(cut.message.contains(message), "{name}: {}", cut.message);
        }
    }
}
