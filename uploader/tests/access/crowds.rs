//! Crowds of clients that send slowly or not at all, and one that is well.

use std::process::Stdio;
use std::time::Duration;

use kinora_fake_s3::BUCKET;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::stage::{Stage, video};

/// What five thousand may cost; unoptimised code and its futures take more.
const MOST_MIB: u64 = if cfg!(debug_assertions) { 260 } else { 200 };

/// A server of its own process, whose memory can be measured.
pub(crate) async fn server(stage: &Stage) -> (Child, String) {
    let kubeconfig = stage.files.path().join("kubeconfig");
    std::fs::write(&kubeconfig, KUBECONFIG).unwrap();
    let binary = env!("CARGO_BIN_EXE_kinora-uploader");
    let mut child = Command::new("sh")
        .args([
            "-c",
            "ulimit -n \"$(ulimit -H -n)\"; exec \"$0\" \"$@\"",
            binary,
        ])
        .env("KUBECONFIG", &kubeconfig)
        .args([
            "--jobs-namespace=videos",
            "--listen=127.0.0.1:0",
            "--auth=none",
            "--insecure",
        ])
        .arg(format!("--store-endpoint={}", stage.s3.endpoint()))
        .arg(format!("--store-bucket={BUCKET}"))
        .arg(format!(
            "--store-credentials-dir={}",
            stage.s3.credentials_dir().display()
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("it ended");
        if line.contains("\"serving\"") {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            break line["fields"]["listen"].as_str().unwrap().to_owned();
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

fn rss_mib(pid: u32) -> u64 {
    status_mib(pid, "VmRSS:")
}

/// The most memory that a process ever had.
pub(crate) fn peak_mib(pid: u32) -> u64 {
    status_mib(pid, "VmHWM:")
}

/// A metric without labels, as the server tells it.
pub(crate) async fn scraped(stage: &Stage, address: &str, name: &str) -> u64 {
    let answer = stage.http.get(format!("http://{address}/metrics")).send();
    let text = answer.await.unwrap().text().await.unwrap();
    let name = format!("kinora_uploader_{name} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap().parse().unwrap()
}

fn status_mib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

const SOCKETS: usize = 5000;

/// Lets this process open all the sockets.
fn make_room() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = SOCKETS as u64 + 500;
    assert!(
        hard >= needed,
        "{needed} open files are needed, and the hard limit is {hard}"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// Bodies that stop, heads that never end, and sockets that say nothing, five thousand of them: the memory stays
/// bounded, an upload beside them is done, and those without a request are closed.
/// covers: F6, S7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_stalled_connections_cost_little_and_stop_nobody() {
    make_room();
    let stage = Stage::new();
    let (child, address) = server(&stage).await;
    let file = video(4096);
    let body = b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nContent-Length: 5000000\r\n\r\n";
    let (mut stalled, mut headless) = (Vec::new(), Vec::new());
    for n in 0..SOCKETS {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        match n % 10 {
            0 => {}
            1 => socket
                .write_all(b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nX-")
                .await
                .unwrap(),
            _ => {
                socket.write_all(body).await.unwrap();
                socket.write_all(&file).await.unwrap();
                stalled.push(socket);
                continue;
            }
        }
        headless.push(socket);
    }
    let healthy = stage
        .http
        .post(format!("http://{address}/v1/uploads"))
        .body(video(3 << 20));
    let healthy = tokio::time::timeout(Duration::from_secs(60), healthy.send());
    let answer = healthy.await.expect("it starves").unwrap();
    assert_eq!(answer.status(), 201);
    let rss = rss_mib(child.id().unwrap());
    println!("{} connections, {rss} MiB", stalled.len() + headless.len());
    assert!(rss <= MOST_MIB, "{rss} MiB");
    // Whoever sends no whole head is closed after ten seconds; the deadline is for slow machines.
    for mut socket in headless {
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer));
        closed
            .await
            .expect("a connection without a request stays")
            .ok();
    }
    drop(stalled);
}

/// Nobody listens there; jobs are made later.
const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
  "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
  "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]}"#;
