//! Reads one worker's stream until it ends, is hung up, or floods us.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use kinora_engine::ids::SessionId;
use kinora_protocol::{MAX_MESSAGE_BYTES, MAX_RESULT_BYTES, dispatch as wire};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use wire::from_worker::Message;

use super::{MAX_LISTED, Said};
use crate::core::allowance::Allowance;
use crate::core::handle::CoreCounters;
use crate::ports::WorkerIdentity;

/// Messages a second that a worker may send on average, and at once.
const RATE: f64 = 100.0;
const BURST: f64 = 4000.0;
/// The same for each of its slots: progress once a second, and outcomes.
const SLOT_RATE: f64 = 4.0;
const SLOT_BURST: f64 = 40.0;
/// Slots that a pool may ask for; whoever claims more gets no more for it.
const COUNTED_SLOTS: u32 = 256;

/// Reads and forwards; says Closed at the end, whatever ended it.
pub(super) async fn read(
    mut inbound: Streaming<wire::FromWorker>,
    (session, slots): (SessionId, u32),
    who: Arc<WorkerIdentity>,
    said: mpsc::Sender<Said>,
    hang_up: CancellationToken,
    counters: Arc<CoreCounters>,
) {
    counters.streams.fetch_add(1, Ordering::Relaxed);
    let mut allowance = allowance(slots, Instant::now());
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
        if !allowance.take(Instant::now()) {
            tracing::warn!(pod = %who.pod_name, "a worker floods its stream, which is closed");
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

/// What a worker with so many slots may send.
fn allowance(slots: u32, now: Instant) -> Allowance {
    let slots = f64::from(slots.min(COUNTED_SLOTS));
    Allowance::new(RATE + slots * SLOT_RATE, BURST + slots * SLOT_BURST, now)
}

/// The message with every size within what the protocol allows; `None`: not a message for mid-stream.
fn bounded(message: Message) -> Option<Message> {
    match message {
        Message::Hello(_) => None,
        // Cut short, it would prove leases lost that the worker holds: all of it, or nothing.
        Message::Heartbeat(beat) => {
            (beat.held.len() + beat.unacked.len() <= MAX_LISTED).then_some(Message::Heartbeat(beat))
        }
        Message::Outcome(mut outcome) => {
            let kept = kinora_crds::conditions::cut(&outcome.message, MAX_MESSAGE_BYTES).len();
            outcome.message.truncate(kept);
            if let Some(wire::outcome::Fact::Succeeded(done)) = &mut outcome.fact
                && done.result_json.len() > MAX_RESULT_BYTES
            {
                // Too long for a record: the outputs count, the rest is dropped.
                done.result_json.clear();
            }
            Some(Message::Outcome(outcome))
        }
        Message::Progress(_) | Message::Draining(_) => Some(message),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_off_and_an_honest_worker_never_is() {
        let start = Instant::now();
        let table = [
            ("one slot", 1_u32, 12_u64, 5000),
            ("200 slots that tell progress each second", 200, 5, 13_000),
            ("as many as a pool may have", 256, 3, 15_000),
            ("more than any worker has", u32::MAX, 3, 15_000),
        ];
        for (name, slots, pause_ms, flood) in table {
            let mut flooded = allowance(slots, start);
            assert!((0..flood).any(|_| !flooded.take(start)), "{name}");
            let mut honest = allowance(slots, start);
            let at = |i| start + Duration::from_millis(i * pause_ms);
            assert!((0..60_000).all(|i| honest.take(at(i))), "{name}");
        }
    }

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
}
