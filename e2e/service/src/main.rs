//! The reference service binary: flags, logs, signals, three listeners.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use kinora_protocol::processing::processing_server::ProcessingServer;
use kinora_reference_service::config::Args;
use kinora_reference_service::faults::FaultBoard;
use kinora_reference_service::ffmpeg::Ffmpeg;
use kinora_reference_service::job::Shared;
use kinora_reference_service::ledger::Ledger;
use kinora_reference_service::memory::Memory;
use kinora_reference_service::service::Reference;
use kinora_reference_service::{control, http_form, transfer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// Finished work kept for repeats.
const MEMORY_ENTRIES: usize = 16;
const MEMORY_BYTES: u64 = 128 * 1024 * 1024;

/// What ends the process early, with the exit code for it.
struct Fatal(u8, String);

#[tokio::main]
async fn main() -> ExitCode {
    // Only fails if a provider is there already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = Args::parse();
    let filter =
        match EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(&args.log_level)) {
            Ok(filter) => filter,
            Err(problem) => {
                eprintln!("kinora-reference-service: --log-level: {problem}");
                return ExitCode::from(2);
            }
        };
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .init();
    match serve(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fatal(code, problem)) => {
            error!(problem, "kinora-reference-service cannot run");
            ExitCode::from(code)
        }
    }
}

async fn serve(args: &Args) -> Result<(), Fatal> {
    let shared = Arc::new(share(args).await?);
    let grpc = bind("listen", args.listen).await?;
    let control = bind("control-listen", args.control_listen).await?;
    let http = bind("http-listen", args.http_listen).await?;
    let app = control::router(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(control, app).await });
    let app = http_form::router(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(http, app).await });
    let ending = on_signal()?;
    info!(listen = %args.listen, http = %args.http_listen, control = %args.control_listen, "serving");
    let server = tonic::transport::Server::builder()
        .add_service(ProcessingServer::new(Reference::new(shared)))
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(grpc),
            ending.clone().cancelled_owned(),
        );
    let drain = Duration::from_secs(args.drain_seconds);
    tokio::select! {
        served = server => served.map_err(|error| Fatal(1, format!("serve: {error}"))),
        () = async { ending.cancelled().await; tokio::time::sleep(drain).await } => {
            warn!("calls are still running; ending all the same");
            Ok(())
        }
    }
}

async fn share(args: &Args) -> Result<Shared, Fatal> {
    let ffmpeg = Ffmpeg::find(&args.ffmpeg).await.map_err(|error| {
        Fatal(
            2,
            format!("--ffmpeg: {error}; give the path of an ffmpeg binary"),
        )
    })?;
    let ca = match &args.store_ca_file {
        None => None,
        Some(path) => Some(tokio::fs::read(path).await.map_err(|error| {
            Fatal(
                2,
                format!("--store-ca-file: read {}: {error}", path.display()),
            )
        })?),
    };
    let http = transfer::client(ca.as_deref())
        .map_err(|problem| Fatal(2, format!("--store-ca-file: {problem}")))?;
    let concurrency = args.concurrency as usize;
    Ok(Shared {
        ffmpeg,
        http,
        work_dir: empty(&args.work_dir)
            .map_err(|error| Fatal(2, format!("--work-dir: {error}; give a writable directory")))?,
        max_source_bytes: args.max_source_bytes,
        slots: Semaphore::new(concurrency),
        concurrency,
        memory: Memory::new(MEMORY_ENTRIES, MEMORY_BYTES),
        faults: FaultBoard::default(),
        ledger: Ledger::default(),
        // As after SIGKILL: no destructors, no goodbye.
        crash: || std::process::exit(137),
    })
}

/// What a crash left behind is of no use to anybody.
fn empty(parent: &Path) -> std::io::Result<PathBuf> {
    let dir = parent.join("kinora-reference");
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Fatal> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Fatal(1, format!("--{flag}: bind {address}: {error}")))
}

fn on_signal() -> Result<CancellationToken, Fatal> {
    let listen =
        |kind| signal(kind).map_err(|error| Fatal(1, format!("listen for signals: {error}")));
    let (mut term, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let ending = CancellationToken::new();
    let token = ending.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("asked to end; running calls may finish");
        token.cancel();
    });
    Ok(ending)
}
