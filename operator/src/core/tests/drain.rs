//! Workers that have to go, over the real protocol.

use kinora_protocol::dispatch as wire;
use tonic::Code;
use wire::from_worker::Message as Says;
use wire::to_worker::Message;

use super::stage::{POD, Stage, Worker};
use crate::ports::{CoreCommand, PodEvent};

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
