//! Flags of the operator, and what of them can be wrong before anything is started.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Parser;
use kinora_crds::names;
use kinora_storage::{Cell, StoreArgs};
use kinora_telemetry::TraceArgs;

/// Lowest TTL of upload jobs that is safe: a late finisher may create a job that has come and gone.
const SAFE_TTL_FLOOR_SECONDS: u32 = 900;

/// An upload's finisher is done with it within this time.
const SAFE_AUDIT_GRACE_SECONDS: u64 = 600;

/// Dispatches VideoJobs to workers, keeps worker pools scaled, and files what became of every video.
///
/// Several replicas may run: one leads, the others stand by with warm caches.
#[derive(Clone, Debug, Parser)]
#[command(name = "kinora-operator", version, max_term_width = 110)]
pub struct Args {
    /// Namespace of the operator itself: leader lease, CA Secret and default pool are there.
    #[arg(long, env = "KINORA_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: String,

    /// Namespace of upload jobs and of the default pool [default: --namespace].
    #[arg(long, env = "KINORA_JOBS_NAMESPACE", value_name = "NAMESPACE")]
    pub jobs_namespace: Option<String>,

    /// Name of this pod (downward API metadata.name).
    #[arg(long, env = "KINORA_POD_NAME", value_name = "NAME")]
    pub pod_name: String,

    /// Uid of this pod (downward API metadata.uid).
    #[arg(long, env = "KINORA_POD_UID", value_name = "UID")]
    pub pod_uid: String,

    /// IP of this pod (downward API status.podIP); workers are sent there while this replica leads.
    #[arg(long, env = "KINORA_POD_IP", value_name = "IP")]
    pub pod_ip: IpAddr,

    /// Image of the workers of pools that name none.
    #[arg(long, env = "KINORA_WORKER_IMAGE", value_name = "IMAGE")]
    pub worker_image: String,

    /// Pull policy of the workers' image: Always, IfNotPresent or Never [default: the API server's choice].
    #[arg(long, env = "KINORA_WORKER_IMAGE_PULL_POLICY", value_name = "POLICY")]
    pub worker_image_pull_policy: Option<String>,

    /// Log level of the workers.
    #[arg(
        long,
        env = "KINORA_WORKER_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub worker_log_level: String,

    /// ConfigMap in --namespace whose key pool.yaml holds the default pool.
    #[arg(long, env = "KINORA_DEFAULT_POOL_CONFIGMAP", value_name = "NAME", default_value = names::DEFAULT_POOL_CONFIGMAP)]
    pub default_pool_configmap: String,

    /// Where workers connect (gRPC over TLS).
    #[arg(
        long,
        env = "KINORA_DISPATCH_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8443"
    )]
    pub dispatch_listen: SocketAddr,

    /// Where /livez, /readyz, /metrics and /admission are served.
    #[arg(
        long,
        env = "KINORA_HTTP_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub http_listen: SocketAddr,

    /// Name of this cell: 1 to 4 of a-z and 0-9.
    #[arg(long, env = "KINORA_CELL", value_name = "CELL", default_value = "a")]
    pub cell: Cell,

    /// Non-final jobs above which uploads wait in the outbox; admission reopens at 90 %.
    #[arg(long, env = "KINORA_MAX_LIVE_JOBS", value_name = "JOBS", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub max_live_jobs: u64,

    /// No upload job is deleted earlier after its end; below 900 only with --insecure.
    #[arg(long, env = "KINORA_UPLOAD_TTL_FLOOR_SECONDS", value_name = "SECONDS", default_value_t = SAFE_TTL_FLOOR_SECONDS)]
    pub upload_ttl_floor_seconds: u32,

    /// Days after which videos and their records are deleted; a day keeps the period that was in force, if that is longer.
    #[arg(long, env = "KINORA_RETENTION_DAYS", value_name = "DAYS", default_value_t = 1827,
          value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub retention_days: u32,

    /// Objects that retention deletes a second, at most.
    #[arg(long, env = "KINORA_RETENTION_DELETES_PER_SECOND", value_name = "OBJECTS", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub retention_deletes_per_second: u32,

    /// What was accepted less long ago is left alone when lost jobs are looked for; below 600 only with --insecure.
    #[arg(long, env = "KINORA_AUDIT_GRACE_SECONDS", value_name = "SECONDS", hide = true, default_value_t = SAFE_AUDIT_GRACE_SECONDS,
          value_parser = clap::value_parser!(u64).range(2..=SAFE_AUDIT_GRACE_SECONDS))]
    pub audit_grace_seconds: u64,

    /// Allow settings that only tests and development should have.
    #[arg(long, env = "KINORA_INSECURE")]
    pub insecure: bool,

    /// JSON file: namespace to list of key prefixes that its jobs may name beside imports/<namespace>/.
    #[arg(long, env = "KINORA_ALLOWED_PREFIXES_FILE", value_name = "FILE")]
    pub allowed_prefixes_file: Option<PathBuf>,

    /// Secrets that no pool may name.
    #[arg(long, env = "KINORA_RESERVED_SECRETS", value_name = "NAMES", value_delimiter = ',',
          default_values_t = [names::STORE_SECRET, names::API_KEYS_SECRET, names::DISPATCH_CA].map(str::to_owned))]
    pub reserved_secrets: Vec<String>,

    /// Log level when RUST_LOG is not set.
    #[arg(
        long,
        env = "KINORA_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub log_level: String,

    /// Traces, of the workers too.
    #[command(flatten)]
    pub trace: TraceArgs,

    /// The object store.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// A setting that is wrong; the message names flag and fix.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Would let a job be deleted while a late finisher may still create it anew.
    #[error(
        "--upload-ttl-floor-seconds {0} is below {SAFE_TTL_FLOOR_SECONDS}: a video could be processed twice; raise it, or \
         add --insecure in tests"
    )]
    TtlFloor(u32),
    /// Would let the audit and an upload's finisher work on the same video.
    #[error(
        "--audit-grace-seconds {0} is below {SAFE_AUDIT_GRACE_SECONDS}: raise it, or add --insecure in tests"
    )]
    AuditGrace(u64),
    /// Not a policy of Kubernetes.
    #[error("--worker-image-pull-policy {0:?}: use Always, IfNotPresent or Never")]
    PullPolicy(String),
    /// The file cannot be read.
    #[error("--allowed-prefixes-file {}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("--allowed-prefixes-file {}: {what}; expected {{\"namespace\": [\"prefix/\"]}}", path.display())]
    Prefixes {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl Args {
    /// Where upload jobs live.
    pub fn jobs_namespace(&self) -> String {
        self.jobs_namespace
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| self.namespace.clone())
    }

    /// Checks what clap cannot.
    ///
    /// # Errors
    /// [`ConfigError`], before anything is started.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.upload_ttl_floor_seconds < SAFE_TTL_FLOOR_SECONDS && !self.insecure {
            return Err(ConfigError::TtlFloor(self.upload_ttl_floor_seconds));
        }
        if self.audit_grace_seconds < SAFE_AUDIT_GRACE_SECONDS && !self.insecure {
            return Err(ConfigError::AuditGrace(self.audit_grace_seconds));
        }
        match self.worker_image_pull_policy.as_deref() {
            None | Some("Always" | "IfNotPresent" | "Never") => Ok(()),
            Some(other) => Err(ConfigError::PullPolicy(other.to_owned())),
        }
    }

    /// The prefixes that namespaces were given; none without a file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], [`ConfigError::Prefixes`].
    pub fn allowed_prefixes(&self) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
        let Some(path) = &self.allowed_prefixes_file else {
            return Ok(BTreeMap::new());
        };
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.clone(),
            source,
        })?;
        parse_prefixes(&text, path)
    }
}

fn parse_prefixes(text: &str, path: &Path) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let wrong = |what: String| ConfigError::Prefixes {
        path: path.to_owned(),
        what,
    };
    // A chart value that was never set renders as null.
    let all: Option<BTreeMap<String, Vec<String>>> =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let all = all.unwrap_or_default();
    let bad =
        |prefix: &&String| prefix.is_empty() || prefix.starts_with('/') || prefix.contains("..");
    match all
        .iter()
        .find_map(|(namespace, prefixes)| Some((namespace, prefixes.iter().find(bad)?)))
    {
        Some((namespace, prefix)) => Err(wrong(format!(
            "prefix {prefix:?} of namespace {namespace} is not allowed"
        ))),
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: [&str; 17] = [
        "kinora-operator",
        "--namespace",
        "kinora-system",
        "--pod-name",
        "p",
        "--pod-uid",
        "u",
        "--pod-ip",
        "10.0.0.1",
        "--worker-image",
        "w:1",
        "--store-endpoint",
        "http://s",
        "--store-bucket",
        "b",
        "--store-credentials-dir",
        "/c",
    ];

    fn args(more: &[&str]) -> Args {
        Args::try_parse_from(REQUIRED.iter().chain(more)).unwrap()
    }

    #[test]
    fn the_defaults_are_safe_and_unsafe_settings_need_a_word() {
        let table: [(&str, &[&str], bool); 7] = [
            ("defaults", &[], true),
            ("a low floor", &["--upload-ttl-floor-seconds", "60"], false),
            (
                "a low floor in a test",
                &["--upload-ttl-floor-seconds", "60", "--insecure"],
                true,
            ),
            ("a short grace", &["--audit-grace-seconds", "10"], false),
            (
                "a short grace in a test",
                &["--audit-grace-seconds", "10", "--insecure"],
                true,
            ),
            (
                "a pull policy",
                &["--worker-image-pull-policy", "Never"],
                true,
            ),
            (
                "a misspelt pull policy",
                &["--worker-image-pull-policy", "never"],
                false,
            ),
        ];
        for (name, more, want) in table {
            assert_eq!(args(more).check().is_ok(), want, "{name}");
        }
        assert_eq!(args(&[]).jobs_namespace(), "kinora-system");
        assert_eq!(
            args(&["--jobs-namespace", "videos"]).jobs_namespace(),
            "videos"
        );
        assert_eq!(
            args(&[]).reserved_secrets,
            ["kinora-store", "kinora-api-keys", "kinora-dispatch-ca"]
        );
    }

    #[test]
    fn a_period_of_no_days_or_no_pace_is_refused() {
        let all = args(&[]);
        assert_eq!(
            (all.retention_days, all.retention_deletes_per_second),
            (1827, 100)
        );
        for flag in ["--retention-days", "--retention-deletes-per-second"] {
            let parsed = Args::try_parse_from(REQUIRED.iter().chain(&[flag, "0"]));
            let problem = parsed.unwrap_err().to_string();
            assert!(problem.contains(flag), "{problem}");
        }
    }

    #[test]
    fn prefixes_are_a_map_of_lists_and_never_everything() {
        let table = [
            ("none", "{}", true),
            ("an unset chart value", "null", true),
            ("one", r#"{"films": ["library/"]}"#, true),
            (
                "an empty prefix would be the whole bucket",
                r#"{"films": [""]}"#,
                false,
            ),
            ("a path", r#"{"films": ["/x"]}"#, false),
            ("a climb", r#"{"films": ["a/../videos/"]}"#, false),
            ("a list", "[]", false),
        ];
        for (name, text, want) in table {
            assert_eq!(parse_prefixes(text, Path::new("f")).is_ok(), want, "{name}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
