//! The cluster's own network namespace: addresses, routes and nft rules of a cluster never reach the host.
//!
//! It is entered with `nsenter --net` or setns, never with `ip netns exec`, which mounts a new /sys and so hides the
//! cgroups from the kubelet.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use super::layout::{Layout, MARK, NODE_ADDRESS, SERVICE_RANGE};
use crate::command;

const LIMIT: Duration = Duration::from_secs(20);

/// Whether the namespace is there.
#[must_use]
pub(super) fn exists(layout: &Layout) -> bool {
    inode(layout).is_some()
}

/// Inode of the namespace: what `/proc/<pid>/ns/net` of its processes points to. `None` when it is absent or only an
/// empty file that a cut-off `ip netns add` left behind.
#[must_use]
pub(super) fn inode(layout: &Layout) -> Option<u64> {
    let file = std::fs::metadata(layout.netns()).ok()?;
    let own_run = std::fs::metadata("/run/netns").ok()?;
    (file.dev() != own_run.dev()).then(|| file.ino())
}

/// Makes the namespace with its addresses and routes; does nothing where they are there already.
///
/// # Errors
/// `ip` failed; the message says what it said.
pub(super) fn ensure(layout: &Layout) -> Result<()> {
    let scope = layout.scope();
    if !exists(layout) {
        let _ = std::fs::remove_file(layout.netns());
        ip(&["netns", "add", &scope])?;
    }
    ip(&["-n", &scope, "link", "set", "lo", "up"])?;
    // On the loopback interface, so that no kernel module is needed and the address exists before the first pod does.
    let address = format!("{NODE_ADDRESS}/32");
    ip(&["-n", &scope, "address", "replace", &address, "dev", "lo"])?;
    // Services need any route at all, or connects from the node fail before kube-proxy's rules see them.
    ip(&[
        "-n",
        &scope,
        "route",
        "replace",
        SERVICE_RANGE,
        "dev",
        "lo",
        "src",
        NODE_ADDRESS,
    ])?;
    let mut forward = inside(layout, "sh");
    forward.args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    command::run("turn on forwarding in the namespace", &mut forward, LIMIT)?;
    Ok(())
}

/// Removes the namespace; whatever is in it loses its interfaces. Nothing happens when it is absent.
///
/// # Errors
/// `ip` failed.
pub(super) fn remove(layout: &Layout) -> Result<()> {
    if exists(layout) {
        ip(&["netns", "delete", &layout.scope()])?;
    }
    match std::fs::remove_file(layout.netns()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("remove the namespace's file")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Moves the calling thread, and every thread and process it starts from now on, into the namespace.
///
/// # Errors
/// There is no such namespace, or this is not root.
pub(super) fn enter(layout: &Layout) -> Result<()> {
    let file = File::open(layout.netns()).with_context(|| {
        format!(
            "cluster {} is not up: open {}",
            layout.name(),
            layout.netns().display()
        )
    })?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("enter the network namespace {}", layout.scope()))
}

/// Runs `work` on a thread in the namespace of this process's first thread, which never enters a cluster.
///
/// # Errors
/// The namespace cannot be entered, or those of `work`.
pub(super) fn on_host<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let host =
                File::open("/proc/self/ns/net").context("open the host's network namespace")?;
            setns(host, CloneFlags::CLONE_NEWNET).context("enter the host's network namespace")?;
            work()
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A command that runs in the namespace and is marked as the cluster's.
#[must_use]
pub(super) fn inside(layout: &Layout, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(command::find("nsenter").unwrap_or_else(|| "nsenter".into()));
    let mut net = std::ffi::OsString::from("--net=");
    net.push(layout.netns());
    command
        .arg(net)
        .arg("--")
        .arg(program)
        .env(MARK, layout.name());
    command
}

fn ip(args: &[&str]) -> Result<String> {
    let mut ip = Command::new(command::find("ip").unwrap_or_else(|| "ip".into()));
    command::run(&format!("ip {}", args.join(" ")), ip.args(args), LIMIT)
}
