//! The operator's process: flags, logs, signals, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use kinora_operator::config::Args;
use kinora_operator::start::{self, StartError};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    // First of all: kube, the store and dispatch share one TLS provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&args.log_level));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();
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
    let ended = runtime.block_on(start::run(args));
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
