//! A core with everything around it played by the test.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use kinora_crds::VideoJob;
use kinora_protocol::dispatch as wire;
use kinora_protocol::dispatch::dispatch_client::DispatchClient;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Status, Streaming};

use super::api::Api;
use crate::core::seams::*;
use crate::core::{CoreConfig, CoreHandle, spawn};
use crate::ports::*;

const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const POD: &str = "8f1c2d3e-0000-4000-8000-000000000001";

struct Doorman;

impl Authenticate for Doorman {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<WorkerIdentity, AuthError>> {
        let who = WorkerIdentity {
            pool: pool_key(),
            pod_name: "default-workers-1".into(),
            pod_uid: POD.into(),
            node_name: "n1".into(),
        };
        let answer = match token {
            "good" => Ok(who),
            _ => Err(AuthError::Refused("not ours".into())),
        };
        async { answer }.boxed()
    }
}

#[derive(Clone, Default)]
struct Shelf {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Shelf {
    fn note(&self, what: impl Into<String>) {
        self.asked.lock().unwrap().push(what.into());
    }
}

impl StoreWork for Shelf {
    fn lease_urls(
        &self,
        request: LeaseRequest,
    ) -> BoxFuture<'_, Result<LeaseUrls, StoreWorkError>> {
        let output = |name: String| OutputUrl {
            name,
            put_url: "https://store/put".into(),
            headers: Default::default(),
        };
        let urls = LeaseUrls {
            source_url: "https://store/get".into(),
            outputs: request.outputs.into_iter().map(output).collect(),
        };
        async { Ok(urls) }.boxed()
    }

    fn check_outputs(
        &self,
        _: AttemptOf,
        names: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<FoundOutput>, StoreWorkError>> {
        self.note("outputs");
        let found = names.into_iter().map(|name| FoundOutput {
            uri: format!("s3://kinora/{name}"),
            name,
            size_bytes: 3,
            checksum: None,
        });
        let found = found.collect();
        async { Ok(found) }.boxed()
    }

    fn source_state(&self, _: Arc<VideoJob>) -> BoxFuture<'_, Result<SourceState, StoreWorkError>> {
        self.note("source");
        async { Ok(SourceState::Present) }.boxed()
    }

    fn write_final_record(
        &self,
        job: Arc<VideoJob>,
        result: Option<String>,
    ) -> BoxFuture<'_, Result<(), StoreWorkError>> {
        assert_eq!(job.state(), "Succeeded");
        self.note(format!("write record {}", result.unwrap_or_default()));
        async { Ok(()) }.boxed()
    }

    fn final_record_for(
        &self,
        _: Arc<VideoJob>,
    ) -> BoxFuture<'_, Result<Option<RecordFacts>, StoreWorkError>> {
        self.note("read record");
        let record = RecordFacts {
            redrives: 0,
            state: "succeeded".into(),
        };
        async { Ok(Some(record)) }.boxed()
    }

    fn finish_cleanup(&self, _: Arc<VideoJob>) -> BoxFuture<'_, Result<(), StoreWorkError>> {
        self.note("clean");
        async { Ok(()) }.boxed()
    }
}

fn pool_key() -> PoolKey {
    PoolKey {
        namespace: "videos".into(),
        name: "default".into(),
    }
}

fn pool_facts() -> PoolFacts {
    PoolFacts {
        is_default: true,
        created_ms: 0,
        suspended: false,
        timeout_ms: 60_000,
        outputs: vec!["video".into()],
        store_endpoint: None,
        rate_per_second: None,
        burst: 1,
        max_in_flight: None,
        max_failures: 5,
        interruption_limit: 20,
        backoff_base_ms: 10,
        backoff_cap_ms: 100,
        dead_letter_ttl_ms: 1000,
        report_progress: false,
    }
}

pub(super) fn worker_hello() -> wire::Hello {
    wire::Hello {
        protocol_version: kinora_protocol::DISPATCH_PROTOCOL_VERSION,
        slots: 1,
        instance: "process-1".into(),
        ..wire::Hello::default()
    }
}

pub(super) struct Stage {
    pub(super) api: Api,
    shelf: Shelf,
    leadership: watch::Sender<Leadership>,
    address: String,
    _renewed: watch::Sender<Instant>,
    _pods: mpsc::Sender<PodEvent>,
    _pools: mpsc::Sender<PoolEvent>,
    _commands: mpsc::Sender<CoreCommand>,
    _stop: DropGuard,
}

impl Stage {
    /// A leader with one pool, synced.
    pub(super) async fn leading() -> Stage {
        let (api, client) = Api::start().await;
        let shelf = Shelf::default();
        let (leadership, leads) = watch::channel(Leadership::Leader);
        let (renewed, last_renewed) = watch::channel(Instant::now() + Duration::from_secs(3600));
        let (pods, pods_in) = mpsc::channel(10);
        let (pools, pools_in) = mpsc::channel(10);
        let (commands, commands_in) = mpsc::channel(10);
        let stop = CancellationToken::new();
        let mut handle = spawn(CoreConfig {
            client,
            namespace: Some("videos".into()),
            authenticate: Arc::new(Doorman),
            store: Arc::new(shelf.clone()),
            pods: pods_in,
            pools: pools_in,
            leadership: leads,
            renewed: last_renewed,
            commands: commands_in,
            upload_ttl_floor_seconds: 0,
            stop: stop.clone(),
        });
        let facts = Box::new(pool_facts());
        pools
            .send(PoolEvent::Changed(pool_key(), facts))
            .await
            .unwrap();
        pools.send(PoolEvent::Synced).await.unwrap();
        let synced = handle.synced.wait_for(|synced| *synced);
        tokio::time::timeout(PATIENCE, synced)
            .await
            .unwrap()
            .unwrap();
        let address = serve(handle).await;
        Stage {
            api,
            shelf,
            leadership,
            address,
            _renewed: renewed,
            _pods: pods,
            _pools: pools,
            _commands: commands,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn lead(&self, leadership: Leadership) {
        self.leadership.send_replace(leadership);
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.shelf.asked.lock().unwrap().clone()
    }

    /// A new upload job.
    pub(super) fn create(&self, name: &str) {
        self.api.put(json!({
            "apiVersion": "kinora.dev/v1alpha1",
            "kind": "VideoJob",
            "metadata": {
                "name": name, "namespace": "videos", "generation": 1,
                "uid": "3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a11",
                "creationTimestamp": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "labels": {"kinora.dev/origin": "upload"},
                "annotations": {"kinora.dev/upload-id": "a-1"},
            },
            "spec": {"source": {"key": "videos/x"}, "ttlSecondsAfterFinished": 0},
            "status": {"observedGeneration": -1, "state": "Queued"},
        }));
    }

    /// Waits for something that shows.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Stage) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "never {what}; asked {:?}",
                self.asked()
            );
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn connect(&self, hello: wire::Hello, token: &str) -> Result<Worker, Status> {
        let address = format!("http://{}", self.address);
        let mut client = DispatchClient::connect(address).await.unwrap();
        let (out, messages) = mpsc::channel(10);
        let mut worker = Worker { out, inbound: None };
        worker.say(wire::from_worker::Message::Hello(hello)).await;
        let mut request = Request::new(ReceiverStream::new(messages));
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        worker.inbound = Some(client.work(request).await?.into_inner());
        Ok(worker)
    }

    pub(super) async fn worker(&self) -> Worker {
        self.connect(worker_hello(), "good").await.unwrap()
    }
}

async fn serve(handle: CoreHandle) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let incoming = TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(handle.dispatch);
    tokio::spawn(server.serve_with_incoming(incoming));
    address
}

pub(super) struct Worker {
    out: mpsc::Sender<wire::FromWorker>,
    inbound: Option<Streaming<wire::ToWorker>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a worker")
    }
}

impl Worker {
    pub(super) async fn say(&self, message: wire::from_worker::Message) {
        let message = Some(message);
        self.out.send(wire::FromWorker { message }).await.unwrap();
    }

    async fn read(&mut self) -> Result<Option<wire::ToWorker>, Status> {
        let inbound = self.inbound.as_mut().unwrap();
        tokio::time::timeout(PATIENCE, inbound.message())
            .await
            .unwrap()
    }

    pub(super) async fn next(&mut self) -> wire::to_worker::Message {
        self.read().await.unwrap().unwrap().message.unwrap()
    }

    /// How the operator ended the stream.
    pub(super) async fn end(&mut self) -> Status {
        self.read().await.unwrap_err()
    }
}
