//! A tiny store over HTTP, and the reference service in this process.

#![allow(dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, put};
use kinora_protocol::processing::processing_client::ProcessingClient;
use kinora_protocol::processing::processing_server::ProcessingServer;
use kinora_protocol::processing::{Output, ProcessRequest};
use kinora_reference_service::faults::FaultBoard;
use kinora_reference_service::ffmpeg::Ffmpeg;
use kinora_reference_service::job::Shared;
use kinora_reference_service::ledger::Ledger;
use kinora_reference_service::memory::Memory;
use kinora_reference_service::service::Reference;
use kinora_reference_service::{http_form, transfer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often the crash knob fired. It does not end the test process.
pub static CRASHES: AtomicUsize = AtomicUsize::new(0);

/// Waits until it is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}

pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../samples")
        .join(name)
}

/// `KINORA_FFMPEG`, or `ffmpeg` on the PATH.
pub fn ffmpeg_path() -> PathBuf {
    std::env::var_os("KINORA_FFMPEG").map_or_else(|| "ffmpeg".into(), PathBuf::from)
}

pub async fn ffmpeg() -> Ffmpeg {
    Ffmpeg::find(&ffmpeg_path()).await.unwrap_or_else(|error| {
        panic!("{error}: these tests need ffmpeg; name it in KINORA_FFMPEG or put it on the PATH")
    })
}

/// Answers to give, in order; `true` means that the object is stored all the same.
pub type Answers = HashMap<String, Vec<(StatusCode, bool)>>;

/// Objects by path. PUT keeps `If-None-Match: *`; `answers` come first for a path, before anything is looked at.
#[derive(Clone, Default)]
pub struct Store {
    pub objects: Arc<Mutex<HashMap<String, Bytes>>>,
    pub answers: Arc<Mutex<Answers>>,
    pub puts: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    pub address: Option<SocketAddr>,
}

impl Store {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Self {
            address: Some(listener.local_addr().unwrap()),
            ..Self::default()
        };
        let app = Router::new()
            .route("/{*key}", get(read).merge(put(write)))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(store.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        store
    }

    /// As a presigned URL looks.
    pub fn url(&self, key: &str) -> String {
        format!(
            "http://{}/{key}?X-Amz-Signature=secret",
            self.address.unwrap()
        )
    }

    pub fn set(&self, key: &str, bytes: impl Into<Bytes>) {
        self.objects
            .lock()
            .unwrap()
            .insert(key.to_owned(), bytes.into());
    }

    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.objects.lock().unwrap().get(key).cloned()
    }

    pub fn answer(&self, key: &str, answers: &[(StatusCode, bool)]) {
        let mut all = self.answers.lock().unwrap();
        all.insert(key.to_owned(), answers.to_vec());
    }

    fn next_answer(&self, key: &str) -> Option<(StatusCode, bool)> {
        let mut all = self.answers.lock().unwrap();
        let answers = all.get_mut(key)?;
        (!answers.is_empty()).then(|| answers.remove(0))
    }
}

async fn read(State(store): State<Store>, UrlPath(key): UrlPath<String>) -> (StatusCode, Bytes) {
    if let Some((status, _)) = store.next_answer(&key) {
        return (status, Bytes::new());
    }
    match store.get(&key) {
        Some(bytes) => (StatusCode::OK, bytes),
        None => (StatusCode::NOT_FOUND, Bytes::new()),
    }
}

async fn write(
    State(store): State<Store>,
    UrlPath(key): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let guarded = headers.get("if-none-match").is_some_and(|v| v == "*");
    store.puts.lock().unwrap().push((key.clone(), headers));
    if let Some((status, stored)) = store.next_answer(&key) {
        if stored {
            store.set(&key, body);
        }
        return status;
    }
    if guarded && store.get(&key).is_some() {
        return StatusCode::PRECONDITION_FAILED;
    }
    store.set(&key, body);
    StatusCode::OK
}

/// The reference service on loopback.
pub struct Service {
    pub shared: Arc<Shared>,
    pub address: SocketAddr,
    /// Of the HTTP form.
    pub http: SocketAddr,
    pub dir: TempDir,
}

impl Service {
    pub async fn start(concurrency: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            ffmpeg: ffmpeg().await,
            http: transfer::client(None).unwrap(),
            work_dir: dir.path().to_owned(),
            max_source_bytes: 3_000_000,
            slots: Semaphore::new(concurrency),
            concurrency,
            memory: Memory::new(2, 50_000_000),
            faults: FaultBoard::default(),
            ledger: Ledger::default(),
            crash: || {
                CRASHES.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            },
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(ProcessingServer::new(Reference::new(Arc::clone(&shared))))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let app = http_form::router(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            shared,
            address,
            http,
            dir,
        }
    }

    pub async fn client(&self) -> ProcessingClient<Channel> {
        ProcessingClient::connect(format!("http://{}", self.address))
            .await
            .unwrap()
    }

    pub fn set(&self, faults: &str) {
        self.shared
            .faults
            .set(serde_json::from_str(faults).unwrap())
            .unwrap();
    }
}

/// A request for the usual two outputs, PUT below `prefix`.
pub fn request(store: &Store, key: &str, source: &str, prefix: &str) -> ProcessRequest {
    let output = |name: &str| Output {
        name: name.to_owned(),
        put_url: store.url(&format!("{prefix}/{name}")),
        headers: HashMap::from([("if-none-match".to_owned(), "*".to_owned())]),
    };
    ProcessRequest {
        idempotency_key: key.to_owned(),
        attempt: 1,
        source_url: store.url(source),
        outputs: vec![output("video"), output("thumbnail")],
        ..ProcessRequest::default()
    }
}
