//! Starts the two that are compared, with the same part size and the same parts in flight.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use kinora_storage::StoreArgs;
use kinora_storage::testing::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};
use serde_json::json;
use tokio::time::Instant;

use crate::process::Process;
use crate::tus::Api;

/// Of both.
pub(crate) const PART: u64 = 8 << 20;
/// Kinora's, which is fixed, and so tusd's.
const IN_FLIGHT: usize = 2;
const READY_WITHIN: Duration = Duration::from_secs(60);
const SECRET: &str = "bench-secret";
/// Clients belong to one of so many.
const OWNERS: usize = 100;
/// SHA-256 of it.
const SECRET_SHA256: &str = "0159438a9235d6abde38e49fb98944660d067d6b9b03d8a8f4ee4e522feb62cb";
/// Of the default profile, so that 300 MiB are not too many; the sample plays ten seconds.
const MAX_BYTES: u64 = 1 << 30;

/// A server and the way to it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// How to speak to it.
    pub(crate) api: Api,
    /// What it costs.
    pub(crate) process: Process,
}

/// What both need to start.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Path of Kinora's uploader.
    pub(crate) uploader: PathBuf,
    /// Path of tusd.
    pub(crate) tusd: PathBuf,
    /// The file that leads to the API server.
    pub(crate) kubeconfig: PathBuf,
    /// Folder for logs and configuration.
    pub(crate) scratch: PathBuf,
}

/// Starts Kinora's uploader on a store and waits until it is ready.
pub(crate) async fn kinora(setting: &Setting, store: &StoreArgs, name: &str) -> Result<Peer> {
    // Of its own: another server, which starts at the same time, would read files that are half written.
    let folder = setting.scratch.join(name);
    let keys = folder.join("keys");
    std::fs::create_dir_all(&keys)?;
    let key = json!({"sha256": SECRET_SHA256, "tenant": "bench", "scopes": ["kinora:upload"]});
    for owner in 0..OWNERS {
        std::fs::write(keys.join(format!("phone-{owner}")), key.to_string())?;
    }
    let profiles = folder.join("profiles.yaml");
    std::fs::write(&profiles, format!("default: {{maxBytes: {MAX_BYTES}}}\n"))?;
    let address = free_address()?;
    let mut command = Command::new(&setting.uploader);
    command
        .env("KUBECONFIG", &setting.kubeconfig)
        .args(["--listen", &address.to_string()])
        .args(["--jobs-namespace", "videos"])
        .args(["--replicas", "2"])
        .args(["--auth", "apikey"])
        .arg("--api-keys-dir")
        .arg(&keys)
        .arg("--profiles-file")
        .arg(&profiles)
        .args(["--store-endpoint", &store.store_endpoint])
        .args(["--store-bucket", &store.store_bucket])
        .arg("--store-credentials-dir")
        .arg(&store.store_credentials_dir);
    let process = Process::start(&command, &setting.scratch.join(format!("{name}.log")))?;
    let api = Api {
        address,
        path: "/v1/uploads",
        owners: (0..OWNERS)
            .map(|owner| format!("Bearer phone-{owner}.{SECRET}"))
            .collect(),
    };
    ready(&api, &process, "GET /readyz", name).await?;
    Ok(Peer { api, process })
}

/// Starts tusd on a store and waits until it is ready.
pub(crate) async fn tusd(setting: &Setting, store: &StoreArgs, parts: Parts) -> Result<Peer> {
    let address = free_address()?;
    let mut command = Command::new(&setting.tusd);
    command
        // It gathers parts in files, and leaves them behind when it is killed.
        .env("TMPDIR", &setting.scratch)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
        .env("AWS_REGION", &store.store_region)
        .arg("-host=127.0.0.1")
        .arg(format!("-port={}", address.port()))
        .arg(format!("-s3-bucket={}", store.store_bucket))
        .arg(format!("-s3-endpoint={}", store.store_endpoint));
    if parts == Parts::Same {
        command
            .arg(format!("-s3-part-size={PART}"))
            .arg(format!("-s3-concurrent-part-uploads={IN_FLIGHT}"));
    }
    let process = Process::start(&command, &setting.scratch.join("tusd.log"))?;
    let api = Api {
        address,
        path: "/files/",
        owners: Vec::new(),
    };
    ready(&api, &process, "OPTIONS /files/", "tusd").await?;
    Ok(Peer { api, process })
}

/// How tusd cuts uploads into parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// As Kinora does: 8 MiB, two in flight.
    Same,
    /// As it does by itself: 50 MiB, ten in flight.
    Default,
}

async fn ready(api: &Api, process: &Process, line: &str, name: &str) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Ok(mut conn) = api.connect(0).await {
            conn.head(line, &[], None).await?;
            if matches!(conn.answer().await, Ok(answer) if (200..300).contains(&answer.status)) {
                return Ok(());
            }
        }
        if Instant::now() > deadline || process.rss_mib().is_err() {
            bail!("{name} did not become ready: {}", process.last_words());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The flags that lead to a store that keeps nothing.
pub(crate) fn null_args(address: SocketAddr, scratch: &Path) -> Result<StoreArgs> {
    let credentials = scratch.join("credentials");
    std::fs::create_dir_all(&credentials)?;
    std::fs::write(credentials.join("access-key-id"), ACCESS_KEY_ID)?;
    std::fs::write(credentials.join("secret-access-key"), SECRET_ACCESS_KEY)?;
    Ok(StoreArgs::new(
        format!("http://{address}"),
        "kinora",
        credentials,
    ))
}
