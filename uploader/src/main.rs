//! The uploader binary: flags, logs, traces, exit code; everything else is the library's.

use std::process::ExitCode;

use clap::Parser;
use kinora_uploader::args::Args;
use kinora_uploader::run;
use tracing_subscriber::EnvFilter;

/// Bodies come and go in blocks of 64 KiB on all threads; this allocator gives such memory back, and the system's keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Fails only if a provider is there already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(&args.log_level))
        .map_err(|problem| {
            let level = &args.log_level;
            format!("--log-level {level}: {problem}; use error, warn, info, debug or trace")
        });
    let begun = filter.and_then(|filter| {
        kinora_telemetry::begin("kinora-uploader", &args.trace, filter).map_err(|e| e.to_string())
    });
    match begun {
        Ok(traces) => run::main(args, traces),
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}
