//! A core with everything around it played by the test.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use kinora_crds::VideoJob;
use kinora_engine::event::History;
use kinora_protocol::dispatch as wire;
use kinora_protocol::dispatch::dispatch_client::DispatchClient;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

use super::api::Api;
use crate::core::seams::*;
use crate::core::{CoreConfig, CoreCounters, CoreHandle, spawn};
use crate::ports::*;
use crate::tls::Authority;
use crate::tls::accept::{self, Certificates};

pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const POD: &str = "8f1c2d3e-0000-4000-8000-000000000001";
pub(super) const OTHER_POD: &str = "8f1c2d3e-0000-4000-8000-000000000002";
pub(super) const ATTEMPT_POD: &str = "8f1c2d3e-0000-4000-8000-000000000003";
pub(super) const JOB: &str = "3b1f3c52-7a39-4f0f-9d3e-2f2f6d0c9a11";
const NAMESPACE: &str = "kinora-system";

struct Doorman;

impl Authenticate for Doorman {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<WorkerIdentity, AuthError>> {
        let who = |pool: &str, pod_name: &str, pod_uid: &str| WorkerIdentity {
            pool: PoolKey {
                name: pool.into(),
                ..pool_key()
            },
            pod_name: pod_name.into(),
            pod_uid: pod_uid.into(),
            node_name: "n1".into(),
            attempt: None,
        };
        let answer = match token {
            "good" => Ok(who("default", "default-workers-1", POD)),
            "other" => Ok(who("default", "default-workers-2", OTHER_POD)),
            "foreign" => Ok(who("foreign", "foreign-workers-1", OTHER_POD)),
            "attempt" => Ok(WorkerIdentity {
                attempt: Some(AttemptKey {
                    job_uid: JOB.into(),
                    attempt: 1,
                }),
                ..who("default", "vj-a-1-a1", ATTEMPT_POD)
            }),
            _ => match token.strip_prefix("pod ") {
                Some(uid) => Ok(who("default", "default-workers-3", uid)),
                None => Err(AuthError::Refused("not ours".into())),
            },
        };
        async { answer }.boxed()
    }
}

/// Pods of attempts that are as good as made.
#[derive(Clone, Default)]
pub(super) struct PodShelf {
    asked: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Option<Made>>>,
    /// Calls that begin so are never answered.
    stuck: Arc<Mutex<Option<String>>>,
}

impl PodShelf {
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn answer(&self, answer: Made) {
        *self.answer.lock().unwrap() = Some(answer);
    }

    pub(super) fn stick(&self, what: &str) {
        *self.stuck.lock().unwrap() = Some(what.to_owned());
    }

    async fn note(&self, what: String) -> Made {
        let stuck = self.stuck.lock().unwrap().clone();
        let is_stuck = stuck.is_some_and(|stuck| what.starts_with(&stuck));
        self.asked.lock().unwrap().push(what);
        if is_stuck {
            return std::future::pending().await;
        }
        self.answer.lock().unwrap().clone().unwrap_or(Made::Yes)
    }
}

impl AttemptPods for PodShelf {
    fn make(&self, of: AttemptPod, _: PoolKey) -> BoxFuture<'_, Made> {
        self.note(format!("make {}/{}", of.job_name, of.attempt))
            .boxed()
    }

    fn find(&self, of: AttemptPod) -> BoxFuture<'_, Made> {
        self.note(format!("find {}/{}", of.job_name, of.attempt))
            .boxed()
    }

    fn remove(&self, namespace: String, name: String, uid: String) -> BoxFuture<'_, Removed> {
        let answer = self.note(format!("remove {namespace}/{name} {uid}"));
        let removed = answer.map(|answer| match answer {
            Made::No(_) => Removed::Missing,
            Made::Yes | Made::Unknown | Made::NotSent => Removed::Asked,
        });
        removed.boxed()
    }
}

#[derive(Clone, Default)]
struct Shelf {
    asked: Arc<Mutex<Vec<String>>>,
    away: Arc<AtomicBool>,
    /// Names of outputs that are not there.
    lost: Arc<Mutex<Vec<String>>>,
    /// The question that is not answered for now.
    stuck: watch::Sender<Option<&'static str>>,
}

impl Shelf {
    fn note(&self, what: impl Into<String>) {
        self.asked.lock().unwrap().push(what.into());
    }

    /// Asked, and answered once it may be.
    async fn answer(&self, what: &'static str) {
        let mut stuck = self.stuck.subscribe();
        self.note(what);
        let _ = stuck.wait_for(|stuck| *stuck != Some(what)).await;
    }

    fn here(&self) -> Result<(), StoreWorkError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreWorkError::Unavailable("no answer".into())),
            false => Ok(()),
        }
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
        let lost = self.lost.lock().unwrap();
        let names = names.into_iter().filter(|name| !lost.contains(name));
        let found = names.map(|name| FoundOutput {
            uri: format!("s3://kinora/{name}"),
            name,
            size_bytes: 3,
            checksum: None,
        });
        let found = found.collect();
        async move {
            self.answer("outputs").await;
            Ok(found)
        }
        .boxed()
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
        assert!(["Succeeded", "DeadLettered", "Cancelled"].contains(&job.state()));
        self.note(format!("write record {}", result.unwrap_or_default()));
        let written = self.here();
        async { written }.boxed()
    }

    /// Only successes have one.
    fn final_record_for(
        &self,
        job: Arc<VideoJob>,
    ) -> BoxFuture<'_, Result<Option<RecordFacts>, StoreWorkError>> {
        let is_success = job.state() == "Succeeded";
        let record = is_success.then(|| RecordFacts {
            redrives: 0,
            state: "succeeded".into(),
        });
        async move {
            let question = if is_success {
                "read record"
            } else {
                "seek record"
            };
            self.answer(question).await;
            Ok(record)
        }
        .boxed()
    }

    fn finish_cleanup(&self, _: Arc<VideoJob>) -> BoxFuture<'_, Result<(), StoreWorkError>> {
        self.note("clean");
        async { Ok(()) }.boxed()
    }

    fn reactivate(
        &self,
        _: Arc<VideoJob>,
        redrives: u32,
    ) -> BoxFuture<'_, Result<(), StoreWorkError>> {
        self.note(format!("reactivate {redrives}"));
        async { Ok(()) }.boxed()
    }

    fn take_back(
        &self,
        _: Arc<VideoJob>,
        redrives: u32,
    ) -> BoxFuture<'_, Result<(), StoreWorkError>> {
        self.note(format!("take back {redrives}"));
        async { Ok(()) }.boxed()
    }

    fn clock_skew_seconds(&self) -> Option<i64> {
        Some(0)
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
        service: "Grpc http://svc:1".into(),
        is_default: true,
        created_ms: 0,
        suspended: false,
        timeout_ms: 60_000,
        slots: 256,
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
        pod_start_ms: None,
        adaptive: true,
        min_in_flight: 1,
        breaker_ratio: 0.5,
        breaker_min_calls: 20,
        breaker_open_ms: 30_000,
        breaker_probes: 3,
        default_weight: 1,
        aging_ms: 900_000,
        tenants: Vec::new(),
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
    pub(super) pods: PodShelf,
    pub(super) counters: Arc<CoreCounters>,
    ca: String,
    shelf: Shelf,
    leadership: watch::Sender<Leadership>,
    address: String,
    _renewed: watch::Sender<Instant>,
    pub(super) pod_events: mpsc::Sender<PodEvent>,
    pools: mpsc::Sender<PoolEvent>,
    pub(super) commands: mpsc::Sender<CoreCommand>,
    pub(super) redrives: mpsc::Sender<RedriveRequest>,
    _history: watch::Sender<History>,
    pub(super) deleted: tokio::sync::Mutex<mpsc::Receiver<ForeignDeletion>>,
    /// What the core cancels, or is told by.
    pub(super) went_back: CancellationToken,
    pub(super) losses: Arc<Notify>,
    _stop: DropGuard,
}

impl Stage {
    /// A leader with one pool, synced.
    pub(super) async fn leading() -> Stage {
        Stage::leading_with(|_| {}).await
    }

    /// As [`Stage::leading`], with another pool.
    pub(super) async fn leading_with(change: impl FnOnce(&mut PoolFacts)) -> Stage {
        Stage::leading_on(Api::start().await, None, change).await
    }

    /// As [`Stage::leading_with`], on this API server and with a store that leaves a question open.
    pub(super) async fn leading_on(
        (api, client): (Api, kube::Client),
        stuck: Option<&'static str>,
        change: impl FnOnce(&mut PoolFacts),
    ) -> Stage {
        let shelf = Shelf::default();
        shelf.stuck.send_replace(stuck);
        let pod_shelf = PodShelf::default();
        let (leadership, leads) = watch::channel(Leadership::Leader);
        let (renewed, last_renewed) = watch::channel(Instant::now() + Duration::from_secs(3600));
        let (pods, pods_in) = mpsc::channel(10);
        let (pools, pools_in) = mpsc::channel(10);
        let (commands, commands_in) = mpsc::channel(10);
        let (redrives, redrives_in) = mpsc::channel(10);
        let (history, history_seen) = watch::channel(History::Unbroken);
        let (deletions, deleted) = mpsc::channel(10);
        let losses = Arc::<Notify>::default();
        let stop = CancellationToken::new();
        let mut handle = spawn(CoreConfig {
            client,
            namespace: Some("videos".into()),
            authenticate: Arc::new(Doorman),
            store: Arc::new(shelf.clone()),
            attempt_pods: Arc::new(pod_shelf.clone()),
            pods: pods_in,
            pools: pools_in,
            leadership: leads,
            renewed: last_renewed,
            commands: commands_in,
            redrives: redrives_in,
            history: history_seen,
            deletions,
            losses: losses.clone(),
            upload_ttl_floor_seconds: 0,
            stop: stop.clone(),
        });
        let mut facts = Box::new(pool_facts());
        change(&mut facts);
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
        let counters = handle.counters.clone();
        let went_back = handle.went_back.clone();
        let authority = Authority::for_tests().unwrap();
        let address = serve(handle, &authority).await;
        Stage {
            pods: pod_shelf,
            counters,
            ca: authority.bundle(),
            api,
            shelf,
            leadership,
            address,
            _renewed: renewed,
            pod_events: pods,
            pools,
            commands,
            redrives,
            _history: history,
            deleted: tokio::sync::Mutex::new(deleted),
            went_back,
            losses,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn lead(&self, leadership: Leadership) {
        self.leadership.send_replace(leadership);
    }

    pub(super) async fn redrive(&self, job_uid: &str, by: &str) -> Redrive {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let request = RedriveRequest {
            job_uid: job_uid.to_owned(),
            by: by.to_owned(),
            reply,
        };
        self.redrives.send(request).await.unwrap();
        tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap()
            .unwrap()
    }

    /// Tells of its pool, and waits until the core has taken that up: what is said next comes after it.
    async fn tell(&self, event: PoolEvent) {
        self.pools.send(event).await.unwrap();
        let taken = |s: &Stage| s.pools.capacity() == s.pools.max_capacity();
        self.until("the pool's news are taken", taken).await;
    }

    /// There is another pool, of this name.
    pub(super) async fn add_pool(&self, name: &str) {
        let key = PoolKey {
            name: name.into(),
            ..pool_key()
        };
        let facts = PoolFacts {
            is_default: false,
            ..pool_facts()
        };
        self.tell(PoolEvent::Changed(key, Box::new(facts))).await;
    }

    /// The pool is deleted.
    pub(super) async fn delete_pool(&self) {
        self.tell(PoolEvent::Gone(pool_key())).await;
    }

    /// The pool is another from now on.
    pub(super) async fn change_pool(&self, change: impl FnOnce(&mut PoolFacts)) {
        let mut facts = Box::new(pool_facts());
        change(&mut facts);
        self.tell(PoolEvent::Changed(pool_key(), facts)).await;
    }

    /// Records can be written no more.
    pub(super) fn store_away(&self) {
        self.shelf.away.store(true, Ordering::Relaxed);
    }

    /// No attempt has made an output of this name.
    pub(super) fn lose(&self, name: &str) {
        self.shelf.lost.lock().unwrap().push(name.to_owned());
    }

    /// The store leaves this question open, or answers all again.
    pub(super) fn stick(&self, what: Option<&'static str>) {
        self.shelf.stuck.send_replace(what);
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.shelf.asked.lock().unwrap().clone()
    }

    /// A new upload job.
    pub(super) fn create(&self, name: &str) {
        self.put(name, &json!({"observedGeneration": -1, "state": "Queued"}));
    }

    /// A job that somebody declares.
    pub(super) fn declare(&self, name: &str, spec: &serde_json::Value) {
        self.api.put(json!({
            "apiVersion": "kinora.dev/v1alpha1",
            "kind": "VideoJob",
            "metadata": {
                "name": name, "namespace": "videos", "generation": 1, "uid": JOB,
                "creationTimestamp": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            },
            "spec": spec,
            "status": {"observedGeneration": -1, "state": "Queued"},
        }));
    }

    /// An upload job with this status.
    pub(super) fn put(&self, name: &str, status: &serde_json::Value) {
        self.put_as(name, JOB, status);
    }

    /// As [`Stage::put`], another object.
    pub(super) fn put_as(&self, name: &str, uid: &str, status: &serde_json::Value) {
        self.api.put(upload_job(name, uid, status));
    }

    /// As [`Stage::leading`], with a dead letter whose record is written.
    pub(super) async fn with_a_dead_letter() -> Stage {
        let stage = Stage::leading().await;
        let end = json!({"type": "Succeeded", "status": "False", "reason": "Poison", "message": "",
                         "lastTransitionTime": "2026-01-01T00:00:00Z"});
        stage.put(
            "vj-a-1",
            &json!({"observedGeneration": 1, "state": "DeadLettered", "attempt": 4, "failures": 1, "interruptions": 20,
                   "finishTime": jiff::Timestamp::now().to_string(), "durationSeconds": 3, "conditions": [end]}),
        );
        stage
            .until("archived", |s| s.asked().contains(&"clean".to_owned()))
            .await;
        stage
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
        self.begin_with(wire::from_worker::Message::Hello(hello), token)
            .await
    }

    /// A stream that begins with this message.
    pub(super) async fn begin_with(
        &self,
        first: wire::from_worker::Message,
        token: &str,
    ) -> Result<Worker, Status> {
        let (worker, messages) = Worker::new();
        worker.say(first).await;
        self.call(worker, messages, token).await
    }

    /// A stream on which nothing is said.
    pub(super) async fn open(&self, token: &str) -> Result<Worker, Status> {
        let (worker, messages) = Worker::new();
        self.call(worker, messages, token).await
    }

    async fn call(
        &self,
        mut worker: Worker,
        messages: mpsc::Receiver<wire::FromWorker>,
        token: &str,
    ) -> Result<Worker, Status> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .domain_name(format!("kinora-operator.{NAMESPACE}.svc"));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
        let mut client = DispatchClient::new(channel);
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

/// An object of an upload.
pub(super) fn upload_job(name: &str, uid: &str, status: &serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "kinora.dev/v1alpha1",
        "kind": "VideoJob",
        "metadata": {
            "name": name, "namespace": "videos", "generation": 1,
            "uid": uid,
            "creationTimestamp": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "labels": {"kinora.dev/origin": "upload"},
            "annotations": {"kinora.dev/upload-id": "a-1"},
        },
        "spec": {"source": {"key": "videos/x"}, "ttlSecondsAfterFinished": 0},
        "status": status,
    })
}

async fn serve(handle: CoreHandle, authority: &Authority) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = authority
        .serving(NAMESPACE, k8s_openapi::jiff::Timestamp::now())
        .unwrap();
    let incoming = accept::incoming(listener, &Certificates::new(&serving).unwrap()).unwrap();
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
    fn new() -> (Worker, mpsc::Receiver<wire::FromWorker>) {
        let (out, messages) = mpsc::channel(10);
        (Worker { out, inbound: None }, messages)
    }

    /// False once nobody listens.
    pub(super) async fn try_say(&self, message: wire::from_worker::Message) -> bool {
        let message = Some(message);
        let sent = self.out.send(wire::FromWorker { message });
        matches!(tokio::time::timeout(PATIENCE, sent).await, Ok(Ok(())))
    }

    /// Reads until the operator has ended the stream, one way or the other.
    pub(super) async fn over(&mut self) {
        while let Ok(Some(_)) = self.read().await {}
    }

    /// Says all this, whatever comes back, and leaves; earlier if the stream is over. How much came back.
    pub(super) async fn pour(
        self,
        messages: impl Iterator<Item = wire::from_worker::Message>,
    ) -> usize {
        let Worker { out, inbound } = self;
        let mut inbound = inbound.unwrap();
        let speak = async move {
            for message in messages.map(Some) {
                if out.send(wire::FromWorker { message }).await.is_err() {
                    break;
                }
            }
            drop(out);
            std::future::pending::<()>().await;
        };
        let listen = async {
            let mut heard = 0;
            while let Ok(Some(_)) = inbound.message().await {
                heard += 1;
            }
            heard
        };
        let both = async {
            tokio::select! { heard = listen => heard, () = speak => 0 }
        };
        tokio::time::timeout(PATIENCE, both).await.unwrap()
    }

    pub(super) async fn say(&self, message: wire::from_worker::Message) {
        let message = Some(message);
        self.out.send(wire::FromWorker { message }).await.unwrap();
    }

    pub(super) async fn read(&mut self) -> Result<Option<wire::ToWorker>, Status> {
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
