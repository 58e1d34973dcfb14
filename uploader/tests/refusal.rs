//! The binary against a store whose conditional writes are none: SeaweedFS behind a proxy that hides the conditions.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed expectation is the test's finding"
)]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use kinora_storage::testing::Weed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

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
async fn several_replicas_on_a_store_without_atomic_conditions_are_refused_at_start() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let weed = Weed::start_open().await.unwrap();
    let target = weed
        .endpoint()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let proxy = unconditional(target).await;
    let keys = tempfile::tempdir().unwrap();
    let key = r#"{"sha256":"00","tenant":"t","scopes":["kinora:upload"]}"#;
    std::fs::write(
        keys.path().join("phone"),
        key.replace("00", &"0".repeat(64)),
    )
    .unwrap();
    let kubeconfig = keys.path().join(".kubeconfig");
    std::fs::write(&kubeconfig, KUBECONFIG).unwrap();

    let uploader = Command::new(env!("CARGO_BIN_EXE_kinora-uploader"))
        .env("KUBECONFIG", &kubeconfig)
        .args([
            "--jobs-namespace=videos",
            "--listen=127.0.0.1:0",
            "--replicas=2",
        ])
        .arg(format!("--store-endpoint=http://{proxy}"))
        .arg(format!("--store-bucket={}", weed.args().store_bucket))
        .arg(format!(
            "--store-credentials-dir={}",
            weed.credentials_dir().display()
        ))
        .arg(format!("--api-keys-dir={}", keys.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(90), uploader.wait_with_output());
    let output = ended.await.expect("it went on running").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--single-replica"), "{said}");
}

/// Nobody listens there; the refusal comes first.
const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
  "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
  "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]}"#;
