//! Uploads in pieces, over two replicas, with cuts. covers: F4, F8, T23

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{STREAM, World, half_a_patch, id_of, offset_of, until, video};

const MB: usize = 1_000_000;

#[tokio::test]
async fn pieces_of_any_size_make_the_whole_file() {
    let world = World::new("r1").await;
    let (one, two) = (world.replica().await, world.replica().await);
    // Small enough for one PutObject; parts and tails; an exact multiple of the part size.
    for (length, step) in [(3 * MB, MB), (21 * MB, 5 * MB), (16 << 20, 8 << 20)] {
        let file = video(length);
        let id = world.create(&one, length).await;
        let mut offset = 0;
        for (n, piece) in file.chunks(step).enumerate() {
            let replica = if n % 2 == 0 { &one } else { &two };
            let answer = world.patch(replica, &id, offset, piece).await;
            offset += piece.len();
            assert_eq!(
                (answer.status().as_u16(), offset_of(&answer)),
                (204, Some(offset)),
                "{length}: {n}"
            );
            let answer = world.head(if n % 2 == 0 { &two } else { &one }, &id).await;
            assert_eq!(
                (answer.status().as_u16(), offset_of(&answer)),
                (200, Some(offset)),
                "{length}: {n}"
            );
            assert_eq!(answer.headers()["cache-control"], "no-store");
        }
        assert_eq!(world.video(&id).await.unwrap(), file, "{length}");
        assert!(world.jobs.job(&id).is_some());
        assert_eq!(
            offset_of(&world.head(&two, &id).await),
            Some(length),
            "after the end"
        );
    }
}

#[tokio::test]
async fn a_create_with_bytes_goes_on_where_they_end() {
    let world = World::new("r2").await;
    let replica = world.replica().await;
    for (length, first) in [
        (2 * MB, 2 * MB),
        (2 * MB, MB),
        (20 * MB, 9 * MB),
        (20 * MB, 20 * MB),
    ] {
        let file = video(length);
        let request = world
            .tus(&replica, "POST", "/v1/uploads")
            .header("Upload-Length", length);
        let request = request
            .header("Content-Type", STREAM)
            .body(file[..first].to_vec());
        let answer = request.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), offset_of(&answer)),
            (201, Some(first))
        );
        let id = id_of(&answer);
        if first < length {
            let answer = world.patch(&replica, &id, first, &file[first..]).await;
            assert_eq!(
                (answer.status().as_u16(), offset_of(&answer)),
                (204, Some(length))
            );
        }
        assert_eq!(world.video(&id).await.unwrap(), file, "{first} of {length}");
    }
}

#[tokio::test]
async fn an_upload_cut_at_half_goes_on_at_another_replica() {
    let world = World::new("r3").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(21 * MB);
    let id = world.create(&one, file.len()).await;
    let half = 11 * MB;
    drop(half_a_patch(&one, &id, 0, file.len(), &file[..half]).await);
    let answer = world.head(&two, &id).await;
    let offset = offset_of(&answer).unwrap();
    assert!(offset <= half, "no more than was sent: {offset}");
    let answer = world.patch(&two, &id, offset, &file[offset..]).await;
    assert_eq!(
        (answer.status().as_u16(), offset_of(&answer)),
        (204, Some(file.len()))
    );
    assert_eq!(world.video(&id).await.unwrap(), file);
    assert!(world.jobs.job(&id).is_some());
}

/// A writer that is fenced off can neither shorten nor mix what its successor wrote.
#[tokio::test]
async fn a_stalled_socket_changes_nothing_after_another_replica_went_on() {
    let world = World::new("r4").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(20 * MB);
    let id = world.create(&one, file.len()).await;
    let mut stalled = half_a_patch(&one, &id, 0, file.len(), &file[..10 * MB]).await;
    let read = || one.app.metrics.received_bytes.get() >= 10 * MB as u64;
    until("all that was sent is read", read).await;
    // Closed before another replica asks for it, which waits only so long.
    while world.status(&two, &id).await["offset"].as_u64() < Some(8 << 20) {
        tokio::task::yield_now().await;
    }
    let offset = offset_of(&world.head(&two, &id).await).unwrap();
    assert!(
        (8 << 20..=10 * MB).contains(&offset),
        "a stall is closed with its tail: {offset}"
    );
    let answer = world
        .patch(&two, &id, offset, &file[offset..offset + 4 * MB])
        .await;
    assert_eq!(answer.status(), 204);
    // The old socket wakes and sends something else.
    let _ = stalled.write_all(&vec![7; 10 * MB]).await;
    let mut answer = String::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(20), stalled.read_to_string(&mut answer)).await;
    assert!(
        !answer.contains(" 204 ") && !answer.contains(" 500 "),
        "{answer}"
    );
    let offset = offset + 4 * MB;
    assert_eq!(offset_of(&world.head(&one, &id).await), Some(offset));
    assert_eq!(
        world
            .patch(&one, &id, offset, &file[offset..])
            .await
            .status(),
        204
    );
    assert_eq!(world.video(&id).await.unwrap(), file);
}

#[tokio::test]
async fn concurrent_patches_never_answer_a_server_error_nor_mix_bytes() {
    let world = World::new("r5").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(10 * MB);
    let id = world.create(&one, file.len()).await;
    let all = [&one, &two, &one, &two].map(|replica| world.patch(replica, &id, 0, &file));
    for answer in futures::future::join_all(all).await {
        assert!(answer.status().as_u16() < 500, "{}", answer.status());
    }
    let offset = offset_of(&world.head(&two, &id).await).unwrap();
    if offset < file.len() {
        assert_eq!(
            world
                .patch(&one, &id, offset, &file[offset..])
                .await
                .status(),
            204
        );
    }
    assert_eq!(world.video(&id).await.unwrap(), file);
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 1);
}

/// covers: F8
#[tokio::test]
async fn a_replica_that_ends_stores_what_came_and_another_goes_on() {
    let world = World::new("r6").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(12 * MB);
    let id = world.create(&one, file.len()).await;
    let mut socket = half_a_patch(&one, &id, 0, file.len(), &file[..10 * MB]).await;
    while one.app.metrics.received_bytes.get() < 10 * MB as u64 {
        tokio::task::yield_now().await;
    }
    one.app.closing.cancel();
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    let answer = world.head(&two, &id).await;
    assert_eq!(offset_of(&answer), Some(10 * MB));
    assert_eq!(
        world
            .patch(&two, &id, 10 * MB, &file[10 * MB..])
            .await
            .status(),
        204
    );
    assert_eq!(world.video(&id).await.unwrap(), file);
}

#[tokio::test]
async fn a_body_that_pauses_is_closed_and_goes_on_when_bytes_come_back() {
    let world = World::new("r7").await;
    let (one, two) = (world.replica().await, world.replica().await);
    let file = video(3 * MB);
    let id = world.create(&one, file.len()).await;
    let mut socket = half_a_patch(&one, &id, 0, file.len(), &file[..MB]).await;
    // Seen at the other replica once the pause has closed it; asking there does not end the body here.
    while world.status(&two, &id).await["offset"] != MB {
        tokio::task::yield_now().await;
    }
    socket.write_all(&file[MB..]).await.unwrap();
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    assert_eq!(world.video(&id).await.unwrap(), file);
}

/// As a phone does that changes cells: what came in half a minute is enough, so its silence is no slowness.
#[tokio::test]
async fn a_body_that_brought_enough_may_pause_across_the_windows_of_its_rate() {
    let world = World::new("r10").await;
    let replica = world.replica().await;
    let file = video(3 * MB);
    let id = world.create(&replica, file.len()).await;
    let mut socket = half_a_patch(&replica, &id, 0, file.len(), &file[..MB]).await;
    for (pause, part) in [(20, MB..2 * MB), (12, 2 * MB..3 * MB)] {
        tokio::time::sleep(std::time::Duration::from_secs(pause)).await;
        socket.write_all(&file[part]).await.unwrap();
    }
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    assert_eq!(world.video(&id).await.unwrap(), file);
}
