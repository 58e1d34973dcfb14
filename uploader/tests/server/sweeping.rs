//! The sweeps of a replica, side by side.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join;
use kinora_fake_s3::{BUCKET, Behaviour, FakeS3, Fault, Op, Rule};
use kinora_storage::{StoreArgs, keys};
use kinora_uploader::sweep::{self, Ages, sweep_idem, sweep_outbox, sweep_states};

use crate::finishing::{LOOK, crash_after_step_1};
use crate::harness::{KEY, World, id_of, until, video};

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
    for _ in 0..20 {
        world.create(&replica, 9_000).await;
    }
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
    until("the pass over the states hangs", || looks() == 16).await;
    world.jobs.away.store(false, Ordering::SeqCst);
    until("its job is made", || world.jobs.job(&id).is_some()).await;
    assert_eq!(looks(), 16, "it still hangs");
}

/// covers: F1
#[tokio::test]
async fn a_pass_over_states_asks_a_kubernetes_that_is_away_once_and_leaves_alone_what_the_outbox_has()
 {
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let world = patient("sw2", &fake).await;
    let replica = world.replica().await;
    for _ in 0..20 {
        crash_after_step_1(&world, &replica, &video(1_000)).await;
    }
    let asked = || world.jobs.asked.load(Ordering::SeqCst);
    world.jobs.away.store(true, Ordering::SeqCst);
    for pass in 1..=2 {
        assert_eq!(sweep_states(&replica.app, LOOK).await.finished, 1);
        assert_eq!(asked(), pass);
        assert_eq!(fake.keys("pending/").len(), pass);
    }
    world.jobs.away.store(false, Ordering::SeqCst);
    let made = || world.jobs.jobs.lock().unwrap().len();
    assert_eq!(sweep_states(&replica.app, LOOK).await.finished, 18);
    assert_eq!(made(), 18);
    sweep_outbox(&replica.app, 0).await;
    assert_eq!(made(), 20);
}

#[tokio::test]
async fn eight_outbox_entries_are_under_way_at_once_when_the_first_has_its_job() {
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let world = patient("sw3", &fake).await;
    let replica = world.replica().await;
    world.jobs.away.store(true, Ordering::SeqCst);
    for _ in 0..12 {
        world.upload(&replica, KEY).await;
    }
    world.jobs.away.store(false, Ordering::SeqCst);
    // The first create is answered, the others hang.
    world.jobs.most.send_replace(Some(1));
    let hanging = async {
        let begun = || world.jobs.creates.load(Ordering::SeqCst);
        until("eight more are begun", || begun() == 9).await;
        world.jobs.most.send_replace(Some(2));
        until("one more for the one that ended", || begun() == 10).await;
        world.jobs.most.send_replace(None);
    };
    let (pass, ()) = join(sweep_outbox(&replica.app, 0), hanging).await;
    assert_eq!((pass.stale, pass.finished), (12, 12));
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 12);
}

#[tokio::test]
async fn what_runs_when_kubernetes_stops_a_pass_ends_and_nothing_more_begins() {
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let world = patient("sw4", &fake).await;
    let replica = world.replica().await;
    world.jobs.away.store(true, Ordering::SeqCst);
    for _ in 0..12 {
        world.upload(&replica, KEY).await;
    }
    world.jobs.away.store(false, Ordering::SeqCst);
    world.jobs.most.send_replace(Some(1));
    let hanging = async {
        let begun = || world.jobs.creates.load(Ordering::SeqCst);
        until("eight more are begun", || begun() == 9).await;
        world.jobs.full.store(true, Ordering::SeqCst);
        world.jobs.most.send_replace(None);
    };
    let (pass, ()) = join(sweep_outbox(&replica.app, 0), hanging).await;
    assert_eq!((pass.stopped, pass.finished), (true, 1));
    assert_eq!(world.jobs.creates.load(Ordering::SeqCst), 9);
}

/// One answer with a wrong `Date` ends no upload and forgets no key.
#[tokio::test]
async fn by_a_clock_that_is_off_nothing_expires() {
    let fake = FakeS3::start(Behaviour::aws()).unwrap();
    let world = patient("sw5", &fake).await;
    let replica = world.replica().await;
    let id = world.create(&replica, 9_000).await;
    let key = "idem/00/0000";
    for key in [
        key,
        &format!("{}lost", keys::upload_prefix(&replica.app.mint())),
    ] {
        let put = world.store.put(key, "{}".into(), Default::default());
        put.await.unwrap();
    }
    fake.clock().advance(Duration::from_secs(25 * 3600));
    world.store.head("control/absent").await.unwrap();
    let pass = sweep_states(&replica.app, Ages::default()).await;
    assert_eq!((pass.seen, pass.expired, pass.removed), (1, 0, 0));
    assert_eq!(sweep_idem(&replica.app, "00", 0).await.unwrap(), 0);
    assert!(world.exists(key).await);
    assert_eq!(world.head(&replica, &id).await.status(), 200);
    let keyed = || {
        let create = world.ask(&replica, "POST", "/v1/uploads");
        let create = create.header("Idempotency-Key", "once");
        create.body(video(9_000)).send()
    };
    fake.clock().skew(0);
    world.store.head("control/absent").await.unwrap();
    let first = keyed().await.unwrap();
    assert_eq!(first.status(), 201);
    fake.clock().advance(Duration::from_secs(8 * 24 * 3600));
    world.store.head("control/absent").await.unwrap();
    assert_eq!(keyed().await.unwrap().status(), 503);

    fake.clock().skew(0);
    world.store.head("control/absent").await.unwrap();
    let again = keyed().await.unwrap();
    assert_eq!(id_of(&again), id_of(&first), "no second video");
    world.store.head("control/absent").await.unwrap();
    let at_once = Ages {
        expire: 0,
        ..Ages::default()
    };
    assert_eq!(sweep_idem(&replica.app, "00", 0).await.unwrap(), 1);
    assert_eq!(sweep_states(&replica.app, at_once).await.expired, 1);
}
