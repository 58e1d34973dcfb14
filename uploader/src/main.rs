//! The uploader binary: flags, logs, exit code; everything else is the library's.

use std::process::ExitCode;

use clap::Parser;
use kinora_uploader::args::Args;
use kinora_uploader::run;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Fails only if a provider is there already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = Args::parse();
    match EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(&args.log_level)) {
        Ok(filter) => tracing_subscriber::fmt()
            .json()
            .with_env_filter(filter)
            .init(),
        Err(problem) => {
            eprintln!(
                "error: --log-level {}: {problem}; use error, warn, info, debug or trace",
                args.log_level
            );
            return ExitCode::from(2);
        }
    }
    run::main(args)
}
