//! What a finish reads back of its object, when the store is slow and many read at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::{join, join_all};
use http::{StatusCode, header};
use kinora_fake_s3::{BUCKET, Behaviour, FakeS3};
use kinora_storage::StoreArgs;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::harness::{World, until, video};

const MANY: usize = 12;

/// A gate before a store: while it is shut, no read of a video passes.
struct Gate {
    store: String,
    http: reqwest::Client,
    open: watch::Sender<bool>,
    reads: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    async fn before(fake: &FakeS3) -> (Arc<Self>, StoreArgs) {
        let gate = Arc::new(Self {
            store: fake.endpoint(),
            http: reqwest::Client::new(),
            open: watch::Sender::new(false),
            reads: AtomicUsize::default(),
            most: AtomicUsize::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(relay).with_state(Arc::clone(&gate));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let url = format!("http://{address}");
        (gate, StoreArgs::new(url, BUCKET, fake.credentials_dir()))
    }
}

async fn relay(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    // All are of ranges; one byte is the question whether it is there.
    let range = parts.headers.get(header::RANGE);
    let reads = parts.uri.path().contains("/videos/") && range.is_some_and(|r| r != "bytes=0-0");
    if reads {
        let now = gate.reads.fetch_add(1, Ordering::SeqCst) + 1;
        gate.most.fetch_max(now, Ordering::SeqCst);
        let _ = gate.open.subscribe().wait_for(|open| *open).await;
    }
    let request = gate
        .http
        .request(parts.method, format!("{}{}", gate.store, parts.uri))
        .headers(parts.headers)
        .body(body);
    let Ok(answer) = request.send().await else {
        // The store ends with its world.
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut relayed = Response::new(Body::from(answer.bytes().await.unwrap()));
    (*relayed.status_mut(), *relayed.headers_mut()) = (status, headers);
    if reads {
        gate.reads.fetch_sub(1, Ordering::SeqCst);
    }
    relayed
}

/// covers: F6
#[tokio::test]
async fn many_finishes_read_only_so_much_at_once_from_a_store_that_is_slow() {
    // What memory holds of the file is not read: all reads are as large as they can be.
    let file = video(10 << 20);
    let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(&file)));
    for (cell, digest, want_at_once) in [("re1", Some(&digest), 8), ("re2", None, 4)] {
        let fake = FakeS3::start(Behaviour::aws()).unwrap();
        let (gate, args) = Gate::before(&fake).await;
        let world = World::on(cell, args).await;
        let replica = world.replica().await;
        let upload = async || {
            let mut request = world.ask(&replica, "POST", "/v1/uploads");
            if let Some(digest) = digest {
                request = request.header("Repr-Digest", digest);
            }
            let answer = request.body(file.clone()).send().await.unwrap();
            answer.status().as_u16()
        };
        let watched = async {
            let waits = || {
                let there = fake.keys("videos/").len() == MANY;
                there && gate.reads.load(Ordering::SeqCst) >= want_at_once
            };
            until("all are stored and wait for their reads", waits).await;
            gate.open.send_replace(true);
        };
        let (answers, ()) = join(join_all((0..MANY).map(|_| upload())), watched).await;
        assert_eq!(answers, [201; MANY], "{cell}");
        assert_eq!(world.jobs.jobs.lock().unwrap().len(), MANY, "{cell}");
        assert_eq!(gate.most.load(Ordering::SeqCst), want_at_once, "{cell}");
    }
}
