//! From flags to a running replica and back: what is wrong is said before anything is served.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kinora_storage::{Cell, SelfTestError, Store};
use kinora_telemetry::Exporting;
use kinora_upload_engine::grid;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Access, reload};
use crate::admission::Admission;
use crate::app::App;
use crate::args::Args;
use crate::budget::Budget;
use crate::drive::Turns;
use crate::hints::Hints;
use crate::http::videos::wait::Waits;
use crate::http::{router, waiting_router};
use crate::janitor::{Janitor, clean};
use crate::jobs::{JobSink, Jobs, KubeSink};
use crate::metrics::Metrics;
use crate::profiles::Profiles;
use crate::ready::Ready;
use crate::serve::{Caps, serve, serve_counted};
use crate::sweep::{self, Pace};
use crate::writers::Writers;

/// Running requests get this long to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(25);
const STORE_RETRY: Duration = Duration::from_secs(2);
/// For what is under way while the store is waited for.
const STOPPING: Duration = Duration::from_secs(5);

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Flags, files or the store do not fit together; exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something broke at run time; exit code 1.
    #[error("{0}")]
    Runtime(String),
}

fn usage(error: impl std::fmt::Display) -> RunError {
    RunError::Usage(error.to_string())
}

/// The process: exit code 0 after SIGTERM, 1 after a failure, 2 after wrong configuration.
#[must_use]
pub fn main(args: Args, traces: Exporting) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "start the runtime");
            return ExitCode::from(1);
        }
    };
    let ended = runtime.block_on(async {
        let end = CancellationToken::new();
        let exporting = tokio::spawn(traces.run(end.clone()));
        let ended = run(args).await;
        end.cancel();
        let _ = exporting.await;
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            eprintln!("error: {error}");
            ExitCode::from(match error {
                RunError::Usage(_) => 2,
                RunError::Runtime(_) => 1,
            })
        }
    }
}

async fn run(args: Args) -> Result<(), RunError> {
    if args.single_replica && args.replicas > 1 {
        let replicas = args.replicas;
        return Err(usage(format!(
            "--single-replica is for the only one, and --replicas says {replicas}; leave one of them out"
        )));
    }
    let access = Access::read(&args).map_err(usage)?;
    let profiles = match &args.profiles_file {
        Some(path) => Profiles::read(path, args.insecure).map_err(usage)?,
        None => Profiles::default(),
    };
    profiles.fit(args.body_memory_bytes).map_err(usage)?;
    let cell: Cell = args
        .cell
        .parse()
        .map_err(|error| usage(format!("--cell: {error}")))?;
    let end = ending()?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        usage(format!(
            "--listen {}: {error}; choose a free address or end what holds it",
            args.listen
        ))
    })?;
    let listener = Arc::new(listener);
    let Some(store) = while_alive(&listener, store(&args, &end)).await? else {
        return Ok(());
    };
    let client = kube::Client::try_default().await.map_err(|error| {
        usage(format!("find the Kubernetes API: {error}; run in a pod with a ServiceAccount, or set KUBECONFIG"))
    })?;
    let access = access.asking(&client);
    let jobs: Arc<dyn JobSink> = Arc::new(KubeSink::new(client, &args.jobs_namespace));
    let (app, garbage) = app(&args, store, cell, jobs, access, profiles);
    let cleaning = tokio::spawn(clean(app.store.clone(), garbage));
    background(&app, &args, &end);
    let listen = listener.local_addr().unwrap_or(args.listen);
    tracing::info!(%listen, cell = %app.cell, "serving");
    serve_until(&app, listener, end).await;
    drop(app);
    // The janitor ends when all who could hand it garbage are gone.
    let _ = tokio::time::timeout(Duration::from_secs(2), cleaning).await;
    tracing::info!("ended");
    Ok(())
}

/// A token that SIGTERM and SIGINT cancel.
fn ending() -> Result<CancellationToken, RunError> {
    let runtime = |error: std::io::Error| RunError::Runtime(format!("listen for signals: {error}"));
    let mut term = signal(SignalKind::terminate()).map_err(runtime)?;
    let mut int = signal(SignalKind::interrupt()).map_err(runtime)?;
    let end = CancellationToken::new();
    let token = end.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        token.cancel();
    });
    Ok(end)
}

/// Answers the kubelet while the store is waited for: alive, not ready.
async fn while_alive<T>(listener: &Arc<TcpListener>, work: impl Future<Output = T>) -> T {
    let waiting = CancellationToken::new();
    let mut serving = tokio::spawn(serve(
        Arc::clone(listener),
        waiting_router(),
        waiting.clone(),
    ));
    let done = work.await;
    waiting.cancel();
    // Whoever holds on to an answer of this does not hold up the start.
    if tokio::time::timeout(STOPPING, &mut serving).await.is_err() {
        serving.abort();
    }
    done
}

/// Connects to the store and proves it fit, waiting while it is only away. None when ended first.
async fn store(args: &Args, end: &CancellationToken) -> Result<Option<Store>, RunError> {
    loop {
        let problem = match Store::connect(&args.store).await {
            Ok(store) => match store
                .self_test()
                .await
                .and_then(|report| report.require(args.single_replica).map(|()| report))
            {
                Ok(report) => {
                    tracing::info!(
                        atomic = report.is_atomic(),
                        "the store passed its self-test"
                    );
                    return Ok(Some(store));
                }
                Err(
                    error @ (SelfTestError::NotAtomic { .. }
                    | SelfTestError::NoChecksums
                    | SelfTestError::NoParts),
                ) => {
                    return Err(usage(error));
                }
                Err(error) => error.to_string(),
            },
            Err(error) if error.is_retryable() => error.to_string(),
            Err(error) => return Err(usage(error)),
        };
        tracing::warn!(problem, "waiting for the object store");
        tokio::select! {
            () = end.cancelled() => return Ok(None),
            () = tokio::time::sleep(STORE_RETRY) => {}
        }
    }
}

/// Puts a replica together; the receiver is the janitor's.
#[must_use]
pub fn app(
    args: &Args,
    store: Store,
    cell: Cell,
    jobs: impl Into<Jobs>,
    access: impl Into<Access>,
    profiles: Profiles,
) -> (
    Arc<App>,
    tokio::sync::mpsc::UnboundedReceiver<crate::janitor::Garbage>,
) {
    let (janitor, garbage) = Janitor::new();
    let Access { auth, limits, .. } = access.into();
    // That of an upload whose length is not known is the largest there is.
    let largest_part = grid::part_size(None, profiles.max_bytes());
    let ready = Ready::default();
    // The self-test has just talked to it.
    ready.set_store(true);
    let metrics = Metrics::default();
    let app = App {
        store: store.observed(Arc::new(metrics.clone())),
        cell,
        jobs: jobs.into(),
        jobs_namespace: args.jobs_namespace.clone(),
        auth,
        limits,
        profiles,
        erase: args.erase,
        public_url: args.public_url.clone(),
        interim_responses: args.interim_responses,
        idle: Duration::from_secs(args.idle_seconds),
        writers: Writers::default(),
        hints: Hints::default(),
        budget: Budget::new(args.body_memory_bytes, largest_part).counted(&metrics),
        waits: Waits::default(),
        turns: Turns::default(),
        object_turns: Turns::default(),
        janitor,
        admission: Admission::default(),
        pace: Pace::default(),
        metrics,
        ready,
        closing: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    (Arc::new(app), garbage)
}

fn background(app: &Arc<App>, args: &Args, end: &CancellationToken) {
    tokio::spawn(app.ready.clone().watch(app.store.clone(), end.clone()));
    if let Some(url) = &args.admission_url {
        tokio::spawn(app.admission.clone().watch(url.clone(), end.clone()));
    }
    tokio::spawn(reload(app.auth.clone(), end.clone()));
    let quotas = app.limits.quotas().clone();
    tokio::spawn(quotas.run(app.store.clone(), end.clone()));
    let every = Duration::from_secs(args.sweep_interval_seconds);
    sweep::start(app, every);
}

/// Serves until the end is near; then not ready, bodies closed with their tails stored, requests answered.
pub async fn serve_until(app: &Arc<App>, listener: Arc<TcpListener>, end: CancellationToken) {
    let stop = CancellationToken::new();
    let serving = {
        let (app, stop) = (Arc::clone(app), stop.clone());
        let router = router(Arc::clone(&app));
        let caps = Caps {
            idle: app.idle,
            ..app.limits.caps()
        };
        tokio::spawn(async move { serve_counted(listener, router, caps, &app.metrics, stop).await })
    };
    end.cancelled().await;
    tracing::info!(
        writers = app.writers.len(),
        "ending: closing bodies, storing their tails"
    );
    app.ready.drain();
    app.closing.cancel();
    stop.cancel();
    app.tasks.close();
    let ended = tokio::time::timeout(GRACE, async {
        app.tasks.wait().await;
        let _ = serving.await;
    });
    if ended.await.is_err() {
        tracing::warn!("some requests did not end within 25 s");
    }
}
