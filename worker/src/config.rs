//! Flags and environment, checked once. What is wrong is said with the flag's name and the way to mend it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use kinora_telemetry::TraceArgs;

use crate::machine::Timings;

/// Kinora's worker: takes leases from the operator, makes one call to the processing service for each, reports the outcome.
#[derive(Debug, Parser)]
#[command(name = "kinora-worker", version)]
pub struct Args {
    /// The operator's dispatch Service, `host:port`. The host is also the name its certificate must have.
    #[arg(long, env = "KINORA_OPERATOR_ADDRESS")]
    pub operator_address: String,
    /// Projected ServiceAccount token with the audience kinora-dispatch; read again at each connect.
    #[arg(
        long,
        env = "KINORA_TOKEN_FILE",
        default_value = "/var/run/kinora/dispatch-token/token"
    )]
    pub token_file: PathBuf,
    /// CA of the operator's certificate (PEM); read again at each connect.
    #[arg(
        long,
        env = "KINORA_CA_FILE",
        default_value = "/var/run/kinora/dispatch-ca/ca.crt"
    )]
    pub ca_file: PathBuf,
    /// Leases held at once.
    #[arg(long, env = "KINORA_SLOTS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub slots: u32,
    /// How the processing service is called.
    #[arg(long, env = "KINORA_SERVICE_PROTOCOL", value_enum, ignore_case = true, default_value_t = Protocol::Grpc)]
    pub service_protocol: Protocol,
    /// The processing service: `http://host:port`, or `https://host:port` together with --service-tls-dir; for Http with
    /// the path to POST to.
    #[arg(long, env = "KINORA_SERVICE_ENDPOINT")]
    pub service_endpoint: String,
    /// Directory with the service's `ca.crt`, optionally `tls.crt` and `tls.key` of a client certificate; read at each call.
    #[arg(long, env = "KINORA_SERVICE_TLS_DIR")]
    pub service_tls_dir: Option<PathBuf>,
    /// Bearer token for the service; read at each call.
    #[arg(long, env = "KINORA_SERVICE_TOKEN_FILE")]
    pub service_token_file: Option<PathBuf>,
    /// How long running calls may go on after SIGTERM. The pod's grace period must be longer by 30 s.
    #[arg(long, env = "KINORA_DRAIN_SECONDS", default_value_t = 300)]
    pub drain_seconds: u64,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "KINORA_HTTP_LISTEN", default_value = "0.0.0.0:8080")]
    pub http_listen: SocketAddr,
    /// Log filter, as of RUST_LOG (which wins): `info`, `kinora_worker=debug`, …
    #[arg(long, env = "KINORA_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Traces.
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// Forms of the processing protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// `kinora.processing.v1`.
    Grpc,
    /// The plain HTTP form.
    Http,
}

/// A flag with a value that cannot work.
#[derive(Debug, thiserror::Error)]
#[error("--{flag}: {problem}")]
pub struct ConfigError {
    /// Without dashes.
    pub flag: &'static str,
    /// What is wrong and what to do.
    pub problem: String,
}

/// Where the operator is.
#[derive(Clone, Debug)]
pub struct OperatorTarget {
    /// Name in the certificate, whatever address is dialled.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Read at each connect.
    pub token_file: PathBuf,
    /// Read at each connect.
    pub ca_file: PathBuf,
}

/// Where the processing service is.
#[derive(Clone, Debug)]
pub struct ServiceTarget {
    /// Form of the protocol.
    pub protocol: Protocol,
    /// Scheme, host, port; for HTTP a path too.
    pub endpoint: String,
    /// `ca.crt`, and `tls.crt` and `tls.key` if there are any.
    pub tls_dir: Option<PathBuf>,
    /// Read at each call.
    pub token_file: Option<PathBuf>,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The operator.
    pub operator: OperatorTarget,
    /// The processing service.
    pub service: ServiceTarget,
    /// At least 1.
    pub slots: u32,
    /// After SIGTERM.
    pub drain: Duration,
    /// Intervals of the protocol.
    pub timings: Timings,
    /// Pause before the next connection to the operator: from, to.
    pub reconnect: (Duration, Duration),
}

impl TryFrom<&Args> for Config {
    type Error = ConfigError;

    fn try_from(args: &Args) -> Result<Self, ConfigError> {
        let (host, port) = host_and_port(&args.operator_address)?;
        Ok(Self {
            operator: OperatorTarget {
                host,
                port,
                token_file: args.token_file.clone(),
                ca_file: args.ca_file.clone(),
            },
            service: service_target(args)?,
            slots: args.slots,
            drain: Duration::from_secs(args.drain_seconds),
            timings: Timings::default(),
            reconnect: (Duration::from_millis(200), Duration::from_secs(1)),
        })
    }
}

fn host_and_port(address: &str) -> Result<(String, u16), ConfigError> {
    let wrong = |problem: &str| ConfigError {
        flag: "operator-address",
        problem: format!(
            "`{address}` {problem}; give host:port, for example kinora-operator.kinora-system.svc:8443"
        ),
    };
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| wrong("has no port"))?;
    if host.is_empty() || host.contains(['/', ':', '[', ']', '@', ' ']) {
        return Err(wrong("has no usable host name"));
    }
    let port = port.parse().map_err(|_| wrong("has no usable port"))?;
    Ok((host.to_owned(), port))
}

fn service_target(args: &Args) -> Result<ServiceTarget, ConfigError> {
    let fail = |flag, problem: String| Err(ConfigError { flag, problem });
    let grpc = args.service_protocol == Protocol::Grpc;
    // The path of an HTTP service is its own: `/jobs/` and `/jobs` may be two things.
    let endpoint = match grpc {
        true => args.service_endpoint.trim_end_matches('/'),
        false => args.service_endpoint.as_str(),
    };
    let uri: tonic::transport::Uri = match endpoint.parse() {
        Ok(uri) => uri,
        Err(error) => return fail("service-endpoint", format!("`{endpoint}`: {error}")),
    };
    let scheme = uri.scheme_str().unwrap_or_default();
    if !matches!(scheme, "http" | "https") || uri.host().is_none_or(str::is_empty) {
        return fail(
            "service-endpoint",
            format!("`{endpoint}` is no http:// or https:// address with a host"),
        );
    }
    if grpc && (uri.path() != "/" || uri.query().is_some()) {
        return fail(
            "service-endpoint",
            format!("`{endpoint}` has a path; a gRPC service has none: give scheme, host and port"),
        );
    }
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return fail(
            "service-endpoint",
            "it holds a user or password; give a token by --service-token-file".to_owned(),
        );
    }
    if (scheme == "https") != args.service_tls_dir.is_some() {
        return fail(
            "service-tls-dir",
            "belongs to an https:// endpoint, and an https:// endpoint needs it (a directory with ca.crt)"
                .to_owned(),
        );
    }
    Ok(ServiceTarget {
        protocol: args.service_protocol,
        endpoint: endpoint.to_owned(),
        tls_dir: args.service_tls_dir.clone(),
        token_file: args.service_token_file.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[&str] = &[
        "kinora-worker",
        "--operator-address=kinora-operator.kinora-system.svc:8443",
        "--service-endpoint=http://transcoder:50051",
    ];

    fn config(extra: &[&str]) -> Result<Config, String> {
        let mut all: Vec<&str> = GOOD.to_vec();
        all.retain(|flag| {
            let name = flag.split('=').next().unwrap();
            !extra.iter().any(|other| other.starts_with(name))
        });
        all.extend(extra);
        let args = Args::try_parse_from(all).map_err(|error| error.to_string())?;
        Config::try_from(&args).map_err(|error| error.to_string())
    }

    #[rstest::rstest]
    #[case::the_least(&[], None)]
    #[case::tls_to_the_service(&["--service-endpoint=https://t:1", "--service-tls-dir=/tls"], None)]
    #[case::http(&["--service-protocol=Http"], None)]
    #[case::http_with_a_path(&["--service-protocol=Http", "--service-endpoint=http://t:1/v1/process?x=1"], None)]
    #[case::a_password_in_the_address(&["--service-protocol=Http", "--service-endpoint=http://u:p@t:1/"], Some("password"))]
    #[case::lower_case_protocol(&["--service-protocol=grpc"], None)]
    #[case::an_unknown_protocol(&["--service-protocol=Smtp"], Some("Smtp"))]
    #[case::no_port(&["--operator-address=operator"], Some("has no port"))]
    #[case::a_url_for_the_operator(&["--operator-address=https://operator:8443"], Some("host name"))]
    #[case::port_out_of_range(&["--operator-address=operator:99999"], Some("usable port"))]
    #[case::no_slots(&["--slots=0"], Some("slots"))]
    #[case::https_without_a_ca(&["--service-endpoint=https://t:1"], Some("--service-tls-dir"))]
    #[case::a_ca_without_https(&["--service-tls-dir=/tls"], Some("--service-tls-dir"))]
    #[case::a_path(&["--service-endpoint=http://t:1/process"], Some("has a path"))]
    #[case::no_scheme(&["--service-endpoint=t:1"], Some("--service-endpoint"))]
    fn flags(#[case] extra: &[&str], #[case] want_error: Option<&str>) {
        match (config(extra), want_error) {
            (Ok(_), None) => {}
            (Err(error), Some(text)) => assert!(error.contains(text), "{error}"),
            (got, _) => panic!("{extra:?}: {got:?}, wanted {want_error:?}"),
        }
    }
}
