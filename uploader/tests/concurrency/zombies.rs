//! A PATCH stalls at one replica, the client goes on and finishes at the other, and then the old socket wakes.
//! covers: F4, T23

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::AsyncWriteExt;

use crate::harness::{Replica, World, half_a_patch, offset_of, video};

const MIB: usize = 1 << 20;
const PART: usize = 8 * MIB;
const WITHIN: Duration = Duration::from_secs(60);

/// How the old socket ends.
#[derive(Clone, Copy)]
enum Wakes {
    /// It closes.
    Closing,
    /// It brings the rest of its body, of other bytes.
    Talking,
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !done() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn round(world: &World, (one, two): (&Replica, &Replica), tail: usize, wakes: Wakes) {
    let file = video(2 * PART + MIB + tail);
    let id = world.create(one, file.len()).await;
    let stalls_at = PART + tail;
    let mut socket = half_a_patch(one, &id, 0, file.len(), &file[..stalls_at]).await;
    let mut least = 0;
    loop {
        let head = world.head(two, &id).await;
        assert_eq!(head.status(), 200);
        let offset = offset_of(&head).unwrap();
        assert!(offset >= least, "back from {least} to {offset}");
        least = offset;
        if offset == file.len() {
            break;
        }
        let answer = world.patch(two, &id, offset, &file[offset..]).await;
        assert!(answer.status().as_u16() < 500, "{}", answer.status());
    }
    if let Wakes::Talking = wakes {
        // The server may have closed it.
        let _ = socket.write_all(&vec![7; file.len() - stalls_at]).await;
    }
    drop(socket);
    until("the end of the old writer", || one.app.writers.is_empty()).await;
    assert!(world.video(&id).await.is_some_and(|stored| stored == file));
    assert_eq!(offset_of(&world.head(one, &id).await), Some(file.len()));
    assert!(world.jobs.job(&id).is_some());
}

#[tokio::test]
async fn a_socket_that_wakes_after_the_upload_ended_elsewhere_changes_nothing() {
    let world = World::new("z1").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let tails = [MIB, 4 * MIB, 6 * MIB];
    let rounds = [Wakes::Closing, Wakes::Talking]
        .into_iter()
        .flat_map(|wakes| {
            let (world, replicas) = (&world, (&one, &two));
            tails.map(|tail| round(world, replicas, tail, wakes))
        });
    join_all(rounds).await;
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 6, "one job each");
}

/// The old socket wakes while the client is still at it.
#[tokio::test]
async fn a_socket_that_wakes_in_the_middle_changes_nothing() {
    let world = World::new("z2").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let rounds = [MIB, 4 * MIB, 6 * MIB].map(async |tail| {
        let file = video(2 * PART + MIB + tail);
        let id = world.create(&one, file.len()).await;
        let mut socket = half_a_patch(&one, &id, 0, file.len(), &file[..PART + tail]).await;
        let offset = offset_of(&world.head(&two, &id).await).unwrap();
        let to = offset + 2 * MIB;
        let answer = world.patch(&two, &id, offset, &file[offset..to]).await;
        assert_eq!(
            (answer.status().as_u16(), offset_of(&answer)),
            (204, Some(to))
        );
        let _ = socket.write_all(&vec![7; file.len() - PART - tail]).await;
        drop(socket);
        until("the end of the old writer", || one.app.writers.is_empty()).await;
        assert_eq!(offset_of(&world.head(&one, &id).await), Some(to));
        let answer = world.patch(&two, &id, to, &file[to..]).await;
        assert_eq!(answer.status(), 204);
        assert!(world.video(&id).await.is_some_and(|stored| stored == file));
    });
    join_all(rounds).await;
}
