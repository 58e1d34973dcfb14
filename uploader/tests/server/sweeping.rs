//! The sweeps of a replica, side by side.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kinora_fake_s3::{BUCKET, Behaviour, FakeS3, Fault, Op, Rule};
use kinora_storage::StoreArgs;
use kinora_uploader::sweep;

use crate::harness::{KEY, World, until};

/// A store whose answers are waited for longer than any test takes.
async fn patient(cell: &str, fake: &FakeS3) -> World {
    let mut args = StoreArgs::new(fake.endpoint(), BUCKET, fake.credentials_dir());
    args.store_timeout_seconds = 600;
    World::on(cell, args).await
}

/// covers: F1
#[tokio::test]
async fn a_stale_outbox_entry_is_finished_while_a_pass_over_the_states_hangs() {
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let world = patient("sw1", &fake).await;
    let replica = world.replica().await;
    world.jobs.away.store(true, Ordering::SeqCst);
    let id = world.upload(&replica, KEY).await;
    world.create(&replica, 9_000).await;
    fake.clock().advance(Duration::from_secs(360));
    world.store.head("control/absent").await.unwrap();
    let hang = Rule::on(Op::Get, Fault::NoAnswer).key("/state");
    fake.faults().add(hang);
    sweep::start(&replica.app, Duration::from_millis(10));
    let looks = || {
        let calls = fake.journal().calls();
        let states = calls.iter().filter(|call| call.key.ends_with("/state"));
        states.filter(|call| call.op == Op::Get).count()
    };
    until("the pass over the states hangs", || looks() == 1).await;
    world.jobs.away.store(false, Ordering::SeqCst);
    until("its job is made", || world.jobs.job(&id).is_some()).await;
    assert_eq!(looks(), 1, "it still hangs");
}
