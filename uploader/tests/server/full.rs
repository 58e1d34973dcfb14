//! A quota of the namespace is used up, or etcd's space: uploads are taken, their jobs follow when there is room.

use std::sync::atomic::Ordering;

use kinora_storage::{PutOptions, keys};
use kinora_uploader::sweep::sweep_outbox;

use crate::harness::{Replica, World, id_of, problem_of, video};

async fn post(world: &World, replica: &Replica) -> reqwest::Response {
    let request = world.ask(replica, "POST", "/v1/uploads").body(video(9_999));
    request.send().await.unwrap()
}

/// covers: F9, F24, S11
#[tokio::test]
async fn while_kubernetes_is_full_nothing_is_lost_and_nobody_knocks_in_a_loop() {
    let world = World::new("fu1").await;
    let replica = world.replica().await;
    world.jobs.full.store(true, Ordering::SeqCst);
    let mut ids = Vec::new();
    for _ in 0..5 {
        let answer = post(&world, &replica).await;
        assert_eq!(answer.status(), 201, "the outbox takes it");
        ids.push(id_of(&answer));
    }
    for id in &ids {
        assert_eq!(world.status(&replica, id).await["state"], "stored");
        assert!(world.exists(&keys::pending(&id.parse().unwrap())).await);
    }
    assert!(replica.app.ready.check(&world.store).is_ok());

    let before = world.jobs.creates.load(Ordering::SeqCst);
    for pass in 1..=3 {
        assert!(sweep_outbox(&replica.app, 0).await.stopped);
        let asked = world.jobs.creates.load(Ordering::SeqCst) - before;
        assert_eq!(asked, pass, "one question a pass, whoever waits");
    }

    // It goes on for hours: new files had better stay where they are.
    let admission = &replica.app.admission;
    admission.set_oldest_pending(7 * 3600);
    let refused = post(&world, &replica).await;
    assert_eq!(refused.headers()["retry-after"], "300");
    assert_eq!(problem_of(refused).await, (429, "overloaded".into()));

    // There is room again, and that is all that was to be done.
    world.jobs.full.store(false, Ordering::SeqCst);
    for _ in 0..20 {
        sweep_outbox(&replica.app, 0).await;
        if ids.iter().all(|id| world.jobs.job(id).is_some()) {
            break;
        }
    }
    for id in &ids {
        assert_eq!(world.status(&replica, id).await["state"], "queued");
        world.gone(&keys::pending(&id.parse().unwrap())).await;
    }
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), ids.len());
    assert_eq!(post(&world, &replica).await.status(), 201);
}

/// covers: F9
#[tokio::test]
async fn an_entry_that_nobody_will_ever_take_is_told_from_those_that_wait() {
    let world = World::new("fu2").await;
    let replica = world.replica().await;
    world.jobs.full.store(true, Ordering::SeqCst);
    let waiting = id_of(&post(&world, &replica).await).parse().unwrap();
    world.jobs.full.store(false, Ordering::SeqCst);
    let broken = replica.app.mint();
    let key = keys::pending(&broken);
    let put = world.store.put(&key, "{}".into(), PutOptions::default());
    put.await.unwrap();
    for _ in 0..20 {
        sweep_outbox(&replica.app, 0).await;
        if !world.exists(&keys::pending(&waiting)).await {
            break;
        }
    }
    let admission = &replica.app.admission;
    assert!(admission.is_stuck(&broken) && !admission.is_stuck(&waiting));
    assert!(world.exists(&key).await, "somebody may still mend it");
    assert_eq!(sweep_outbox(&replica.app, 0).await.stale, 1);
}
