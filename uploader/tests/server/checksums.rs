//! Checksums of bodies and digests of whole files: nothing counts before it was compared, and what is not what it was
//! said to be never becomes a video.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinora_storage::{UploadId, keys};
use kinora_upload_engine::crc;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::harness::{STREAM, World, half_a_patch_with, id_of, offset_of, until, video};

const PART: usize = 8 << 20;

fn checksum(algorithm: &str, bytes: &[u8]) -> String {
    let digest = match algorithm {
        "sha1" => Sha1::digest(bytes).to_vec(),
        "sha256" => Sha256::digest(bytes).to_vec(),
        "crc32c" => crc::crc32c(bytes).to_be_bytes().to_vec(),
        _ => crc::of(bytes).to_be_bytes().to_vec(),
    };
    STANDARD.encode(digest)
}

fn damaged(bytes: &[u8]) -> Vec<u8> {
    let mut other = bytes.to_vec();
    if let Some(last) = other.last_mut() {
        *last ^= 1;
    }
    other
}

#[tokio::test]
async fn a_damaged_body_counts_for_nothing_and_comes_again_by_every_algorithm() {
    let world = World::new("c1").await;
    let replica = world.replica().await;
    let file = video(200_000);
    for algorithm in ["sha1", "sha256", "crc32c", "crc64nvme"] {
        let id = world.create(&replica, file.len()).await;
        let (first, rest) = file.split_at(90_000);
        let send = async |offset: usize, meant: &[u8], sent: Vec<u8>| {
            let said = format!("{algorithm} {}", checksum(algorithm, meant));
            let request = world
                .tus(&replica, "PATCH", &format!("/v1/uploads/{id}"))
                .header("Upload-Offset", offset)
                .header("Content-Type", STREAM)
                .header("Upload-Checksum", said);
            request.body(sent).send().await.unwrap()
        };
        let answer = send(0, first, damaged(first)).await;
        assert_eq!(answer.status(), 460, "{algorithm}");
        assert_eq!(offset_of(&world.head(&replica, &id).await), Some(0));
        let answer = send(0, first, first.to_vec()).await;
        assert_eq!(answer.status(), 204, "{algorithm}");
        assert_eq!(offset_of(&answer), Some(90_000), "{algorithm}");
        assert_eq!(send(90_000, rest, damaged(rest)).await.status(), 460);
        let head = world.head(&replica, &id).await;
        assert_eq!(offset_of(&head), Some(90_000), "{algorithm}: not whole");
        assert_eq!(send(90_000, rest, rest.to_vec()).await.status(), 204);
        assert_eq!(world.video(&id).await.unwrap(), file, "{algorithm}");
    }
    assert_eq!(world.jobs.jobs.lock().unwrap().len(), 4);
}

/// covers: T17
#[tokio::test]
async fn parts_of_a_damaged_body_are_overwritten_and_never_believed() {
    let world = World::new("c2").await;
    let replica = world.replica().await;
    let other = world.replica().await;
    let file = video(3 * PART + 5_000);
    let id = world.create(&replica, file.len()).await;
    let mut wrong = file.clone();
    for at in [100_000, PART + 1, 2 * PART + 1] {
        wrong[at] ^= 1;
    }
    let request = world
        .tus(&replica, "PATCH", &format!("/v1/uploads/{id}"))
        .header("Upload-Offset", 0)
        .header("Content-Type", STREAM)
        .header(
            "Content-Digest",
            format!("sha-256=:{}:", checksum("sha256", &file)),
        );
    let answer = request.body(wrong).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), offset_of(&answer)),
        (460, Some(0))
    );
    // One part comes again and its connection breaks: the damaged ones behind it stay uncounted.
    let socket = half_a_patch_with(&replica, &id, 0, file.len(), &file[..PART + 9], "").await;
    drop(socket);
    let offset = offset_of(&world.head(&other, &id).await).unwrap();
    assert!(offset <= PART + 9, "{offset}");
    let answer = world.patch(&other, &id, offset, &file[offset..]).await;
    assert_eq!(answer.status(), 204);
    assert!(world.video(&id).await.unwrap() == file);
}

/// The length is told with the second try only: by then a multipart upload has the damaged part.
/// covers: T17
#[tokio::test]
async fn a_file_of_exactly_one_part_is_taken_after_a_damaged_try() {
    let world = World::new("c21").await;
    let replica = world.replica().await;
    let file = video(PART);
    for pieces in [&[PART][..], &[3_000_000, PART]] {
        let create = world.tus(&replica, "POST", "/v1/uploads");
        let create = create.header("Upload-Defer-Length", 1);
        let id = id_of(&create.send().await.unwrap());
        let send = |offset: usize, body: Vec<u8>, said: &[u8]| {
            let said = format!("sha256 {}", checksum("sha256", said));
            world
                .tus(&replica, "PATCH", &format!("/v1/uploads/{id}"))
                .header("Upload-Offset", offset)
                .header("Content-Type", STREAM)
                .header("Upload-Checksum", said)
                .body(body)
        };
        let answer = send(0, damaged(&file), &file).send().await.unwrap();
        assert_eq!(answer.status(), 460);
        let mut from = 0;
        for to in pieces {
            let request = send(from, file[from..*to].to_vec(), &file[from..*to]);
            let request = match *to == PART {
                true => request.header("Upload-Length", PART),
                false => request,
            };
            assert_eq!(request.send().await.unwrap().status(), 204, "{pieces:?}");
            from = *to;
        }
        assert!(world.video(&id).await.unwrap() == file, "{pieces:?}");
        assert!(world.jobs.job(&id).is_some(), "{pieces:?}");
    }
}

/// covers: T17
#[tokio::test]
async fn a_request_that_ends_before_its_checksum_was_compared_leaves_the_offset() {
    let world = World::new("c3").await;
    let replica = world.replica().await;
    let other = world.replica().await;
    let file = video(PART + 300_000);
    let id = world.create(&replica, file.len()).await;
    let said = format!("Upload-Checksum: sha1 {}\r\n", checksum("sha1", &file));
    let sent = &file[..PART + 100_000];
    let socket = half_a_patch_with(&replica, &id, 0, file.len(), sent, &said).await;
    // The other replica takes over what does not close.
    assert_eq!(offset_of(&world.head(&other, &id).await), Some(0));
    drop(socket);
    assert_eq!(world.patch(&other, &id, 0, &file).await.status(), 204);
    assert!(world.video(&id).await.unwrap() == file);
}

#[tokio::test]
async fn a_whole_file_with_another_digest_is_rejected_and_leaves_no_video() {
    let world = World::new("c4").await;
    let replica = world.replica().await;
    let small = video(50_000);
    let large = video(PART + 70_000);
    for (name, file, algorithm, field) in [
        ("a small file by SHA-256", &small, "sha256", "sha-256"),
        ("a small file by CRC32C", &small, "crc32c", "crc32c"),
        ("a large file by SHA-256", &large, "sha256", "sha-256"),
        ("a large file by CRC32C", &large, "crc32c", "crc32c"),
        (
            "a large file by CRC64NVME",
            &large,
            "crc64nvme",
            "crc64nvme",
        ),
    ] {
        let send = async |meant: &[u8]| {
            let said = format!("{field}=:{}:", checksum(algorithm, meant));
            let create = world
                .tus(&replica, "POST", "/v1/uploads")
                .header("Upload-Length", file.len())
                .header("Repr-Digest", said);
            let id = id_of(&create.send().await.unwrap());
            let half = file.len() / 2;
            assert_eq!(
                world.patch(&replica, &id, 0, &file[..half]).await.status(),
                204
            );
            let last = world.patch(&replica, &id, half, &file[half..]).await;
            (id, last)
        };
        let (id, answer) = send(&damaged(file)).await;
        assert_eq!(answer.status(), 422, "{name}");
        let problem: serde_json::Value = answer.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("DigestMismatch"), "{name}: {detail}");
        assert_eq!(world.head(&replica, &id).await.status(), 410, "{name}");
        assert!(world.video(&id).await.is_none(), "{name}");
        assert!(world.jobs.job(&id).is_none(), "{name}");
        assert_eq!(
            world.status(&replica, &id).await["reason"],
            "DigestMismatch"
        );
        let (id, answer) = send(file).await;
        assert_eq!(answer.status(), 204, "{name}");
        assert!(world.video(&id).await.unwrap() == *file, "{name}");
        assert!(world.jobs.job(&id).is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_plain_body_with_another_digest_is_refused_before_it_is_stored() {
    let world = World::new("c5").await;
    let replica = world.replica().await;
    let file = video(50_000);
    for (field, value, want) in [
        (
            "Content-Digest",
            format!("crc32c=:{}:", checksum("crc32c", &file)),
            201,
        ),
        (
            "Content-Digest",
            format!("crc32c=:{}:", checksum("crc32c", b"x")),
            460,
        ),
        ("Content-Digest", "sha-256=:AAA=:".to_owned(), 400),
        (
            "Content-Digest",
            "md5=:AAAAAAAAAAAAAAAAAAAAAA==:".to_owned(),
            201,
        ),
        (
            "Repr-Digest",
            format!("sha-256=:{}:", checksum("sha256", &file)),
            201,
        ),
        (
            "Repr-Digest",
            format!("sha-256=:{}:", checksum("sha256", b"x")),
            422,
        ),
    ] {
        let jobs = world.jobs.jobs.lock().unwrap().len();
        let request = world
            .ask(&replica, "POST", "/v1/uploads")
            .header(field, &value);
        let answer = request.body(file.clone()).send().await.unwrap();
        assert_eq!(answer.status(), want, "{field}: {value}");
        let made = world.jobs.jobs.lock().unwrap().len() - jobs;
        assert_eq!(made, usize::from(want == 201), "{field}: {value}");
        if want == 201 {
            let id: UploadId = id_of(&answer).parse().unwrap();
            assert!(world.exists(&keys::video(&id)).await, "{field}: {value}");
        }
    }
}

/// It cannot be closed in the middle, so it is ended: nothing of it would count.
/// covers: F6, F7
#[tokio::test]
async fn a_body_with_a_checksum_that_stands_still_gives_its_memory_to_those_who_wait() {
    let mut world = World::new("c20").await;
    world.args.body_memory_bytes = 2 * PART as u64;
    let replica = world.replica().await;
    let file = video(PART + 4_000_000);
    let id = world.create(&replica, file.len()).await;
    let said = format!("Upload-Checksum: sha1 {}\r\n", checksum("sha1", &file));
    let sent = &file[..PART - 100_000];
    let mut parked = half_a_patch_with(&replica, &id, 0, file.len(), sent, &said).await;
    let free = || replica.app.budget.free() as usize;
    until("all that came is held", || free() == PART + 100_000).await;

    let other = world.create(&replica, file.len()).await;
    let (healthy, answer) = tokio::join!(world.patch(&replica, &other, 0, &file), async {
        let mut answer = vec![0; 12];
        parked.read_exact(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    });
    assert_eq!(healthy.status(), 204);
    assert_eq!(answer, "HTTP/1.1 503");
    assert_eq!(offset_of(&world.head(&replica, &id).await), Some(0));
    assert_eq!(world.video(&other).await.unwrap(), file);
}
