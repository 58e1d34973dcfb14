//! Replicas of the uploader in one process over one real store, with a map for Kubernetes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use futures::future::BoxFuture;
use kinora_crds::VideoJob;
use kinora_storage::documents::{Document, decode, encode};
use kinora_storage::testing::Weed;
use kinora_storage::{Cell, PutOptions, Store, StoreArgs, UploadId, keys};
use kinora_uploader::app::App;
use kinora_uploader::args::Args;
use kinora_uploader::auth::{Auth, Keys};
use kinora_uploader::jobs::{self, JobSink, Jobs, SinkError};
use kinora_uploader::profiles::Profiles;
use kinora_uploader::{janitor, run};
use reqwest::{Method, RequestBuilder, Response};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "phone.secret";
pub(crate) const STRANGER: &str = "stranger.secret";
pub(crate) const ADMIN: &str = "admin.secret";
pub(crate) const STREAM: &str = "application/offset+octet-stream";

static WEED: OnceCell<Weed> = OnceCell::const_new();

/// Kubernetes as a map.
#[derive(Default)]
pub(crate) struct FakeJobs {
    pub(crate) jobs: Mutex<BTreeMap<String, VideoJob>>,
    pub(crate) away: AtomicBool,
    /// It hangs, for no time at all.
    pub(crate) silent: AtomicBool,
    /// What it was asked, of any kind.
    pub(crate) asked: AtomicUsize,
    /// Creates are refused: a quota, or no space.
    pub(crate) full: AtomicBool,
    pub(crate) creates: AtomicUsize,
    /// Creates beyond so many hang.
    pub(crate) most: watch::Sender<Option<usize>>,
    /// A job that somebody else creates just before the next create does.
    pub(crate) sooner: Mutex<Option<VideoJob>>,
}

impl FakeJobs {
    fn here(&self) -> Result<(), SinkError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) {
            return Err(SinkError::Silent {
                action: "ask the map".into(),
            });
        }
        match self.away.load(Ordering::SeqCst) {
            true => Err(SinkError::Away {
                action: "ask the map".into(),
                cause: "it is away".into(),
            }),
            false => Ok(()),
        }
    }

    pub(crate) fn job(&self, id: &str) -> Option<VideoJob> {
        self.jobs.lock().unwrap().get(&format!("vj-{id}")).cloned()
    }

    pub(crate) fn edit(&self, id: &str, edit: impl FnOnce(&mut VideoJob)) {
        edit(
            self.jobs
                .lock()
                .unwrap()
                .get_mut(&format!("vj-{id}"))
                .unwrap(),
        );
    }
}

impl JobSink for FakeJobs {
    fn create<'a>(&'a self, job: &'a VideoJob) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.here()?;
            let nth = self.creates.fetch_add(1, Ordering::SeqCst) + 1;
            let mut most = self.most.subscribe();
            let answered = most.wait_for(|most| most.is_none_or(|most| nth <= most));
            answered.await.unwrap();
            if self.full.load(Ordering::SeqCst) {
                return Err(SinkError::Full {
                    action: "create in the map".into(),
                    cause: "exceeded quota".into(),
                });
            }
            let name = job.metadata.name.clone().unwrap();
            let mut jobs = self.jobs.lock().unwrap();
            if let Some(sooner) = self.sooner.lock().unwrap().take() {
                jobs.insert(name.clone(), sooner);
            }
            jobs.entry(name).or_insert_with(|| job.clone());
            Ok(())
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<VideoJob>, SinkError>> {
        Box::pin(async move {
            self.here()?;
            Ok(self.jobs.lock().unwrap().get(name).cloned())
        })
    }

    fn cancel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, SinkError>> {
        Box::pin(async move {
            self.here()?;
            let mut jobs = self.jobs.lock().unwrap();
            let Some(job) = jobs.get_mut(name) else {
                return Ok(false);
            };
            job.spec.cancel_requested = Some(true);
            Ok(true)
        })
    }
}

/// One uploader.
pub(crate) struct Replica {
    pub(crate) app: Arc<App>,
    pub(crate) base: String,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) stop: CancellationToken,
    ended: Option<tokio::task::JoinHandle<()>>,
}

impl Replica {
    /// As SIGTERM does; over when its process would be.
    pub(crate) async fn terminate(mut self) {
        self.stop.cancel();
        self.ended.take().unwrap().await.unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A store, a Kubernetes, and what talks to them.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) jobs: Arc<FakeJobs>,
    pub(crate) http: reqwest::Client,
    cell: Cell,
    pub(crate) args: Args,
    /// Of replicas, after a call to Kubernetes without an answer.
    pub(crate) pause: Duration,
    keys: tempfile::TempDir,
}

impl World {
    /// Each test has a cell of its own, so that sweeps and ids do not meet.
    pub(crate) async fn new(cell: &str) -> Self {
        let weed = WEED
            .get_or_init(|| async { Weed::start().await.unwrap() })
            .await;
        Self::on(cell, weed.args()).await
    }

    /// A world on any store.
    pub(crate) async fn on(cell: &str, store_args: StoreArgs) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let keys = tempfile::tempdir().unwrap();
        let sha256 = hex::encode(Sha256::digest(b"secret"));
        for (id, scope) in [
            ("phone", "kinora:upload"),
            ("stranger", "kinora:upload"),
            ("admin", "kinora:tenant"),
        ] {
            let json = serde_json::json!({"sha256": sha256, "tenant": "acme", "scopes": [scope]});
            std::fs::write(keys.path().join(id), json.to_string()).unwrap();
        }
        let store = Store::new(&store_args).unwrap();
        store.head("control/absent").await.unwrap();
        let args = Args {
            store: store_args,
            ..Args::parse_from([
                "kinora-uploader",
                "--jobs-namespace=videos",
                "--store-endpoint=http://127.0.0.1:1",
                "--store-bucket=b",
                "--store-credentials-dir=/nowhere",
            ])
        };
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self {
            store,
            jobs: Arc::default(),
            http,
            cell: cell.parse().unwrap(),
            args,
            pause: jobs::PAUSE,
            keys,
        }
    }

    /// Another key, for the replicas that start after it; its secret is `secret`.
    pub(crate) fn admit(&self, id: &str, tenant: &str, scopes: &[&str]) {
        let sha256 = hex::encode(Sha256::digest(b"secret"));
        let json = serde_json::json!({"sha256": sha256, "tenant": tenant, "scopes": scopes});
        std::fs::write(self.keys.path().join(id), json.to_string()).unwrap();
    }

    /// A small video in one request; its id.
    pub(crate) async fn upload(&self, replica: &Replica, key: &str) -> String {
        let request = self.http.post(format!("{}/v1/uploads", replica.base));
        let request = request.bearer_auth(key).body(video(1_000));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        id_of(&answer)
    }

    /// A GET with a key.
    pub(crate) async fn get(&self, replica: &Replica, key: &str, path: &str) -> Response {
        let request = self.http.get(format!("{}{path}", replica.base));
        request.bearer_auth(key).send().await.unwrap()
    }

    /// Stores a document.
    pub(crate) async fn put<T: Document>(&self, key: &str, document: &T) {
        let body = encode(document).unwrap().into();
        let put = self.store.put(key, body, PutOptions::default());
        put.await.unwrap();
    }

    /// Reads a document.
    pub(crate) async fn read<T: Document>(&self, key: &str) -> Option<T> {
        let object = self.store.get(key).await.unwrap()?;
        Some(decode(&object.bytes).unwrap())
    }

    pub(crate) async fn replica(&self) -> Replica {
        self.replica_of(Profiles::default()).await
    }

    /// One that knows these profiles.
    pub(crate) async fn replica_of(&self, profiles: Profiles) -> Replica {
        let auth = Auth::of_keys(Keys::read(self.keys.path()).unwrap());
        let jobs: Arc<dyn JobSink> = self.jobs.clone();
        let (app, garbage) = run::app(
            &self.args,
            self.store.clone(),
            self.cell.clone(),
            Jobs::pausing(jobs, self.pause),
            auth,
            profiles,
        );
        tokio::spawn(janitor::clean(self.store.clone(), garbage));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (serving, end) = (Arc::clone(&app), stop.clone());
        let ended = tokio::spawn(async move {
            run::serve_until(&serving, Arc::new(listener), end).await;
        });
        Replica {
            app,
            base: format!("http://{address}"),
            address,
            stop,
            ended: Some(ended),
        }
    }

    /// A request with the phone's key.
    pub(crate) fn ask(&self, replica: &Replica, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http
            .request(method, format!("{}{path}", replica.base))
            .bearer_auth(KEY)
    }

    /// The same over tus.
    pub(crate) fn tus(&self, replica: &Replica, method: &str, path: &str) -> RequestBuilder {
        self.ask(replica, method, path)
            .header("Tus-Resumable", "1.0.0")
    }

    pub(crate) async fn create(&self, replica: &Replica, length: usize) -> String {
        let answer = self
            .tus(replica, "POST", "/v1/uploads")
            .header("Upload-Length", length);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        id_of(&answer)
    }

    pub(crate) async fn patch(
        &self,
        replica: &Replica,
        id: &str,
        offset: usize,
        body: &[u8],
    ) -> Response {
        let request = self.tus(replica, "PATCH", &format!("/v1/uploads/{id}"));
        let request = request
            .header("Upload-Offset", offset)
            .header("Content-Type", STREAM);
        request.body(body.to_vec()).send().await.unwrap()
    }

    pub(crate) async fn head(&self, replica: &Replica, id: &str) -> Response {
        self.tus(replica, "HEAD", &format!("/v1/uploads/{id}"))
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn status(&self, replica: &Replica, id: &str) -> serde_json::Value {
        let answer = self
            .ask(replica, "GET", &format!("/v1/videos/{id}"))
            .send()
            .await
            .unwrap();
        answer.json().await.unwrap()
    }

    /// The finished object.
    pub(crate) async fn video(&self, id: &str) -> Option<Vec<u8>> {
        let id: UploadId = id.parse().unwrap();
        self.store
            .get(&keys::video(&id))
            .await
            .unwrap()
            .map(|object| object.bytes.to_vec())
    }

    pub(crate) async fn exists(&self, key: &str) -> bool {
        self.store.head(key).await.unwrap().is_some()
    }

    /// Waits until the janitor has come by.
    pub(crate) async fn gone(&self, key: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.exists(key).await {
            assert!(Instant::now() < deadline, "{key} stays");
            tokio::task::yield_now().await;
        }
    }
}

fn boxed(kind: &[u8; 4], size: usize, body: &[u8]) -> Vec<u8> {
    [&(size as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

/// Waits by condition, as long as a loaded machine may need.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a refusal says: its status, and the last part of its type.
pub(crate) async fn problem_of(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    assert_eq!(
        answer.headers()["content-type"],
        "application/problem+json",
        "{status}"
    );
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["status"], status, "{problem}");
    let kind = problem["type"].as_str().unwrap().rsplit('/').next();
    (status, kind.unwrap().to_owned())
}

/// The head of an MP4 that plays so many seconds, without its media data.
fn movie(seconds: u32) -> Vec<u8> {
    let full = |kind: &[u8; 4], words: &[u32]| {
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        boxed(kind, body.len(), &body)
    };
    let within = |kind: &[u8; 4], body: &[u8]| boxed(kind, body.len(), body);
    let clock = [0, 0, 0, 1, seconds];
    let table = [full(b"stsd", &[0, 1]), full(b"stts", &[0, 1, seconds, 1])].concat();
    let media = [
        full(b"mdhd", &clock),
        full(b"hdlr", &[0, 0, u32::from_be_bytes(*b"vide")]),
        within(b"minf", &within(b"stbl", &table)),
    ];
    let track = within(b"trak", &within(b"mdia", &media.concat()));
    let head = within(b"moov", &[full(b"mvhd", &clock), track].concat());
    [&b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2"[..], &head].concat()
}

/// An MP4 of five seconds whose media differs everywhere; below 300 bytes only its beginning.
pub(crate) fn video(length: usize) -> Vec<u8> {
    video_of(5, length)
}

/// The same of so many seconds.
pub(crate) fn video_of(seconds: u32, length: usize) -> Vec<u8> {
    let mut bytes = movie(seconds);
    let media = length.saturating_sub(bytes.len() + 8);
    bytes.extend(boxed(b"mdat", media, &[]));
    let mut x = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    while bytes.len() < length {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend(x.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn id_of(answer: &Response) -> String {
    let location = answer.headers()["location"].to_str().unwrap();
    assert!(location.starts_with("/v1/"), "path only: {location}");
    location.rsplit('/').next().unwrap().to_owned()
}

pub(crate) fn offset_of(answer: &Response) -> Option<usize> {
    answer
        .headers()
        .get("upload-offset")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// A PATCH on a bare socket that declares `declared` bytes and sends `sent`; the socket stays open.
pub(crate) async fn half_a_patch(
    replica: &Replica,
    id: &str,
    offset: usize,
    declared: usize,
    sent: &[u8],
) -> TcpStream {
    half_a_patch_with(replica, id, offset, declared, sent, "").await
}

/// The same with more header lines, each with its end.
pub(crate) async fn half_a_patch_with(
    replica: &Replica,
    id: &str,
    offset: usize,
    declared: usize,
    sent: &[u8],
    more: &str,
) -> TcpStream {
    let mut socket = TcpStream::connect(replica.address).await.unwrap();
    let head = format!(
        "PATCH /v1/uploads/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nTus-Resumable: 1.0.0\r\n\
         Content-Type: {STREAM}\r\nUpload-Offset: {offset}\r\nContent-Length: {declared}\r\n{more}\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(sent).await.unwrap();
    socket.flush().await.unwrap();
    socket
}
