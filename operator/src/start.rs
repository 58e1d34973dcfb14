//! Wires the operator: client and store, caches, election, core, pools, servers; and ends it in order.
//!
//! What is missing at start (API server, CA, store) is waited for, unready, with a log line and a /readyz text that name it.

mod recovery;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use kinora_engine::event::History;
use kinora_storage::Store;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::archive::{Archive, keys::KeyPolicy};
use crate::audit::past::WentBack;
use crate::auth::TokenAuth;
use crate::config::Args;
use crate::core::{self, Admission, CoreConfig, CoreHandle};
use crate::default_pool::DefaultPool;
use crate::http::{self, Readiness, Surface};
use crate::leader::{self, Candidate, Election, End, decide::Timing};
use crate::metrics::{Metrics, Sources};
use crate::pods::{
    self, Pods,
    attempt::{Maker, PodMaker},
};
use crate::pools::{self, Caches, Links, PoolsConfig, plan::Settings, template::WorkerDefaults};
use crate::tls::{accept, keeper::Keeper};
use crate::watches;

/// Events that may wait between two parts; a full channel slows the watch that fills it, nothing is dropped.
const QUEUE: usize = 4096;
/// After the lease was released: writes that are under way may end, workers hear of it.
const LINGER: Duration = Duration::from_secs(2);
/// What a worker may send of a stream, or on a connection, before it is read.
const WINDOW_BYTES: u32 = 64 * 1024;

/// Why the process ends other than by request.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A wrong flag or file: exit code 2.
    #[error("{0}")]
    Config(String),
    /// Something failed while running: exit code 1.
    #[error("{0}")]
    Runtime(String),
}

/// Runs until SIGTERM or SIGINT, or until another replica is seen to lead after this one did.
///
/// # Errors
/// [`StartError`]; its kind decides the exit code.
pub async fn run(args: Args) -> Result<(), StartError> {
    let config = |error: &dyn std::fmt::Display| StartError::Config(error.to_string());
    args.check().map_err(|error| config(&error))?;
    let policy = KeyPolicy {
        jobs_namespace: args.jobs_namespace(),
        allowed: args.allowed_prefixes().map_err(|error| config(&error))?,
    };
    let store = Store::new(&args.store).map_err(|error| config(&error))?;
    let client = client().await?;
    let web = http::bind(args.http_listen, "--http-listen")
        .await
        .map_err(StartError::Runtime)?;
    let dispatch = http::bind(args.dispatch_listen, "--dispatch-listen")
        .await
        .map_err(StartError::Runtime)?;

    let stop = CancellationToken::new();
    let (ready, readiness) = watch::channel(Some("starting".to_owned()));
    let (counted, admission) = watch::channel(None);
    let metrics = Metrics::default();
    metrics.readiness(readiness.clone());
    let surface = Surface::new(readiness, admission, args.max_live_jobs, metrics.clone());
    let surface_stop = CancellationToken::new();
    let surface = tokio::spawn(http::serve(web, surface, surface_stop.clone()));

    let parts = Parts {
        args,
        policy,
        store,
        client,
        dispatch,
        ready,
        counted,
        metrics,
        stop: stop.clone(),
    };
    let ended = tokio::select! {
        ended = parts.run() => ended,
        () = signalled(&stop) => Ok(()),
        failed = surface => Err(StartError::Runtime(format!("serve HTTP: {failed:?}"))),
    };
    surface_stop.cancel();
    ended
}

/// A client without retries of its own: every caller knows better when to try again, and a claim must not be repeated.
async fn client() -> Result<Client, StartError> {
    let mut config = kube::Config::infer().await.map_err(|error| {
        StartError::Config(format!(
            "no way to the API server: run in a pod, or set KUBECONFIG: {error}"
        ))
    })?;
    config.default_retry = false;
    Client::try_from(watches::impatient(config, watches::SILENCE))
        .map_err(|error| StartError::Config(format!("make a client of the API server: {error}")))
}

/// Cancels `stop` at SIGTERM or SIGINT; ends only when a second signal, or nobody, waits for an orderly end.
async fn signalled(stop: &CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    for last in [false, true] {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tracing::info!(last, "asked to stop");
        stop.cancel();
    }
}

/// What is there once flags and sockets were good.
struct Parts {
    args: Args,
    policy: KeyPolicy,
    store: Store,
    client: Client,
    dispatch: TcpListener,
    ready: watch::Sender<Readiness>,
    counted: watch::Sender<Option<Admission>>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Parts {
    async fn run(self) -> Result<(), StartError> {
        let stop = self.stop.clone();
        let prepared = async {
            let ca = wait::for_ca(&self.client, &self.args.namespace, &self.ready).await;
            wait::for_store(&self.args.store, &self.ready).await;
            ca
        };
        let ca = tokio::select! {
            ca = prepared => ca,
            () = stop.cancelled() => return Ok(()),
        };
        self.lead_and_serve(ca).await
    }

    async fn lead_and_serve(self, keeper: Keeper) -> Result<(), StartError> {
        let (lease_stop, core_stop) = (CancellationToken::new(), CancellationToken::new());
        let (election, campaign) = self.elect(lease_stop.clone());
        let campaign = tokio::spawn(campaign);

        let (pod_events_in, pod_events) = mpsc::channel(QUEUE);
        let (pool_events_in, pool_events) = mpsc::channel(QUEUE);
        let (commands_in, commands) = mpsc::channel(QUEUE);
        let (redrives_in, redrives) = mpsc::channel(QUEUE);
        // Until a leader has compared the past with what was noted, no upload job is touched.
        let (history_in, history) = watch::channel(History::Unknown);
        let (deletions_in, deletions) = mpsc::channel(QUEUE);
        let losses = Arc::new(Notify::new());
        let maker = Maker::new(&keeper.attempt_key());
        let (pods, pod_watch) = pods::new(self.client.clone(), maker.clone(), pod_events_in);
        let (caches, watches) = pools::watches(
            &self.client,
            self.args.reserved_secrets.clone(),
            pool_events_in,
        );
        let (authenticate, attempt_pods) = self.workers_of(&pods, &caches, maker);
        let handle = core::spawn(CoreConfig {
            client: self.client.clone(),
            namespace: None,
            authenticate: Arc::new(authenticate),
            store: Arc::new(Archive::new(self.store.clone(), self.policy.clone())),
            attempt_pods: Arc::new(attempt_pods),
            pods: pod_events,
            pools: pool_events,
            leadership: election.leadership.clone(),
            renewed: election.renewed.clone(),
            commands,
            redrives,
            history,
            deletions: deletions_in,
            losses: losses.clone(),
            upload_ttl_floor_seconds: self.args.upload_ttl_floor_seconds,
            stop: core_stop.clone(),
        });
        let counted = self.publish(&handle, &election);
        let went_back = WentBack {
            found: handle.went_back.clone(),
            noted: CancellationToken::new(),
        };
        self.recover(recovery::Ends {
            redrives: redrives_in,
            history: history_in,
            deletions,
            losses,
            leadership: election.leadership.clone(),
            counted,
            went_back: went_back.clone(),
        });
        let links = Links {
            backlog: handle.backlog.clone(),
            synced: handle.synced.clone(),
            leadership: election.leadership.clone(),
            commands: commands_in,
            pods,
        };
        tokio::spawn(pods::run(pod_watch));
        tokio::spawn(pools::run(
            self.client.clone(),
            self.pools_config(&keeper),
            caches,
            watches,
            links,
        ));
        tokio::spawn(self.default_pool().run(
            self.client.clone(),
            election.leadership.clone(),
            self.metrics.default_pool_applied(),
        ));
        let certificates = keeper.certificates();
        tokio::spawn(keeper.run());
        let ends = (campaign, went_back);
        self.serve_until_done(handle, &certificates, ends, (lease_stop, core_stop))
            .await
    }

    fn elect(
        &self,
        stop: CancellationToken,
    ) -> (Election, impl Future<Output = End> + Send + use<>) {
        let port = self.args.dispatch_listen.port();
        let candidate = Candidate {
            namespace: self.args.namespace.clone(),
            identity: format!("{}_{}", self.args.pod_name, self.args.pod_uid),
            address: std::net::SocketAddr::new(self.args.pod_ip, port).to_string(),
        };
        leader::run(self.client.clone(), candidate, Timing::default(), stop)
    }

    /// Gives the count of live jobs, once they are counted.
    fn publish(
        &self,
        handle: &CoreHandle,
        election: &Election,
    ) -> watch::Receiver<Option<Admission>> {
        self.metrics.watch(Sources {
            counters: handle.counters.clone(),
            backlog: handle.backlog.clone(),
            admission: handle.admission.clone(),
            max_live_jobs: self.args.max_live_jobs,
            leadership: election.leadership.clone(),
        });
        let (ready, counted) = (self.ready.clone(), self.counted.clone());
        tokio::spawn(wait::for_listing(
            handle.synced.clone(),
            handle.admission.clone(),
            ready,
            counted,
        ));
        self.counted.subscribe()
    }

    /// Who is a worker, and who makes the pods of attempts.
    fn workers_of(&self, pods: &Pods, caches: &Caches, maker: Maker) -> (TokenAuth, PodMaker) {
        let client = || self.client.clone();
        let pools = || caches.pools.clone();
        let authenticate = TokenAuth::new(client(), pods.clone(), pools(), maker.clone());
        let attempt_pods = PodMaker::new(client(), pools(), self.worker_defaults(), maker);
        (authenticate, attempt_pods)
    }

    fn worker_defaults(&self) -> WorkerDefaults {
        WorkerDefaults {
            image: self.args.worker_image.clone(),
            image_pull_policy: self.args.worker_image_pull_policy.clone(),
            operator_namespace: self.args.namespace.clone(),
            log_level: self.args.worker_log_level.clone(),
            otlp_endpoint: self.args.trace.endpoint().map(str::to_owned),
        }
    }

    fn pools_config(&self, keeper: &Keeper) -> PoolsConfig {
        let settings = Settings {
            workers: self.worker_defaults(),
            reserved_secrets: self.args.reserved_secrets.clone(),
        };
        PoolsConfig {
            settings,
            ca_bundle: keeper.bundle(),
        }
    }

    fn default_pool(&self) -> DefaultPool {
        DefaultPool {
            namespace: self.args.namespace.clone(),
            configmap: self.args.default_pool_configmap.clone(),
            jobs_namespace: self.args.jobs_namespace(),
        }
    }

    async fn serve_until_done(
        self,
        handle: CoreHandle,
        certificates: &accept::Certificates,
        (mut campaign, went_back): (tokio::task::JoinHandle<End>, WentBack),
        (lease_stop, core_stop): (CancellationToken, CancellationToken),
    ) -> Result<(), StartError> {
        let incoming = accept::incoming(self.dispatch, certificates)
            .map_err(|error| StartError::Runtime(format!("dispatch TLS: {error}")))?;
        let server = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .max_concurrent_streams(Some(64))
            .initial_stream_window_size(Some(WINDOW_BYTES))
            .initial_connection_window_size(Some(WINDOW_BYTES))
            .add_service(handle.dispatch)
            .serve_with_incoming(incoming);
        let mut core = handle.task;
        tokio::select! {
            // The lease first: a standby takes over while this process still finishes what it began.
            () = self.stop.cancelled() => {
                lease_stop.cancel();
                let _ = tokio::time::timeout(LINGER, campaign).await;
                core_stop.cancel();
                let _ = tokio::time::timeout(LINGER, core).await;
                Ok(())
            }
            end = &mut campaign => match end {
                Ok(End::Stopped) => Ok(()),
                Ok(End::Deposed) => Err(StartError::Runtime("another replica leads now: starting afresh as its standby".to_owned())),
                Err(error) => Err(StartError::Runtime(format!("leader election: {error}"))),
            },
            // Who renews the lease and decides nothing keeps every standby out.
            ended = &mut core => Err(StartError::Runtime(format!("the core ended by itself: {ended:?}"))),
            () = went_back.left() => Err(StartError::Runtime(
                "the control plane went back in time: starting afresh with what it has now".to_owned(),
            )),
            served = server => Err(StartError::Runtime(format!("serve dispatch: {served:?}"))),
        }
    }
}
