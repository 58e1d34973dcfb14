//! Kubernetes hangs: what was received is safe, and nobody who brings more has to suffer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{join, join_all};
use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
use kinora_storage::StoreArgs;
use kinora_uploader::sweep::sweep_outbox;

use crate::harness::{KEY, World, id_of, until, video};

const PART: usize = 8 << 20;

fn args(fake: &FakeS3) -> StoreArgs {
    StoreArgs::new(fake.endpoint(), BUCKET, fake.credentials_dir())
}

/// covers: F6
#[tokio::test]
async fn a_finish_that_waits_for_kubernetes_holds_no_memory() {
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let mut world = World::on("ha1", args(&fake)).await;
    world.args.body_memory_bytes = 2 * PART as u64;
    let replica = world.replica().await;
    world.jobs.most.send_replace(Some(0));
    let post = async || {
        let request = world.ask(&replica, "POST", "/v1/uploads").body(video(PART));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        id_of(&answer)
    };
    let third = async {
        let hang = || world.jobs.creates.load(Ordering::SeqCst) == 2;
        until("two finishes hang", hang).await;
        assert_eq!(replica.app.budget.free(), 2 * PART as u64);
        world.jobs.away.store(true, Ordering::SeqCst);
        let id = post().await;
        assert_eq!(world.status(&replica, &id).await["state"], "stored");
        world.jobs.away.store(false, Ordering::SeqCst);
        world.jobs.most.send_replace(None);
    };
    let (first, ()) = join(join(post(), post()), third).await;
    for id in [first.0, first.1] {
        assert_eq!(world.status(&replica, &id).await["state"], "queued");
    }
}

#[tokio::test]
async fn a_hundred_finishes_ask_a_kubernetes_that_hangs_once() {
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let mut world = World::on("ha2", args(&fake)).await;
    world.pause = Duration::from_secs(3600);
    let replica = world.replica().await;
    let asked = || world.jobs.asked.load(Ordering::SeqCst);
    world.jobs.silent.store(true, Ordering::SeqCst);
    let mut ids = vec![world.upload(&replica, KEY).await];
    ids.extend(join_all((0..99).map(|_| world.upload(&replica, KEY))).await);
    assert_eq!(asked(), 1);
    for id in &ids {
        assert_eq!(world.status(&replica, id).await["state"], "stored");
    }
    assert_eq!(asked(), 1, "nor does who looks");
    for pass in 1..=2 {
        assert!(sweep_outbox(&replica.app, 0).await.stopped);
        assert_eq!(asked(), 1 + pass, "the sweep waits for an answer");
    }

    world.jobs.silent.store(false, Ordering::SeqCst);
    assert_eq!(sweep_outbox(&replica.app, 0).await.finished, ids.len());
    ids.push(world.upload(&replica, KEY).await);
    for id in &ids {
        assert_eq!(world.status(&replica, id).await["state"], "queued");
    }
}
