//! Two requests at once, again and again, with a little more of a start for one of them each time. covers: F4, T23

use std::time::Duration;

use futures::StreamExt;
use futures::future::join;
use kinora_storage::{PutOptions, UploadId, keys};
use kinora_upload_engine::{Phase, Slice, State, crc};
use kinora_uploader::sweep::{Ages, sweep_outbox, sweep_states};
use reqwest::Response;

use crate::harness::{Replica, World, offset_of, video};

const ROUNDS: u32 = 20;
/// A contended swap takes whole seconds on this store, so the rounds wait beside each other.
const AT_ONCE: usize = 10;
const SIZE: usize = 400_000;
/// Enough for what a client that tries again may meet.
const TRIES: usize = 60;

/// Plays all rounds of `round`, each with its number.
async fn rounds<F: Future<Output = bool>>(round: impl Fn(u32) -> F) -> usize {
    let rounds = futures::stream::iter(0..ROUNDS).map(round);
    let ends: Vec<bool> = rounds.buffer_unordered(AT_ONCE).collect().await;
    ends.into_iter().filter(|end| *end).count()
}

/// A head start that grows from none, for one side and then for the other.
fn starts(round: u32) -> (Duration, Duration) {
    let start = Duration::from_millis(u64::from(round / 2) * 3);
    if round.is_multiple_of(2) {
        (start, Duration::ZERO)
    } else {
        (Duration::ZERO, start)
    }
}

async fn after<T>(start: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::sleep(start).await;
    work.await
}

/// No server error; the answer's status.
fn calm(answer: &Response) -> u16 {
    let status = answer.status().as_u16();
    assert!(status < 500, "{status} from {}", answer.url());
    status
}

async fn delete(world: &World, replica: &Replica, id: &str) -> Response {
    let path = format!("/v1/uploads/{id}");
    let request = world.tus(replica, "DELETE", &path);
    request.send().await.unwrap()
}

/// Goes on as a client does until the upload is at its end; the other replica is asked each time.
async fn go_on(world: &World, replicas: [&Replica; 2], id: &str, file: &[u8]) {
    let mut least = 0;
    for n in 0..TRIES {
        let head = world.head(replicas[n % 2], id).await;
        assert_eq!(calm(&head), 200);
        let offset = offset_of(&head).unwrap();
        assert!(
            offset >= least,
            "the offset went back from {least} to {offset}"
        );
        least = offset;
        if offset == file.len() {
            return;
        }
        calm(
            &world
                .patch(replicas[(n + 1) % 2], id, offset, &file[offset..])
                .await,
        );
    }
    panic!("{id} does not come to its end");
}

async fn is_whole(world: &World, id: &str, file: &[u8]) {
    let stored = world.video(id).await;
    assert!(
        stored.is_some_and(|stored| stored == file),
        "{id}: other bytes"
    );
    assert!(world.jobs.job(id).is_some(), "{id}: no job");
}

#[tokio::test]
async fn two_patches_of_the_same_bytes_make_one_video() {
    let world = World::new("c1").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let (world, one, two) = (&world, &one, &two);
    let file = &video(SIZE);
    rounds(|n| async move {
        let id = &world.create(one, file.len()).await;
        let (first, second) = starts(n);
        let both = join(
            after(first, world.patch(one, id, 0, file)),
            after(second, world.patch(two, id, 0, file)),
        );
        let (a, b) = both.await;
        for answer in [&a, &b] {
            assert!(matches!(calm(answer), 204 | 409), "{}", answer.status());
        }
        go_on(world, [one, two], id, file).await;
        is_whole(world, id, file).await;
        true
    })
    .await;
    let jobs = world.jobs.jobs.lock().unwrap().len();
    assert_eq!(jobs, ROUNDS as usize, "one job each");
}

#[tokio::test]
async fn two_clients_with_different_bytes_never_share_a_video() {
    let world = World::new("c2").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let (world, one, two) = (&world, &one, &two);
    let mine = &video(SIZE);
    let theirs = &{
        let mut bytes = mine.clone();
        bytes[1000..].iter_mut().for_each(|byte| *byte ^= 0x55);
        bytes
    };
    let acknowledged = rounds(|n| async move {
        let id = &world.create(one, mine.len()).await;
        let (first, second) = starts(n);
        let both = join(
            after(first, world.patch(one, id, 0, mine)),
            after(second, world.patch(two, id, 0, theirs)),
        );
        let (a, b) = both.await;
        let won: Vec<_> = [(a, mine), (b, theirs)]
            .into_iter()
            .filter(|(answer, _)| calm(answer) == 204)
            .collect();
        assert!(won.len() <= 1, "both are told that their bytes are stored");
        let Some((_, bytes)) = won.first() else {
            // Nobody was told so: there is nothing to see, whole or half.
            assert_eq!(world.video(id).await, None);
            calm(&delete(world, two, id).await);
            return false;
        };
        is_whole(world, id, bytes).await;
        true
    })
    .await;
    assert!(acknowledged > 0, "no round ended with a video");
}

#[tokio::test]
async fn heads_beside_a_patch_tell_offsets_that_never_go_back() {
    let world = World::new("c3").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let (world, one, two) = (&world, &one, &two);
    let file = &video(SIZE);
    rounds(|n| async move {
        let id = &world.create(one, file.len()).await;
        let (first, second) = starts(n);
        let heads = async {
            let mut least = 0;
            for _ in 0..3 {
                let head = world.head(two, id).await;
                assert_eq!(calm(&head), 200);
                let offset = offset_of(&head).unwrap();
                assert!(offset >= least, "back from {least} to {offset}");
                least = offset;
            }
        };
        let patch = after(first, world.patch(one, id, 0, file));
        let (patched, ()) = join(patch, after(second, heads)).await;
        assert!(matches!(calm(&patched), 204 | 409), "{}", patched.status());
        go_on(world, [two, one], id, file).await;
        is_whole(world, id, file).await;
        true
    })
    .await;
}

#[tokio::test]
async fn a_delete_beside_a_patch_ends_the_upload_or_cancels_the_video() {
    let world = World::new("c4").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let (world, one, two) = (&world, &one, &two);
    let file = &video(SIZE);
    rounds(|n| async move {
        let id = &world.create(one, file.len()).await;
        let (first, second) = starts(n);
        let both = join(
            after(first, world.patch(one, id, 0, file)),
            after(second, delete(world, two, id)),
        );
        let (patched, deleted) = both.await;
        calm(&patched);
        let mut deleted = calm(&deleted);
        // Where they met in the middle of the end, the client asks again.
        for _ in 0..TRIES {
            if deleted == 204 {
                break;
            }
            deleted = calm(&delete(world, two, id).await);
        }
        assert_eq!(deleted, 204);
        match world.jobs.job(id) {
            Some(job) => assert_eq!(job.spec.cancel_requested, Some(true), "{id}"),
            None => assert_eq!(world.video(id).await, None, "{id}: a video without a job"),
        }
        true
    })
    .await;
}

/// Puts an upload where a crash after the swap to `finishing` leaves it.
async fn crashed(world: &World, replica: &Replica, file: &[u8]) -> String {
    let id = world.create(replica, file.len()).await;
    let upload: UploadId = id.parse().unwrap();
    let object = world.store.get(&keys::state(&upload)).await.unwrap();
    let mut doc = State::parse(&object.unwrap().bytes).unwrap();
    let to = file.len() as u64;
    let slice = keys::tail(&upload, 0, 1, 0, to);
    let bytes = file.to_vec().into();
    world
        .store
        .put(&slice, bytes, PutOptions::default())
        .await
        .unwrap();
    doc.tail = vec![Slice {
        part: 0,
        epoch: 1,
        from: 0,
        to,
    }];
    (doc.phase, doc.epoch, doc.offset) = (Phase::Finishing, 1, to);
    (doc.crc, doc.nonce) = (Some(crc::of(file)), "crashed".into());
    let bytes = doc.to_bytes().unwrap().into();
    let key = keys::state(&upload);
    let put = world.store.put(&key, bytes, PutOptions::default());
    put.await.unwrap();
    id
}

#[tokio::test]
async fn two_replicas_that_find_an_upload_whole_finish_it_once() {
    let world = World::new("c5").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let (world, one, two) = (&world, &one, &two);
    let file = &video(SIZE);
    rounds(|n| async move {
        let id = &crashed(world, one, file).await;
        let (first, second) = starts(n);
        let both = join(
            after(first, world.head(one, id)),
            after(second, world.head(two, id)),
        );
        let (a, b) = both.await;
        for answer in [&a, &b] {
            assert_eq!((calm(answer), offset_of(answer)), (200, Some(file.len())));
        }
        is_whole(world, id, file).await;
        true
    })
    .await;
    let jobs = world.jobs.jobs.lock().unwrap().len();
    assert_eq!(jobs, ROUNDS as usize, "one job each");
}

/// A cell for each round, so that a sweep meets the uploads of its own round only.
fn cell(letter: char, round: u32) -> String {
    format!("{letter}{round}")
}

#[tokio::test]
async fn the_sweeps_beside_a_finishing_request_finish_it_once() {
    let file = &video(SIZE);
    let look = Ages {
        look: 0,
        expire: u64::MAX,
        life: u64::MAX,
        ..Ages::default()
    };
    rounds(|n| async move {
        let world = &World::new(&cell('s', n)).await;
        let (one, two) = (&world.replica().await, &world.replica().await);
        let id = &crashed(world, one, file).await;
        let (first, second) = starts(n);
        let sweeps = async {
            sweep_states(&one.app, look).await;
            sweep_outbox(&one.app, 0).await;
        };
        let head = after(second, world.head(two, id));
        let ((), answer) = join(after(first, sweeps), head).await;
        assert_eq!((calm(&answer), offset_of(&answer)), (200, Some(file.len())));
        is_whole(world, id, file).await;
        assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1, "one job");
        true
    })
    .await;
}

/// covers: F5
#[tokio::test]
async fn an_expiry_beside_a_patch_takes_nothing_that_is_acknowledged() {
    let file = &video(SIZE);
    // Whatever rests, rests too long.
    let at_once = Ages {
        look: 0,
        expire: 0,
        life: u64::MAX,
        ..Ages::default()
    };
    rounds(|n| async move {
        let world = &World::new(&cell('e', n)).await;
        let (one, two) = (&world.replica().await, &world.replica().await);
        let id = &world.create(one, file.len()).await;
        let (first, second) = starts(n);
        let expiry = after(first, sweep_states(&one.app, at_once));
        let patch = after(second, world.patch(two, id, 0, file));
        let (_, answer) = join(expiry, patch).await;
        let status = calm(&answer);
        assert!(matches!(status, 204 | 409 | 410), "{status}");
        if status == 204 {
            is_whole(world, id, file).await;
        } else {
            let head = world.head(two, id).await;
            assert_eq!(calm(&head), 410);
            assert_eq!(world.video(id).await, None);
        }
        true
    })
    .await;
}
