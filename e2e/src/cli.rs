//! The command line of `cargo xtask`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::cluster::{self, Cluster, DEFAULT_NAME, State, Status};
use crate::progress::Progress;
use crate::stack::Images;
use crate::tools::wheel;
use crate::{bench, command, demo, faults, figures, host, images, test};

/// Kinora's workshop: a local Kubernetes, the demo, the tests.
///
/// Everything runs on this machine, as root, in a network namespace of its own; nothing of the host's network is
/// changed, and `cargo xtask cluster down` removes all of it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Job,
}

#[derive(Debug, Subcommand)]
enum Job {
    /// Start, stop or look at a local Kubernetes cluster.
    #[command(subcommand)]
    Cluster(ClusterJob),
    /// Run kubectl against the local cluster, for example `cargo xtask kubectl get videojobs -A`.
    Kubectl(Passed),
    /// Run helm against the local cluster, for example `cargo xtask helm list -A`.
    Helm(Passed),
    /// Compile Kinora, make its images, and import them into the local cluster or write them to files.
    Images(ImagesJob),
    /// Play the demo: a real cluster, real videos, an upload cut at half, a worker killed; leaves the cluster up.
    ///
    /// Makes cluster, images and Helm release first, each only as far as it is not there. Outputs go to target/demo/.
    Demo(Named),
    /// Run every check: format, lints, unit tests, generated files, dependencies, chart, and the cases on a real cluster.
    ///
    /// Steps are fmt, clippy, unit, generated, deny, chart, bench, bench-operator, e2e. The last line is always
    /// `N passed, N failed`; the exit code is 1 when anything failed. The last two need root; the e2e step uses a cluster of
    /// its own, called `test`.
    Test(test::Options),
    /// Install Kinora on the local cluster and tell what one job costs: API writes, latency, bytes, memory.
    Figures(Asked),
    /// Measure Kinora beside what others use for the same, against the budgets.
    #[command(subcommand)]
    Bench(bench::Job),
    /// Tell which tests cover which fault (F), invariant (T, I) and control (S).
    ///
    /// A test cites names in its doc comment, `covers: F12, T3`. Exits with 1 when a name is cited that does not exist.
    Faults(faults::Options),
    /// Carries a forwarded port; started by `cluster up`.
    #[command(hide = true)]
    ForwardDaemon(ForwardDaemon),
}

#[derive(Debug, Subcommand)]
enum ClusterJob {
    /// Make the cluster, mend it if it is half there, or say that it is up.
    ///
    /// The first run builds Kubernetes, CoreDNS and helm from Go modules (about 10 minutes on two cores) into a cache
    /// outside the clone: $KINORA_CACHE, or `kinora` in the user's cache folder. Later runs take about 20 seconds.
    /// The cluster is for tests: its etcd does not wait for the disk.
    Up(Up),
    /// Remove the cluster to the last process, mount, cgroup, file and interface, and check that it is so.
    ///
    /// Works on whatever is there, also after `up` was killed half way. Exits with 1 and names what is left if
    /// anything is.
    Down(Named),
    /// Show what runs and whether it answers. Exits with 1 unless everything does.
    Status(Asked),
}

#[derive(Debug, Args)]
struct Named {
    /// Which cluster; several can be up side by side.
    #[arg(long, env = "KINORA_CLUSTER_NAME", default_value = DEFAULT_NAME)]
    name: String,
}

#[derive(Debug, Args)]
struct ImagesJob {
    #[command(flatten)]
    cluster: Named,
    /// Build in the release profile: what to install for real use. The demo and the tests do without, to start sooner.
    #[arg(long)]
    release: bool,
    /// Write the images as docker-archives into this folder; no cluster is made.
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Up {
    #[command(flatten)]
    cluster: Named,
    /// Port on this machine's 127.0.0.1 for the API server; without it a free one is chosen and kept.
    #[arg(long)]
    api_port: Option<u16>,
}

#[derive(Debug, Args)]
struct Asked {
    #[command(flatten)]
    cluster: Named,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Passed {
    /// Passed on as they are. Which cluster is chosen by $KINORA_CLUSTER_NAME.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct ForwardDaemon {
    #[arg(long)]
    name: String,
    #[arg(long)]
    forward: String,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    target: String,
}

/// Prints a line; that nobody reads on (`| head`) is no error.
macro_rules! say {
    ($($word:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($word)*);
    }};
}

/// Runs the command line; the message of an error goes to standard error.
#[must_use]
pub fn main() -> ExitCode {
    // Two crates of the build want TLS; both must find the same provider. A second call finds it installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(job: Job) -> Result<ExitCode> {
    match job {
        Job::Cluster(ClusterJob::Up(options)) => up(&options),
        Job::Cluster(ClusterJob::Down(named)) => down(&named),
        Job::Cluster(ClusterJob::Status(asked)) => status(&asked),
        Job::Kubectl(passed) => pass_on(chosen()?.kubectl_command()?, &passed.args),
        Job::Helm(passed) => pass_on(chosen()?.helm_command()?, &passed.args),
        Job::Images(asked) => import(&asked),
        Job::Demo(named) => play(&named),
        Job::Test(options) => Ok(if test::run(&options)? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }),
        Job::Figures(asked) => figures(&asked),
        Job::Faults(options) => faults::run(options),
        Job::Bench(job) => bench::run(&job),
        Job::ForwardDaemon(it) => {
            cluster::serve_forward(&it.name, &it.forward, it.port, &it.target)
                .map(|()| ExitCode::SUCCESS)
        }
    }
}

fn up(options: &Up) -> Result<ExitCode> {
    let cluster = Cluster::up_with(&options.cluster.name, options.api_port)?;
    say!(
        "cluster {} is up; on this machine: export KUBECONFIG={}",
        cluster.name(),
        cluster.host_kubeconfig().display()
    );
    say!("or without it: cargo xtask kubectl get pods -A");
    Ok(ExitCode::SUCCESS)
}

fn down(named: &Named) -> Result<ExitCode> {
    let cluster = Cluster::named(&named.name)?;
    let mut progress = Progress::new("cluster down", 1);
    progress.step(&format!("remove cluster {}", cluster.name()), || {
        cluster.down()
    })?;
    say!(
        "cluster {} is gone: no process, mount, cgroup, namespace or file of it is left",
        cluster.name()
    );
    Ok(ExitCode::SUCCESS)
}

fn status(asked: &Asked) -> Result<ExitCode> {
    host::require_root()?;
    let status = Cluster::named(&asked.cluster.name)?.status();
    if asked.json {
        say!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        show(&status);
    }
    Ok(if status.is_running() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(status: &Status) {
    let up = format!("`{} cluster up`", cluster::xtask_for(&status.name));
    let word = match status.state {
        State::Running => "running".to_owned(),
        State::Broken => format!("broken: {up} mends it"),
        State::Stopped => format!("not there: {up} makes it"),
    };
    say!("cluster {}: {word}", status.name);
    let others: Vec<String> = cluster::names()
        .into_iter()
        .filter(|name| *name != status.name)
        .collect();
    if !others.is_empty() {
        say!("others on this machine: {}", others.join(", "));
    }
    if status.state == State::Stopped {
        return;
    }
    for component in &status.components {
        let pid = component
            .pid
            .map_or_else(String::new, |pid| format!("pid {pid}"));
        let verdict = if component.ready {
            "ready"
        } else {
            component.detail.as_str()
        };
        say!("  {:<20} {pid:<12} {verdict}", component.name);
    }
    for port in &status.forwards {
        say!(
            "  127.0.0.1:{} leads to {} ({})",
            port.port,
            port.target,
            port.name
        );
    }
    say!(
        "  KUBECONFIG={}\n  logs: {}/logs",
        status.kubeconfig,
        status.state_dir
    );
}

fn import(asked: &ImagesJob) -> Result<ExitCode> {
    let profile = if asked.release {
        images::Profile::Release
    } else {
        images::Profile::Dev
    };
    let mut progress = Progress::new("images", 3);
    if let Some(folder) = &asked.to {
        let built = images::build(profile, &mut progress)?;
        images::save(&built, folder, &mut progress)?;
        say!("tag {}", built.tag);
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = Cluster::up(&asked.cluster.name)?;
    let built = images::build(profile, &mut progress)?;
    images::load(&cluster, &built, &mut progress)?;
    say!("tag {}", built.tag);
    Ok(ExitCode::SUCCESS)
}

fn play(named: &Named) -> Result<ExitCode> {
    let (cluster, images) = up_with_images(&named.name)?;
    let ffmpeg = wheel::FFMPEG.binary()?;
    cluster.block_on(|| demo::play(cluster.clone(), images, ffmpeg))?;
    Ok(ExitCode::SUCCESS)
}

fn up_with_images(name: &str) -> Result<(Cluster, Images)> {
    let cluster = Cluster::up(name)?;
    let mut progress = Progress::new("images", 3);
    let built = images::build(images::Profile::Dev, &mut progress)?;
    images::load(&cluster, &built, &mut progress)?;
    let registry = images::REGISTRY.to_owned();
    Ok((
        cluster,
        Images {
            registry,
            tag: built.tag,
        },
    ))
}

fn figures(asked: &Asked) -> Result<ExitCode> {
    let (cluster, images) = up_with_images(&asked.cluster.name)?;
    let mut progress = Progress::new("figures", 1);
    let found = progress.step(
        "install Kinora, upload 20 videos one by one, wait for their end",
        || cluster.block_on(|| figures::run(cluster.clone(), images)),
    )?;
    if asked.json {
        say!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        say!("{}", serde_yaml::to_string(&found)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn chosen() -> Result<Cluster> {
    let name = std::env::var("KINORA_CLUSTER_NAME")
        .ok()
        .filter(|name| !name.is_empty());
    Cluster::named(name.as_deref().unwrap_or(DEFAULT_NAME))
}

fn pass_on(mut program: Command, args: &[String]) -> Result<ExitCode> {
    let status = command::interactive("run it", program.args(args))?;
    let code = status.code().context("it was killed by a signal")?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn kubectl_gets_its_flags_untouched() {
        let cli = Cli::try_parse_from(["xtask", "kubectl", "get", "pods", "-A", "--help"]).unwrap();
        let Job::Kubectl(passed) = cli.command else {
            panic!("not kubectl")
        };
        assert_eq!(passed.args, ["get", "pods", "-A", "--help"]);
    }
}
