//! Flags. The environment variable of each is `KINORA_` and its name in upper case.

use std::net::SocketAddr;
use std::path::PathBuf;

use kinora_storage::StoreArgs;
use kinora_telemetry::TraceArgs;

use crate::erase::ErasePolicy;
use crate::http::interim::InterimResponses;

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AuthMode {
    /// `Authorization: Bearer <key-id>.<secret>`, beside the tokens that the access file names.
    Apikey,
    /// Only the tokens that the access file names.
    External,
    /// Everybody, as one anonymous owner; only with --insecure.
    None,
}

/// Kinora's REST uploader: takes videos over tus or plain HTTP, stores them in the object store and
/// creates one VideoJob for each.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kinora-uploader", version)]
pub struct Args {
    /// Address the server listens on: uploads, /livez, /readyz and /metrics.
    #[arg(
        long,
        env = "KINORA_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,

    /// Namespace that VideoJobs of uploads are created in.
    #[arg(long, env = "KINORA_JOBS_NAMESPACE", value_name = "NAMESPACE")]
    pub jobs_namespace: String,

    /// The uploader's own namespace.
    #[arg(
        long,
        env = "KINORA_NAMESPACE",
        default_value = "default",
        value_name = "NAMESPACE"
    )]
    pub namespace: String,

    /// Cell of this installation, 1 to 4 characters of a-z and 0-9; part of every id it mints.
    #[arg(long, env = "KINORA_CELL", default_value = "a", value_name = "NAME")]
    pub cell: String,

    /// How requests are authenticated.
    #[arg(long, env = "KINORA_AUTH", value_enum, default_value = "apikey")]
    pub auth: AuthMode,

    /// Directory of API keys: each file's name is a key id, its content {"sha256","tenant","scopes"}.
    #[arg(long, env = "KINORA_API_KEYS_DIR", value_name = "DIR")]
    pub api_keys_dir: Option<PathBuf>,

    /// YAML file of who is let in beside API keys, and of limits: {issuers, tokenReview, limits}.
    #[arg(long, env = "KINORA_ACCESS_FILE", value_name = "FILE")]
    pub access_file: Option<PathBuf>,

    /// Directory of keys that sign upload tokens, each a file of 32 bytes or more; the last by name signs.
    #[arg(long, env = "KINORA_UPLOAD_TOKEN_KEYS_DIR", value_name = "DIR")]
    pub upload_token_keys_dir: Option<PathBuf>,

    /// YAML file of profiles: name -> {pool, maxBytes, maxSeconds, ttlSecondsAfterFinished, accept}
    /// [default: one profile `default` of 300,000,000 bytes and 15 seconds].
    #[arg(long, env = "KINORA_PROFILES_FILE", value_name = "FILE")]
    pub profiles_file: Option<PathBuf>,

    /// How many replicas of the uploader run. A rollout may run one more, so that even one alone needs a store with
    /// atomic conditional writes.
    #[arg(long, env = "KINORA_REPLICAS", default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub replicas: u32,

    /// This is the only replica, also while another version is rolled out, so a store without atomic conditional writes
    /// will do.
    #[arg(long, env = "KINORA_SINGLE_REPLICA")]
    pub single_replica: bool,

    /// The operator's admission endpoint, asked every 5 s; unreachable or absent means open.
    #[arg(long, env = "KINORA_ADMISSION_URL", value_name = "URL")]
    pub admission_url: Option<String>,

    /// Public base URL of this server for absolute Locations [default: path only].
    #[arg(long, env = "KINORA_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,

    /// When a create over the IETF draft is told its URL ahead of the answer (104); auto: where no proxy can be seen
    /// in between, as one that does not know 104 takes it for the answer.
    #[arg(
        long,
        env = "KINORA_INTERIM_RESPONSES",
        value_enum,
        default_value = "auto"
    )]
    pub interim_responses: InterimResponses,

    /// A connection on which nothing is asked is closed after so many seconds, 10 to 3600: longer than proxies keep theirs.
    #[arg(
        long,
        env = "KINORA_IDLE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 75,
        value_parser = clap::value_parser!(u64).range(10..=3600)
    )]
    pub idle_seconds: u64,

    /// What is done with wishes to erase a video: carried out, kept for later, or refused.
    #[arg(long, env = "KINORA_ERASE", value_enum, default_value = "defer")]
    pub erase: ErasePolicy,

    /// Seconds between two sweeps of the outbox, jittered.
    #[arg(long, env = "KINORA_SWEEP_INTERVAL_SECONDS", default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub sweep_interval_seconds: u64,

    /// Most bytes of request bodies held in memory at once, over all uploads.
    #[arg(long, env = "KINORA_BODY_MEMORY_BYTES", default_value_t = 144 << 20, value_name = "BYTES",
          value_parser = clap::value_parser!(u64).range((32 << 20)..(4 << 30)))]
    pub body_memory_bytes: u64,

    /// Allow what only development and protocol suites need: --auth none, profiles that accept any file.
    #[arg(long, env = "KINORA_INSECURE")]
    pub insecure: bool,

    /// The object store.
    #[command(flatten)]
    pub store: StoreArgs,

    /// Where traces go.
    #[command(flatten)]
    pub trace: TraceArgs,

    /// Log filter: error, warn, info, debug, trace, or tracing directives. RUST_LOG wins.
    #[arg(
        long,
        env = "KINORA_LOG_LEVEL",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log_level: String,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        super::Args::command().debug_assert();
    }
}
