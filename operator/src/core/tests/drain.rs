//! Workers that have to go, over the real protocol.

use kinora_protocol::dispatch as wire;
use tonic::Code;
use wire::from_worker::Message as Says;
use wire::to_worker::Message;

use super::stage::{POD, Stage, Worker, worker_hello};
use super::succeeded;
use crate::ports::{CoreCommand, Leadership, PodEvent};

/// A worker that the core knows: its heartbeat is echoed.
async fn known(stage: &Stage) -> Worker {
    let mut worker = stage.worker().await;
    worker
        .say(Says::Heartbeat(wire::Heartbeat::default()))
        .await;
    assert!(matches!(worker.next().await, Message::Beat(_)));
    worker
}

fn command(change: impl Fn(String) -> CoreCommand) -> CoreCommand {
    change(POD.to_owned())
}

/// covers: F34
#[tokio::test]
async fn a_worker_that_scale_down_takes_is_told_to_drain_and_works_again_if_it_stays() {
    let stage = Stage::leading().await;
    let mut worker = known(&stage).await;
    for next in [
        command(|pod_uid| CoreCommand::Cordon { pod_uid }),
        command(|pod_uid| CoreCommand::Drain { pod_uid }),
    ] {
        stage.commands.send(next).await.unwrap();
    }
    assert!(matches!(worker.next().await, Message::Drain(_)));
    worker.say(Says::Draining(wire::Draining {})).await;

    let back = command(|pod_uid| CoreCommand::Uncordon { pod_uid });
    stage.commands.send(back).await.unwrap();
    assert_eq!(worker.end().await.code(), Code::Aborted);
    stage.create("vj-a-1");
    let mut worker = stage.worker().await;
    assert!(matches!(worker.next().await, Message::Lease(_)));
}

/// covers: F44
#[tokio::test]
async fn a_worker_whose_pod_is_being_deleted_is_told_to_drain_and_gets_no_lease() {
    let stage = Stage::leading().await;
    let mut worker = known(&stage).await;
    let pod_uid = POD.to_owned();
    let going = PodEvent::Draining { pod_uid };
    stage.pod_events.send(going).await.unwrap();
    assert!(matches!(worker.next().await, Message::Drain(_)));
    stage.create("vj-a-1");
    worker
        .say(Says::Heartbeat(wire::Heartbeat::default()))
        .await;
    assert!(matches!(worker.next().await, Message::Beat(_)));
    assert!(stage.api.patches().is_empty(), "nothing is claimed");
}

/// Another replica may lead, which this one cannot see: workers look for it, and come back if there is none.
/// covers: F29
#[tokio::test]
async fn a_leader_that_is_cut_off_lets_its_workers_go_and_adopts_what_they_run_when_they_come_back()
{
    let stage = Stage::leading().await;
    let mut worker = stage.worker().await;
    stage.create("vj-a-1");
    let Message::Lease(lease) = worker.next().await else {
        panic!("a lease");
    };
    stage.lead(Leadership::CutOff);
    assert_eq!(worker.end().await.code(), Code::Unavailable);
    let refused = stage.connect(worker_hello(), "good").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    stage.lead(Leadership::Leader);
    let hello = wire::Hello {
        held: lease.attempt.clone().into_iter().collect(),
        ..worker_hello()
    };
    let mut worker = stage.connect(hello, "good").await.unwrap();
    worker.say(succeeded(lease.attempt)).await;
    let Message::Ack(ack) = worker.next().await else {
        panic!("an acknowledgement");
    };
    assert_eq!(ack.verdict(), wire::ack::Verdict::Accepted);
    let patches = stage.api.patches();
    let states = patches
        .iter()
        .map(|patch| patch["status"]["state"].as_str());
    assert!(
        states.eq([Some("Running"), Some("Succeeded")]),
        "{patches:?}"
    );
}
