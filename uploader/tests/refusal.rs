//! The binary with what does not fit together: a profile of parts beyond its memory; and stores whose conditional writes
//! are none: SeaweedFS behind a proxy that hides the conditions, and the fake S3 that looks at them first and writes later.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

#[allow(dead_code, reason = "shared with the tests of concurrency")]
#[path = "support/process.rs"]
mod process;

use std::net::SocketAddr;
use std::time::Duration;

use kinora_fake_s3::{Behaviour, FakeS3};
use kinora_storage::StoreArgs;
use kinora_storage::testing::Weed;
use process::{BEARER, Config, FakeKubernetes, Uploader, free};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Header names and what the store sees in their place; of equal length, so that the stream keeps its framing.
const HIDDEN: [(&[u8], &[u8]); 2] = [
    (b"if-none-match:", b"x-none-match-:"),
    (b"if-match:", b"x-match-:"),
];

/// Passes everything on but the conditions.
async fn unconditional(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, target));
        }
    });
    address
}

async fn pass(client: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_store, mut to_store) = TcpStream::connect(target).await?.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_store, &mut to_client).await });
    let mut chunk = vec![0; 1 << 20];
    loop {
        let length = from_client.read(&mut chunk).await?;
        if length == 0 {
            return to_store.shutdown().await;
        }
        hide(&mut chunk[..length]);
        to_store.write_all(&chunk[..length]).await?;
    }
}

fn hide(bytes: &mut [u8]) {
    for (name, other) in HIDDEN {
        let mut at = 0;
        while let Some(found) = bytes[at..]
            .windows(name.len())
            .position(|window| window.eq_ignore_ascii_case(name))
        {
            at += found;
            bytes[at..at + name.len()].copy_from_slice(other);
        }
    }
}

/// covers: F13
#[tokio::test]
async fn replicas_on_a_store_without_atomic_conditions_are_refused_at_start() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let weed = Weed::start_open().await.unwrap();
    let target = weed
        .endpoint()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let proxy = unconditional(target).await;
    let args = StoreArgs::new(
        format!("http://{proxy}"),
        weed.args().store_bucket,
        weed.credentials_dir(),
    );
    is_refused(&args).await;
}

/// covers: F13
#[tokio::test]
async fn a_store_that_looks_and_then_writes_may_have_one_replica_and_no_more() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let fake = FakeS3::start(Behaviour::not_atomic()).unwrap();
    let args = StoreArgs::new(
        fake.endpoint(),
        kinora_fake_s3::BUCKET,
        fake.credentials_dir(),
    );
    is_refused(&args).await;
    let said = refusal(&args, &["--replicas=2", "--single-replica"]).await;
    assert!(said.contains("--replicas says 2"), "{said}");

    let kubernetes = FakeKubernetes::start().await;
    let config = Config::new(Some(&kubernetes));
    let flags = ["--single-replica"];
    let uploader = Uploader::start(&config, &args, &flags).await;
    let http = reqwest::Client::new();
    let url = format!("http://{}/v1/uploads", uploader.address);
    let request = http.post(url).bearer_auth(BEARER).body("no video");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 415, "it serves");
    assert!(kubernetes.names().is_empty(), "and looks at what it gets");
}

#[tokio::test]
async fn a_profile_whose_parts_are_larger_than_the_memory_of_bodies_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("profiles.yaml");
    std::fs::write(&path, "film: {maxBytes: 200000000000}").unwrap();
    let nowhere = StoreArgs::new("http://127.0.0.1:9", "b", dir.path());
    let flag = format!("--profiles-file={}", path.display());
    let said = refusal(&nowhere, &[&flag]).await;
    assert!(said.contains("profile film: maxBytes"), "{said}");
}

/// The binary on this store says why not, and what to do; also as one replica, which a rollout runs beside the next.
async fn is_refused(store: &StoreArgs) {
    for replicas in ["--replicas=2", "--replicas=1"] {
        let said = refusal(store, &[replicas]).await;
        for name in ["--single-replica", "uploader.singleReplica"] {
            assert!(said.contains(name), "{replicas}: {said}");
        }
    }
}

/// What the binary says before it ends with exit code 2.
async fn refusal(store: &StoreArgs, flags: &[&str]) -> String {
    let config = Config::new(None);
    let mut command = config.uploader(store, free());
    let uploader = command.args(flags).spawn().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(90), uploader.wait_with_output());
    let output = ended.await.expect("it went on running").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
    said
}
