//! Starts, finds and stops the long-running programs of a cluster. Each is in a session of its own, in the cluster's
//! cgroup and (if asked) its network namespace, marked in its environment, with its log and pid in the state folder.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::layout::{Layout, MARK};
use super::{cgroup, processes};
use crate::command;

const START: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);
const COMPONENT: &str = "KINORA_COMPONENT";
/// Writes its own pid before it becomes the program, so that no process is ever without a pid file.
const SCRIPT: &str = r#"echo $$ > "$KINORA_PID_FILE"; for f in $KINORA_CGROUPS; do echo $$ > "$f"; done; unset KINORA_PID_FILE KINORA_CGROUPS; exec "$@""#;

/// A program to run.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Short name: of the log, of the pid file, and in `cluster status`.
    pub component: String,
    /// The program and its arguments.
    pub line: Vec<OsString>,
    /// Inside the cluster's network namespace, or on the host (forwarders listen there).
    pub in_namespace: bool,
    /// Variables beside the few that every program has.
    pub env: &'static [(&'static str, &'static str)],
}

impl Spec {
    /// A program inside the network namespace.
    #[must_use]
    pub(super) fn new(
        component: &str,
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        let line = std::iter::once(program.into())
            .chain(args.into_iter().map(Into::into))
            .collect();
        Self {
            component: component.to_owned(),
            line,
            in_namespace: true,
            env: &[],
        }
    }
}

/// Process id of a running component. A recycled pid is told apart by the marks in its environment.
#[must_use]
pub(super) fn running(layout: &Layout, component: &str) -> Option<i32> {
    let pid = std::fs::read_to_string(layout.pid_file(component))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let marked = |name: &str, value: &str| processes::has_mark(pid, &format!("{name}={value}"));
    (processes::alive(pid) && marked(MARK, layout.name()) && marked(COMPONENT, component))
        .then_some(pid)
}

/// Starts the component unless it runs.
///
/// # Errors
/// It could not be started; whether it then works is for the caller to ask.
pub(super) fn ensure(layout: &Layout, spec: &Spec) -> Result<i32> {
    if let Some(pid) = running(layout, &spec.component) {
        return Ok(pid);
    }
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(layout.log(&spec.component))
        .with_context(|| format!("open {}", layout.log(&spec.component).display()))?;
    let pid_file = layout.pid_file(&spec.component);
    let _ = std::fs::remove_file(&pid_file);
    let files: Vec<String> = cgroup::daemon_files(layout)
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    let mut start = Command::new(tool("setsid"));
    start.args(["--fork", "sh", "-c", SCRIPT, "sh"]);
    if spec.in_namespace {
        let mut net = OsString::from("--net=");
        net.push(layout.netns());
        start.arg(tool("nsenter")).arg(net).arg("--");
    }
    // A clean environment: proxies and the like of whoever calls must not reach the cluster.
    start
        .args(&spec.line)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", layout.state())
        .env("TMPDIR", layout.path("tmp"))
        .envs(spec.env.iter().copied())
        .env(MARK, layout.name())
        .env(COMPONENT, &spec.component)
        .env("KINORA_PID_FILE", &pid_file)
        .env("KINORA_CGROUPS", files.join(" "))
        .current_dir(layout.state())
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let status = start
        .status()
        .with_context(|| format!("start {}", spec.component))?;
    if !status.success() {
        bail!("start {}: {status}", spec.component);
    }
    started(layout, &spec.component)
}

/// Ends a component: SIGTERM, after `grace` SIGKILL. One that does not run is fine.
pub(super) fn stop(layout: &Layout, component: &str, grace: Duration) {
    let Some(pid) = running(layout, component) else {
        return;
    };
    processes::signal(pid, Signal::SIGTERM);
    if !processes::ended(&[pid], grace) {
        processes::signal(pid, Signal::SIGKILL);
        let _ = processes::ended(&[pid], grace);
    }
}

/// The last lines of a component's log, for an error message.
#[must_use]
pub(super) fn log_tail(layout: &Layout, component: &str) -> String {
    let text = std::fs::read(layout.log(component)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

fn started(layout: &Layout, component: &str) -> Result<i32> {
    let began = Instant::now();
    loop {
        if let Some(pid) = running(layout, component) {
            return Ok(pid);
        }
        if began.elapsed() > START {
            bail!(
                "{component} ended at once; its log {} ends with:\n{}",
                layout.log(component).display(),
                log_tail(layout, component)
            );
        }
        std::thread::sleep(PAUSE);
    }
}

fn tool(name: &str) -> PathBuf {
    command::find(name).unwrap_or_else(|| name.into())
}
