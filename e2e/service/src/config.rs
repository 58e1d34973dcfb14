//! Flags and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// Kinora's reference processing service: makes a 480p H.264 video and a JPEG thumbnail of each source.
#[derive(Clone, Debug, Parser)]
#[command(name = "kinora-reference-service", version)]
pub struct Args {
    /// Where kinora.processing.v1 is served (gRPC, no TLS).
    #[arg(long, env = "KINORA_LISTEN", default_value = "0.0.0.0:50051")]
    pub listen: SocketAddr,
    /// Where the HTTP form is served: POST /process (no TLS).
    #[arg(long, env = "KINORA_HTTP_LISTEN", default_value = "0.0.0.0:8082")]
    pub http_listen: SocketAddr,
    /// Where /faults, /calls, /livez and /readyz are served (HTTP).
    #[arg(long, env = "KINORA_CONTROL_LISTEN", default_value = "0.0.0.0:8081")]
    pub control_listen: SocketAddr,
    /// The ffmpeg binary.
    #[arg(long, env = "KINORA_FFMPEG", default_value = "/bin/ffmpeg")]
    pub ffmpeg: PathBuf,
    /// Sources and outputs are kept in `kinora-reference` in this directory, which is emptied at start.
    #[arg(long, env = "KINORA_WORK_DIR", default_value = "/tmp")]
    pub work_dir: PathBuf,
    /// Larger sources are rejected with OUT_OF_RANGE.
    #[arg(long, env = "KINORA_MAX_SOURCE_BYTES", default_value_t = 1024 * 1024 * 1024)]
    pub max_source_bytes: u64,
    /// Calls at once; more are answered with RESOURCE_EXHAUSTED.
    #[arg(long, env = "KINORA_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// CA (PEM) of an https:// store. Without it only http:// stores can be reached.
    #[arg(long, env = "KINORA_STORE_CA_FILE")]
    pub store_ca_file: Option<PathBuf>,
    /// How long running calls may go on after SIGTERM.
    #[arg(long, env = "KINORA_DRAIN_SECONDS", default_value_t = 25)]
    pub drain_seconds: u64,
    /// Log filter, as of RUST_LOG (which wins).
    #[arg(long, env = "KINORA_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}
