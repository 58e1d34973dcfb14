//! A replica over a store in this process, with callers of every kind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use futures::future::BoxFuture;
use kinora_crds::VideoJob;
use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
use kinora_storage::{Store, StoreArgs};
use kinora_uploader::access::Access;
use kinora_uploader::app::App;
use kinora_uploader::args::Args;
use kinora_uploader::http::router;
use kinora_uploader::jobs::{JobSink, SinkError};
use kinora_uploader::profiles::Profiles;
use kinora_uploader::serve::serve_counted;
use kinora_uploader::{janitor, run};
use reqwest::{Method, RequestBuilder, Response};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The secret of every key: what must never be in a log.
pub(crate) const SECRET: &str = "canary-5ecret-of-keys";
pub(crate) const STREAM: &str = "application/offset+octet-stream";

/// Kubernetes that takes every job and knows none.
#[derive(Debug)]
struct NoJobs;

impl JobSink for NoJobs {
    fn create<'a>(&'a self, _: &'a VideoJob) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<VideoJob>, SinkError>> {
        Box::pin(async { Ok(None) })
    }

    fn cancel<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool, SinkError>> {
        Box::pin(async { Ok(true) })
    }
}

/// One replica.
pub(crate) struct Replica {
    pub(crate) app: Arc<App>,
    pub(crate) base: String,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) struct Stage {
    pub(crate) s3: FakeS3,
    pub(crate) http: reqwest::Client,
    pub(crate) files: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        crate::logs::capture();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let files = tempfile::tempdir().unwrap();
        let dir = files.path().join("keys");
        std::fs::create_dir(&dir).unwrap();
        let sha256 = hex::encode(Sha256::digest(SECRET));
        for (id, tenant, scopes) in [
            ("phone", "acme", ["kinora:upload"].as_slice()),
            ("stranger", "acme", &["kinora:upload"]),
            ("admin", "acme", &["kinora:tenant"]),
            ("backend", "acme", &["kinora:upload", "kinora:delegate"]),
            (
                "rival",
                "rival",
                &["kinora:tenant", "kinora:delegate", "kinora:erase"],
            ),
            ("idle", "acme", &[]),
        ] {
            let key = serde_json::json!({"sha256": sha256, "tenant": tenant, "scopes": scopes});
            std::fs::write(dir.join(id), key.to_string()).unwrap();
        }
        let signing = files.path().join("signing");
        std::fs::create_dir(&signing).unwrap();
        std::fs::write(
            signing.join("2026-01"),
            "canary-key-that-signs-upload-tokens",
        )
        .unwrap();
        std::fs::write(files.path().join("access.yaml"), "").unwrap();
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self {
            s3: FakeS3::start(Behaviour::aws()).unwrap(),
            http,
            files,
        }
    }

    /// Sets the access file of the replicas that are started from now on.
    pub(crate) fn access(&self, yaml: &str) {
        std::fs::write(self.files.path().join("access.yaml"), yaml).unwrap();
    }

    pub(crate) fn store_args(&self) -> StoreArgs {
        StoreArgs::new(self.s3.endpoint(), BUCKET, self.s3.credentials_dir())
    }

    pub(crate) async fn replica(&self, flags: &[&str]) -> Replica {
        let at = |name: &str| self.files.path().join(name).display().to_string();
        let mut args = vec![
            "kinora-uploader".to_owned(),
            "--jobs-namespace=videos".to_owned(),
            format!("--store-endpoint={}", self.s3.endpoint()),
            format!("--store-bucket={BUCKET}"),
            format!(
                "--store-credentials-dir={}",
                self.s3.credentials_dir().display()
            ),
            format!("--api-keys-dir={}", at("keys")),
            format!("--upload-token-keys-dir={}", at("signing")),
            format!("--access-file={}", at("access.yaml")),
        ];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let args = Args::parse_from(args);
        let access = Access::read(&args).unwrap();
        let caps = access.limits.caps();
        let store = Store::new(&self.store_args()).unwrap();
        store.head("control/absent").await.unwrap();
        let cell = "a".parse().unwrap();
        let jobs: Arc<dyn JobSink> = Arc::new(NoJobs);
        let (app, garbage) = run::app(
            &args,
            store.clone(),
            cell,
            jobs,
            access,
            Profiles::default(),
        );
        tokio::spawn(janitor::clean(store, garbage));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = router(Arc::clone(&app));
        let (metrics, end) = (app.metrics.clone(), stop.clone());
        tokio::spawn(async move {
            serve_counted(Arc::new(listener), serving, caps, &metrics, end).await;
        });
        Replica {
            app,
            base: format!("http://{address}"),
            address,
            stop,
        }
    }

    pub(crate) fn ask(
        &self,
        replica: &Replica,
        who: Option<&str>,
        method: &str,
        path: &str,
    ) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{}{path}", replica.base));
        let request = request.header("Tus-Resumable", "1.0.0");
        match who {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A tus upload of so many bytes.
    pub(crate) async fn create(&self, replica: &Replica, key: &str, length: usize) -> Response {
        let request = self.ask(replica, Some(&secret(key)), "POST", "/v1/uploads");
        request
            .header("Upload-Length", length)
            .send()
            .await
            .unwrap()
    }
}

/// The credential of a key.
pub(crate) fn secret(key: &str) -> String {
    format!("{key}.{SECRET}")
}

pub(crate) fn id_of(answer: &Response) -> String {
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().unwrap();
    location.rsplit('/').next().unwrap().to_owned()
}

pub(crate) async fn problem(answer: Response) -> (u16, String, serde_json::Value) {
    let status = answer.status().as_u16();
    let body: serde_json::Value = answer.json().await.unwrap();
    let kind = body["type"]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    (status, kind, body)
}

fn boxed(kind: &[u8; 4], size: usize, body: &[u8]) -> Vec<u8> {
    [&(size as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

/// An MP4 of five seconds of so many bytes.
pub(crate) fn video(length: usize) -> Vec<u8> {
    let full = |kind: &[u8; 4], words: &[u32]| {
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        boxed(kind, body.len(), &body)
    };
    let within = |kind: &[u8; 4], body: &[u8]| boxed(kind, body.len(), body);
    let clock = [0, 0, 0, 1, 5];
    let table = [full(b"stsd", &[0, 1]), full(b"stts", &[0, 1, 5, 1])].concat();
    let media = [
        full(b"mdhd", &clock),
        full(b"hdlr", &[0, 0, u32::from_be_bytes(*b"vide")]),
        within(b"minf", &within(b"stbl", &table)),
    ];
    let track = within(b"trak", &within(b"mdia", &media.concat()));
    let head = within(b"moov", &[full(b"mvhd", &clock), track].concat());
    let mut bytes = [&b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2"[..], &head].concat();
    let media = length.saturating_sub(bytes.len() + 8);
    bytes.extend(boxed(b"mdat", media, &[]));
    bytes.resize(length.max(bytes.len()), 7);
    bytes
}
