//! Enumerated: for each kind of upload, each store call of it, and each fault that this call may meet, one run.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use kinora_fake_s3::{Behaviour, Call, Fault, Op, Rule};
use kinora_upload_engine::finish::SWEEP_AFTER_MS;
use kinora_uploader::sweep::{sweep_outbox, sweep_states};

use crate::harness::video;
use crate::oracle::{Leave, judge};
use crate::phone::Phone;
use crate::{Stage, ages};

/// Runs at once: most of each is waiting.
const AT_ONCE: usize = 24;
/// As many failures in a row as a call that may be repeated is tried.
const OUTAGE: usize = 4;
const SMALL: usize = 200_000;
/// One full part and a short one.
const PARTS: usize = (8 << 20) + 300_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The whole file in one plain POST.
    Direct,
    /// A tus create and one PATCH.
    CreateAndPatch,
    /// A create and two PATCHes, all in slices.
    TwoPatches,
    /// A create, a PATCH that ends inside the first part, and one to the end.
    Parts,
    /// Stored while Kubernetes is away; the fault meets the sweep of the outbox.
    Sweep,
    /// Left after its first part; the fault meets the expiry.
    Expiry,
    /// Deleted after its first part.
    Deleted,
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Self::Direct | Self::CreateAndPatch | Self::TwoPatches | Self::Sweep => SMALL,
            Self::Parts | Self::Expiry | Self::Deleted => PARTS,
        }
    }
}

/// Plays one upload; `struck` adds the fault where the interesting part begins. Returns what was acknowledged.
async fn play(stage: &Stage, kind: Kind, file: &[u8], strike: impl Fn()) -> Vec<String> {
    let phone = Phone::new(stage);
    match kind {
        Kind::Direct => {
            strike();
            phone.post(file).await;
        }
        Kind::CreateAndPatch => {
            strike();
            let id = phone.create(file.len()).await;
            phone.send(&id, file, file.len()).await.unwrap();
        }
        Kind::TwoPatches | Kind::Parts => {
            strike();
            let id = phone.create(file.len()).await;
            phone.send(&id, file, file.len() / 3).await.unwrap();
            phone.send(&id, file, file.len()).await.unwrap();
        }
        Kind::Sweep => {
            stage.world.jobs.away.store(true, Ordering::SeqCst);
            let id = phone.create(file.len()).await;
            phone.send(&id, file, file.len()).await.unwrap();
            stage.world.jobs.away.store(false, Ordering::SeqCst);
            stage
                .later(Duration::from_millis(SWEEP_AFTER_MS) + Duration::from_secs(5))
                .await;
            strike();
            for replica in &stage.replicas {
                sweep_outbox(&replica.app, SWEEP_AFTER_MS).await;
            }
        }
        Kind::Expiry => {
            let id = phone.create(file.len()).await;
            phone.send(&id, file, (8 << 20) + 100_000).await.unwrap();
            stage.later(Duration::from_secs(25 * 3600)).await;
            strike();
            for replica in &stage.replicas {
                sweep_states(&replica.app, ages()).await;
            }
        }
        Kind::Deleted => {
            let id = phone.create(file.len()).await;
            phone.send(&id, file, (8 << 20) + 100_000).await.unwrap();
            strike();
            phone.delete(&id).await;
        }
    }
    phone.acknowledged.take()
}

/// The store calls of a run without faults.
async fn calls_of(kind: Kind, file: &[u8]) -> Vec<Call> {
    let stage = Stage::new(Behaviour::harsh()).await;
    let journal = || stage.fake.journal();
    let acknowledged = play(&stage, kind, file, || journal().clear()).await;
    let calls = journal().calls();
    judge(&stage, &acknowledged, file, Leave::default()).await;
    calls
}

/// What a call may meet, as the fault and how often in a row.
fn faults_of(op: Op) -> Vec<(Fault, usize)> {
    let mut faults = match op {
        // Nothing is done by a read, so it is all the same where it is lost.
        Op::Get | Op::Head | Op::List | Op::ListParts => vec![(Fault::LostAnswer, OUTAGE)],
        _ => vec![
            (Fault::LostRequest, OUTAGE),
            (Fault::LostAnswer, 1),
            (Fault::LostAnswer, OUTAGE),
            (Fault::SlowDown, 1),
        ],
    };
    match op {
        Op::Put => faults.push((Fault::Conflict, 1)),
        Op::Complete => faults.extend([
            (Fault::DoneInternalError, 1),
            (Fault::ErrorInside200, 1),
            (Fault::DoneErrorInside200, 1),
        ]),
        Op::Abort => faults.push((Fault::PartSurvives, 2)),
        _ => {}
    }
    faults
}

async fn run(
    kind: Kind,
    file: Rc<Vec<u8>>,
    call: Call,
    nth: usize,
    (fault, times): (Fault, usize),
) {
    let stage = Stage::new(Behaviour::harsh()).await;
    let strike = || {
        let faults = stage.fake.faults();
        faults.add(Rule::any(fault).after(nth).times(times));
    };
    let acknowledged = play(&stage, kind, &file, strike).await;
    let leave = Leave {
        // An unclear create of a multipart upload is not repeated under the same name.
        unknown_multipart: call.op == Op::CreateMultipart || times > 1,
    };
    judge(&stage, &acknowledged, &file, leave).await;
}

async fn every_fault(kind: Kind, least: usize) {
    let file = Rc::new(video(kind.size()));
    let calls = calls_of(kind, &file).await;
    assert!(calls.len() >= least, "{kind:?}: {calls:#?}");
    let runs = calls.into_iter().enumerate().flat_map(|(nth, call)| {
        let faults = faults_of(call.op).into_iter();
        faults.map(move |(fault, times)| (nth, call.clone(), fault, times))
    });
    let runs = futures::stream::iter(runs).map(|(nth, call, fault, times)| {
        let file = Rc::clone(&file);
        async move {
            let name = format!(
                "{kind:?}: {fault:?} x{times} at call {nth}, {:?} {}",
                call.op, call.key
            );
            // A task of its own, so that a finding is told with its name.
            let done = tokio::task::spawn_local(run(kind, file, call, nth, (fault, times))).await;
            done.err().map(|error| format!("{name}: {error}"))
        }
    });
    let local = tokio::task::LocalSet::new();
    let findings: Vec<String> = local
        .run_until(
            runs.buffer_unordered(AT_ONCE)
                .filter_map(|finding| async { finding })
                .collect(),
        )
        .await;
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

/// covers: F1, F11
#[tokio::test]
async fn a_file_in_one_request_survives_each_fault_at_each_call() {
    every_fault(Kind::Direct, 4).await;
}

/// covers: F11
#[tokio::test]
async fn a_create_and_a_patch_survive_each_fault_at_each_call() {
    every_fault(Kind::CreateAndPatch, 6).await;
}

/// covers: F4, F11
#[tokio::test]
async fn slices_of_two_requests_survive_each_fault_at_each_call() {
    every_fault(Kind::TwoPatches, 9).await;
}

/// covers: F11, F12, T23
#[tokio::test]
async fn a_multipart_upload_survives_each_fault_at_each_call() {
    every_fault(Kind::Parts, 12).await;
}

/// covers: F1, F14, T1
#[tokio::test]
async fn the_sweep_of_the_outbox_survives_each_fault_at_each_call() {
    every_fault(Kind::Sweep, 4).await;
}

/// covers: F5
#[tokio::test]
async fn an_expiry_survives_each_fault_at_each_call() {
    every_fault(Kind::Expiry, 4).await;
}

/// covers: F5
#[tokio::test]
async fn a_delete_survives_each_fault_at_each_call() {
    every_fault(Kind::Deleted, 3).await;
}
