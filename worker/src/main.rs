//! The worker binary: flags, logs, signals, HTTP; everything else is the library's.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use kinora_telemetry::{Exporting, port};
use kinora_worker::metrics::Metrics;
use kinora_worker::{Args, Config, http, run};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// For the last spans, at the end.
const LAST_SPANS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // Only fails if a provider is there already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(&args.log_level));
    let config = Config::try_from(&args);
    match (filter, config) {
        (Ok(filter), Ok(config)) => {
            match kinora_telemetry::begin("kinora-worker", &args.trace, filter) {
                Ok(traces) => serve(&args, config, traces),
                Err(problem) => usage(&problem.to_string()),
            }
        }
        (Err(problem), _) => usage(&format!("--log-level: {problem}")),
        (_, Err(problem)) => usage(&problem.to_string()),
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("kinora-worker: {problem}");
    ExitCode::from(2)
}

fn serve(args: &Args, config: Config, traces: Exporting) -> ExitCode {
    // One thread is plenty for a few calls that wait, and keeps a worker small.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime
        .map_err(|error| format!("start the runtime: {error}"))
        .and_then(|runtime| {
            runtime.block_on(async {
                let over = CancellationToken::new();
                let exporting = tokio::spawn(traces.run(over.clone()));
                let ended = work(args, config).await;
                over.cancel();
                // What spans are left are worth this much of a wait.
                let _ = tokio::time::timeout(LAST_SPANS, exporting).await;
                ended
            })
        });
    match result {
        Ok(code) => code,
        Err(problem) => {
            error!(problem, "kinora-worker cannot run");
            ExitCode::from(1)
        }
    }
}

async fn work(args: &Args, config: Config) -> Result<ExitCode, String> {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry, config.slots);
    let listener = tokio::net::TcpListener::bind(args.http_listen)
        .await
        .map_err(|error| format!("--http-listen: bind {}: {error}", args.http_listen))?;
    let app = http::router(Arc::new(registry));
    // Until the process ends.
    tokio::spawn(port::serve(listener, app, CancellationToken::new()));
    let exit = run(config, metrics, signals()?).await;
    info!(unacknowledged = exit.unacknowledged, "worker ends");
    Ok(if exit.unacknowledged == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn signals() -> Result<mpsc::Receiver<()>, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("listen for signals: {error}"));
    let (mut term, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!("asked to end; running calls may finish");
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
