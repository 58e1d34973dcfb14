//! Replicas of the operator, as processes of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use kinora_crds::names::OPERATOR_SERVICE;
use kube::{Api, Client};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::access::{JOBS_NAMESPACE, RELEASE_NAMESPACE};
use crate::process::Process;

/// Where replicas serve workers; the benchmark has a network of its own, so the ports are free.
pub(crate) const ADDRESSES: [&str; 2] = ["127.0.0.1:8443", "127.0.0.1:8444"];
const HTTP: [&str; 2] = ["127.0.0.1:8080", "127.0.0.1:8081"];
const READY_WITHIN: Duration = Duration::from_secs(120);

/// What a replica is started with.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Path of kinora-operator.
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// URL of the store.
    pub(crate) store: String,
    pub(crate) credentials: PathBuf,
    /// Folder for logs.
    pub(crate) logs: PathBuf,
}

/// A running one.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) process: Process,
    place: usize,
}

impl Replica {
    /// Starts the first or second replica and waits until it is ready: its lists are read.
    pub(crate) async fn start(setting: &Setting, place: usize) -> Result<Self> {
        let replica = Self {
            process: Process::start(&command(setting, place), &log(&setting.logs, place))?,
            place,
        };
        let deadline = Instant::now() + READY_WITHIN;
        while !matches!(replica.ask("/readyz").await, Ok((200, _))) {
            if Instant::now() > deadline || replica.process.rss_mib().is_err() {
                bail!(
                    "the operator did not become ready: {}",
                    replica.process.last_words()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(replica)
    }

    /// Its name as a holder of the lease.
    fn name(&self) -> String {
        pod(self.place)
    }

    /// Jobs that it knows to be live.
    pub(crate) async fn live_jobs(&self) -> Result<u64> {
        let (_, body) = self.ask("/admission").await?;
        let told: Value = serde_json::from_str(&body).context("answer of /admission")?;
        told["live"].as_u64().context("/admission tells no number")
    }

    /// Whether it leads.
    pub(crate) async fn leads(&self, admin: &Client) -> Result<bool> {
        let leases: Api<Lease> = Api::namespaced(admin.clone(), RELEASE_NAMESPACE);
        let lease = leases.get_opt(OPERATOR_SERVICE).await?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        Ok(holder.is_some_and(|holder| holder.starts_with(&self.name())))
    }

    async fn ask(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(HTTP[self.place]).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: operator\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.get(9..12).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status.context("no HTTP answer")?, body.to_owned()))
    }
}

fn pod(place: usize) -> String {
    format!("kinora-operator-{place}")
}

fn log(folder: &Path, place: usize) -> PathBuf {
    folder.join(format!("{}.log", pod(place)))
}

/// The flags of the chart, but for the TTL of upload jobs: a job goes as soon as its record is stored.
fn command(setting: &Setting, place: usize) -> Command {
    let mut command = Command::new(&setting.program);
    command
        .env("KUBECONFIG", &setting.kubeconfig)
        .args(["--namespace", RELEASE_NAMESPACE])
        .args(["--jobs-namespace", JOBS_NAMESPACE])
        .args(["--pod-name", &pod(place)])
        .args([
            "--pod-uid",
            &format!("00000000-0000-4000-8000-00000000000{place}"),
        ])
        .args(["--pod-ip", "127.0.0.1"])
        .args(["--worker-image", "kinora.local/kinora-worker:bench"])
        .args(["--dispatch-listen", ADDRESSES[place]])
        .args(["--http-listen", HTTP[place]])
        .args(["--upload-ttl-floor-seconds", "0", "--insecure"])
        .args(["--store-endpoint", &setting.store])
        .args(["--store-bucket", "kinora"])
        .arg("--store-credentials-dir")
        .arg(&setting.credentials);
    command
}
