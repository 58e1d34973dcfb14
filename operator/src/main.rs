//! The operator's process: flags, logs, signals, exit code. Everything else is in the library.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kinora_operator::config::Args;
use kinora_operator::start::{self, StartError};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// For the last spans, at the end.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// A job's life is thousands of small allocations on all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    // First of all: kube, the store and dispatch share one TLS provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&args.log_level));
    let traces = match kinora_telemetry::begin("kinora-operator", &args.trace, filter) {
        Ok(traces) => traces,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
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
        let over = CancellationToken::new();
        let exporting = tokio::spawn(traces.run(over.clone()));
        let ended = start::run(args).await;
        over.cancel();
        // What spans are left are worth this much of a wait.
        let _ = tokio::time::timeout(LAST_SPANS, exporting).await;
        ended
    });
    // Tasks that still wait for somebody are dropped; nothing they hold is lost.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator ends");
            ExitCode::from(if matches!(error, StartError::Config(_)) {
                2
            } else {
                1
            })
        }
    }
}
