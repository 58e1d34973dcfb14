//! The real binary as a process, and a Kubernetes API that knows VideoJobs alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Path as Name, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use kinora_storage::StoreArgs;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::process::{Child, Command};

const READY_WITHIN: Duration = Duration::from_secs(90);
/// What `Authorization: Bearer` carries.
pub(crate) const BEARER: &str = "phone.secret";

type Jobs = Arc<Mutex<BTreeMap<String, Value>>>;

/// VideoJobs over HTTP: create and get, with the errors that the API server has for them.
pub(crate) struct FakeKubernetes {
    address: SocketAddr,
    jobs: Jobs,
}

impl FakeKubernetes {
    pub(crate) async fn start() -> Self {
        let jobs = Jobs::default();
        let all = "/apis/kinora.dev/v1alpha1/namespaces/{namespace}/videojobs";
        let router = Router::new()
            .route(all, post(create))
            .route(&format!("{all}/{{name}}"), get(read))
            .with_state(Arc::clone(&jobs));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, jobs }
    }

    /// Names of the jobs that were created.
    pub(crate) fn names(&self) -> Vec<String> {
        self.jobs.lock().unwrap().keys().cloned().collect()
    }
}

fn status(code: StatusCode, reason: &str) -> (StatusCode, Json<Value>) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason,
        "reason": reason, "code": code.as_u16()});
    (code, Json(body))
}

async fn create(State(jobs): State<Jobs>, Json(job): Json<Value>) -> (StatusCode, Json<Value>) {
    let name = job["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut jobs = jobs.lock().unwrap();
    if jobs.contains_key(&name) {
        return status(StatusCode::CONFLICT, "AlreadyExists");
    }
    jobs.insert(name, job.clone());
    (StatusCode::CREATED, Json(job))
}

async fn read(
    State(jobs): State<Jobs>,
    Name((_, name)): Name<(String, String)>,
) -> (StatusCode, Json<Value>) {
    match jobs.lock().unwrap().get(&name) {
        Some(job) => (StatusCode::OK, Json(job.clone())),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

/// Keys and kubeconfig of some processes.
pub(crate) struct Config {
    dir: tempfile::TempDir,
    server: SocketAddr,
}

impl Config {
    /// For processes that talk to this API; none means that nobody listens there.
    pub(crate) fn new(kubernetes: Option<&FakeKubernetes>) -> Self {
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let config = Self {
            dir: tempfile::tempdir().unwrap(),
            server: kubernetes.map_or(nobody, |kubernetes| kubernetes.address),
        };
        let sha256 = hex::encode(Sha256::digest(b"secret"));
        let key = json!({"sha256": sha256, "tenant": "t", "scopes": ["kinora:upload"]});
        config.write("keys/phone", &key);
        let server = format!("http://{}", config.server);
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}]});
        config.write("kubeconfig", &kubeconfig);
        config
    }

    fn write(&self, name: &str, content: &Value) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.to_string()).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The program with all it needs, not yet started.
    pub(crate) fn uploader(&self, store: &StoreArgs, listen: SocketAddr) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora-uploader"));
        let credentials: &Path = &store.store_credentials_dir;
        command
            .env("KUBECONFIG", self.path("kubeconfig"))
            .arg("--jobs-namespace=videos")
            .arg(format!("--listen={listen}"))
            .arg(format!("--store-endpoint={}", store.store_endpoint))
            .arg(format!("--store-bucket={}", store.store_bucket))
            .arg(format!("--store-credentials-dir={}", credentials.display()))
            .arg(format!("--api-keys-dir={}", self.path("keys")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// An address that nobody listens on.
pub(crate) fn free() -> SocketAddr {
    (
        Ipv4Addr::LOCALHOST,
        kinora_storage::testing::free_port().unwrap(),
    )
        .into()
}

/// A process that is ready.
pub(crate) struct Uploader {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Uploader {
    pub(crate) async fn start(config: &Config, store: &StoreArgs, flags: &[&str]) -> Self {
        let address = free();
        let mut command = config.uploader(store, address);
        // Nobody reads them, and a full pipe would stop it.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.args(flags).spawn().unwrap();
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(answer) = reqwest::get(format!("http://{address}/readyz")).await
                && answer.status() == 200
            {
                return Self { child, address };
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}");
            assert!(Instant::now() < deadline, "it does not become ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
