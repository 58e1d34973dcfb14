//! Eight times the memory there is, in clients that stop just before the end of a part.

use std::time::{Duration, Instant};

use kinora_fake_s3::BUCKET;
use kinora_storage::{Store, StoreArgs, UploadId, keys};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::crowds::{peak_mib, scraped, server};
use crate::stage::{STREAM, Stage, video};

const CLIENTS: usize = 200;
/// 7.9 MiB, of a file of two parts.
const PARKED: usize = 79 * (1 << 20) / 10;
const WHOLE: usize = 12 << 20;
/// What the process may take beside the budget: itself, 200 connections, and what is on its way to the store.
const BESIDE_MIB: u64 = 192;

/// A tus upload whose PATCH brings so much and then nothing more; its id, and the socket.
async fn park(stage: &Stage, address: &str, bytes: &[u8]) -> (String, TcpStream) {
    let created = stage
        .http
        .post(format!("http://{address}/v1/uploads"))
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", WHOLE);
    let id = crate::stage::id_of(&created.send().await.unwrap());
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PATCH /v1/uploads/{id} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nContent-Type: {STREAM}\r\n\
         Upload-Offset: 0\r\nContent-Length: {WHOLE}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    (id, socket)
}

/// The crowd is let in, the memory stays within its budget whatever comes, a healthy upload beside it is done, and
/// what was parked goes on where it stood.
/// covers: F6, F7, S7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_parked_just_before_a_full_part_starve_nobody() {
    let stage = Stage::new();
    let (child, address) = server(&stage).await;
    let file = video(WHOLE);
    let begun = Instant::now();
    let crowd =
        futures::future::join_all((0..CLIENTS).map(|_| park(&stage, &address, &file[..PARKED])));
    let healthy = async {
        // It comes when the memory is gone.
        while scraped(&stage, &address, "budget_waiting").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let request = stage
            .http
            .post(format!("http://{address}/v1/uploads"))
            .timeout(Duration::from_secs(300))
            .body(file.clone());
        let status = request.send().await.expect("it starves").status();
        (status, begun.elapsed())
    };
    let watched = async {
        let (parked, healthy) = tokio::join!(crowd, healthy);
        println!(
            "healthy after {:?}, all after {:?}",
            healthy.1,
            begun.elapsed()
        );
        // What they hold is stored, and its memory free, while they are still there.
        while scraped(&stage, &address, "budget_used_bytes").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (parked, healthy.0)
    };
    let bounded = async {
        let all = scraped(&stage, &address, "budget_bytes").await;
        loop {
            let used = scraped(&stage, &address, "budget_used_bytes").await;
            assert!(used <= all, "{used} of {all} bytes");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let both = async {
        tokio::select! {
            done = watched => done,
            () = bounded => unreachable!("it watches for ever"),
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(400), both).await;
    let (parked, status) = done.expect("somebody starves");
    assert_eq!(status, 201);
    let all = scraped(&stage, &address, "budget_bytes").await >> 20;
    let peak = peak_mib(child.id().unwrap());
    println!("peak of {peak} MiB, {:?}", begun.elapsed());
    assert!(
        peak <= all + BESIDE_MIB,
        "{peak} MiB with a budget of {all}"
    );

    for (id, socket) in parked.into_iter().take(3) {
        drop(socket);
        goes_on(&stage, &address, &id, &file).await;
    }
}

/// A parked upload is taken up where its client stopped, and has its exact bytes at the end.
async fn goes_on(stage: &Stage, address: &str, id: &str, file: &[u8]) {
    let url = format!("http://{address}/v1/uploads/{id}");
    let head = stage.http.head(&url).header("Tus-Resumable", "1.0.0");
    let head = head.send().await.unwrap();
    assert_eq!(head.headers()["upload-offset"], PARKED.to_string());
    let rest = stage
        .http
        .patch(&url)
        .header("Tus-Resumable", "1.0.0")
        .header("Content-Type", STREAM)
        .header("Upload-Offset", PARKED)
        .body(file[PARKED..].to_vec());
    assert_eq!(rest.send().await.unwrap().status(), 204);
    let id: UploadId = id.parse().unwrap();
    let store = StoreArgs::new(stage.s3.endpoint(), BUCKET, stage.s3.credentials_dir());
    let stored = Store::new(&store).unwrap().get(&keys::video(&id)).await;
    assert!(stored.unwrap().unwrap().bytes == file, "its exact bytes");
}
